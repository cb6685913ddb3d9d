"""What is read from an answer while it passes: events, usage, timing; and the model's name put back.

Pure: bytes and times in, facts and bytes out. Nothing here knows Envoy, metrics or endpoints.
"""

from extproc.response.first import FirstPiece
from extproc.response.ids import ResponseId
from extproc.response.reader import AnswerReader, Measurement, Tap
from extproc.response.restore import ModelRestorer
from extproc.response.sse import EventStream, ServerSentEvent
from extproc.response.timing import Times
from extproc.response.usage import DocumentUsage, StreamUsage, Usage

__all__ = [
    "AnswerReader",
    "DocumentUsage",
    "EventStream",
    "FirstPiece",
    "Measurement",
    "ModelRestorer",
    "ResponseId",
    "ServerSentEvent",
    "StreamUsage",
    "Tap",
    "Times",
    "Usage",
]
