"""What a request asks for, by its fields, as gRPC wants them."""

from __future__ import annotations

from typing import Final, NamedTuple

from extproc import names
from extproc.transport.h2.grpc import CallFault, Code, status_block, timeout_s
from extproc.transport.h2.headers import Fields, encode

_PROCESS: Final = names.EXT_PROC_METHOD


class Plan(NamedTuple):
    """What a request's fields ask for; worked out once for all requests with the same block."""

    path: str
    timeout_s: float | None = None
    fault: CallFault | None = None
    http: tuple[int, str] | None = None
    """Not gRPC at all: an HTTP status, and words for people if there may be any."""
    process: bool = False
    """An ext_proc stream, and nothing is wrong with it."""


def plan_of(fields: Fields) -> Plan:
    """Read the fields as gRPC wants them."""
    values = fields.values
    path = values[":path"]
    if values[":method"] != "POST":
        text = "this port speaks gRPC, which is POST over HTTP/2" if values[":method"] != "HEAD" else ""
        return Plan(path, http=(405, text))
    content_type = values.get("content-type", "")
    if not (content_type == "application/grpc" or content_type.startswith(("application/grpc+", "application/grpc;"))):
        return Plan(path, http=(415, "this port speaks gRPC, content-type application/grpc"))
    encoding = values.get("grpc-encoding", "identity")
    if encoding != "identity":
        fault = CallFault(Code.UNIMPLEMENTED, f"grpc-encoding {encoding[:32]!r} is not supported, only identity is")
        return Plan(path, fault=fault)
    timeout = values.get("grpc-timeout")
    try:
        return Plan(path, None if timeout is None else timeout_s(timeout), process=path == _PROCESS)
    except CallFault as fault:
        return Plan(path, fault=fault)


def refusal(fault: CallFault) -> bytes:
    """The Trailers-Only answer to a request that can't be a call."""
    if fault.code is Code.UNIMPLEMENTED:
        status_fields = [
            ("grpc-status", str(int(fault.code))),
            ("grpc-message", fault.message),
            ("grpc-accept-encoding", "identity"),
        ]
        return encode([(":status", "200"), ("content-type", "application/grpc"), *status_fields])
    return status_block(fault.code, fault.message, opened=False)
