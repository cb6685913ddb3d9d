"""Recorded ext_proc streams: the client's half of a chat request, as Envoy 1.40 sends it in full duplex."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable

from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
_FDS = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
_ENVOY_CHUNK = 65536
_EVENT = (
    b'data: {"id":"cmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":" tok%d"},"finish_reason":null}]}\n\n'
)


def chat_body(prompt_bytes: int, model: str = MODEL) -> bytes:
    """A chat request whose user message has about `prompt_bytes` bytes."""
    text = ("The quick brown fox jumps. " * (prompt_bytes // 26 + 1))[:prompt_bytes]
    messages = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": text}]
    return json.dumps({"model": model, "messages": messages, "max_tokens": 100}).encode()


def request_messages(body: bytes) -> list[bytes]:
    """Headers and the body in Envoy's pieces, as ProcessingRequest bytes."""
    first = pb.ProcessingRequest()
    headers = {
        ":authority": "gw.example.com",
        ":path": "/v1/chat/completions",
        ":method": "POST",
        ":scheme": "http",
        "content-type": "application/json",
        "user-agent": "OpenAI/Python 1.99",
        "accept": "application/json",
        "x-request-id": "5ff1c2a2-8d1b-4c7e-9d2e-1a2b3c4d5e6f",
        "x-forwarded-proto": "http",
        "content-length": str(len(body)),
    }
    for key, value in headers.items():
        header = first.request_headers.headers.headers.add()
        header.key = key
        header.raw_value = value.encode()
    first.protocol_config.request_body_mode = _FDS
    first.protocol_config.response_body_mode = _FDS
    messages = [first.SerializeToString()]
    pieces = [body[at : at + _ENVOY_CHUNK] for at in range(0, len(body), _ENVOY_CHUNK)]
    for index, piece in enumerate(pieces):
        message = pb.ProcessingRequest()
        message.request_body.body = piece
        message.request_body.end_of_stream = index == len(pieces) - 1
        messages.append(message.SerializeToString())
    return messages


def frames(messages: Iterable[bytes]) -> bytes:
    """The messages with gRPC's five-byte prefix, as h2load sends them with `-d`."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


def answer_messages(chunks: int) -> list[bytes]:
    """A streamed answer's headers and its events, each in a message of its own."""
    first = pb.ProcessingRequest()
    for key, value in {":status": "200", "content-type": "text/event-stream"}.items():
        header = first.response_headers.headers.headers.add()
        header.key = key
        header.raw_value = value.encode()
    messages = [first.SerializeToString()]
    for index in range(chunks):
        message = pb.ProcessingRequest()
        message.response_body.body = _EVENT % index
        message.response_body.end_of_stream = index == chunks - 1
        messages.append(message.SerializeToString())
    return messages


STREAMS = {"1 KB": request_messages(chat_body(800)), "100 KB": request_messages(chat_body(100_000))}
LARGE = {
    "4 KB": request_messages(chat_body(3_800)),
    "400 KB": request_messages(chat_body(400_000)),
    "1 MB": request_messages(chat_body(1_000_000)),
}
TOKENS = [*request_messages(chat_body(800)), *answer_messages(100)]
"""1 KB, and an answer of a hundred tokens that is sent to us."""
