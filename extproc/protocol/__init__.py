"""The ext_proc stream without I/O: events in, actions out.

This package may not import asyncio, grpc, protobuf, logging or any room beside it. It knows no models and no endpoints:
a decision is something that it asks for (`Decide`) and gets back (`DecisionMade`).
"""

from extproc.protocol.actions import (
    Action,
    Answered,
    AwaitAnswer,
    Decide,
    Finished,
    LetOnLease,
    ReplyBody,
    ReplyChunk,
    ReplyImmediately,
    ReplyRequestHeaders,
    ReplyResponseHeaders,
    ReplyTrailers,
    TellNumbers,
    Withdraw,
)
from extproc.protocol.early import Scanner, ScannerOf
from extproc.protocol.events import (
    BodyMode,
    Deadline,
    DecisionFailed,
    DecisionMade,
    Direction,
    Event,
    Evicted,
    GivenUp,
    PeerClosed,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Silence,
)
from extproc.protocol.limits import EVERY_REQUEST, OnHeaders, StreamLimits
from extproc.protocol.pieces import CHUNK_BYTES
from extproc.protocol.stream import ExtProcStream

__all__ = [
    "CHUNK_BYTES",
    "EVERY_REQUEST",
    "Action",
    "Answered",
    "AwaitAnswer",
    "BodyMode",
    "Deadline",
    "Decide",
    "DecisionFailed",
    "DecisionMade",
    "Direction",
    "Event",
    "Evicted",
    "ExtProcStream",
    "Finished",
    "GivenUp",
    "LetOnLease",
    "OnHeaders",
    "PeerClosed",
    "ProtocolConfig",
    "ReplyBody",
    "ReplyChunk",
    "ReplyImmediately",
    "ReplyRequestHeaders",
    "ReplyResponseHeaders",
    "ReplyTrailers",
    "RequestBody",
    "RequestHeaders",
    "RequestTrailers",
    "ResponseBody",
    "ResponseHeaders",
    "ResponseTrailers",
    "Scanner",
    "ScannerOf",
    "Silence",
    "StreamLimits",
    "TellNumbers",
    "Withdraw",
]
