"""ProcessingRequest bytes to events, actions to ProcessingResponse bytes.

Reading is protobuf's, but for messages that are a piece of request body and nothing else. The answers that carry a body are
written by hand, tag by tag, so that a body is copied once and no message object is built for it; the answers that carry
decisions repeat, so their bytes are kept. Tests hold all of them against protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from extproc import names
from extproc.domain import Decision, Reply, RequestHead
from extproc.errors import ProtocolError
from extproc.pb import base_pb2 as core
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import (
    BodyMode,
    Direction,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.protocol.events import Event

_OVERWRITE: Final = core.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_VIEWED: Final = 16 * 1024
"""From this size on, a piece of body is a view of its message."""
_CACHED: Final = 4096
"""Answers kept; their keys hold model names, which clients choose, so the cache starts over when it is full."""

_REQUEST_BODY: Final = b"\x22"
_REQUEST_HEADERS: Final = b"\x12"
_NO_CONFIG: Final[dict[bytes, tuple[ProtocolConfig | None]]] = {b"": (None,)}
_CONFIGS: Final[dict[bytes, tuple[ProtocolConfig | None]]] = _NO_CONFIG | {
    pb.ProcessingRequest(
        protocol_config=pb.ProtocolConfiguration(request_body_mode=request, response_body_mode=response)  # type: ignore[arg-type]
    ).SerializeToString(): (ProtocolConfig(request, response),)
    for request in BodyMode
    for response in BodyMode
}
"""The first message's end, by its bytes; in a tuple, because none is a value."""
_FULL_DUPLEX: Final = frozenset(
    pb.ProcessingRequest(
        protocol_config=pb.ProtocolConfiguration(request_body_mode=4, response_body_mode=mode)  # type: ignore[arg-type]
    ).SerializeToString()
    for mode in range(5)
)

_parse = pb.ProcessingRequest.FromString


def decode(raw: bytes) -> Event:
    """The event in a message. Raises ProtocolError when it is not a ProcessingRequest, or an empty one."""
    if raw[:1] == _REQUEST_BODY:
        piece = _only_body(raw)
        if piece is not None:
            return piece
    elif raw[:1] == _REQUEST_HEADERS:
        opening = _only_headers(raw)
        if opening is not None:
            return opening
    try:
        message = _parse(raw)
    except DecodeError as error:
        raise ProtocolError("message is not a ProcessingRequest") from error
    kind = message.WhichOneof("request")
    if kind == "request_body":
        body = message.request_body
        subset = _subset(message) if message.HasField("metadata_context") else None
        return RequestBody(body.body, body.end_of_stream, subset)
    if kind == "request_headers":
        return _request_headers(message)
    if kind == "response_body":
        answer = message.response_body
        return ResponseBody(answer.body, answer.end_of_stream)
    if kind == "response_headers":
        return _response_headers(message)
    if kind == "request_trailers":
        return RequestTrailers()
    if kind == "response_trailers":
        return ResponseTrailers()
    raise ProtocolError("ProcessingRequest has no request")


def can_wait(raw: bytes) -> bool:
    """Whether this first message asks for no answer by itself: the headers of a request whose body follows in full duplex.

    True only when that is certain from the message's frame; reading it may then wait for the next message.
    """
    if raw[:1] != _REQUEST_HEADERS:
        return False
    size = len(raw)
    length, at = _read_varint(raw, 1, size)
    end = at + length
    if at < 0 or raw[end:] not in _FULL_DUPLEX or raw[at : at + 1] != b"\x0a":
        return False
    length, at = _read_varint(raw, at + 1, size)
    return at > 0 and at + length == end  # the header map and nothing else, so no end_of_stream


def _only_body(raw: bytes) -> RequestBody | None:
    """The piece of body, when the message holds nothing else: ProcessingRequest.request_body=4 with body=1 and
    end_of_stream=2, in this order and shortest form, as Envoy writes it. None for anything else, which protobuf then reads.

    A large body is not copied here, and twice by protobuf.
    """
    size = len(raw)
    length, at = _read_varint(raw, 1, size)
    if at < 0 or at + length != size:
        return None
    if at == size:
        return RequestBody(b"", False)
    ends = raw[-2:] == b"\x10\x01"
    if ends and length == 2:
        return RequestBody(b"", True)
    if raw[at] != 0x0A:
        return None
    length, at = _read_varint(raw, at + 1, size)
    if at < 0:
        return None
    # A large piece is only looked at: it is copied when the whole body is put together.
    view = raw if length < _VIEWED else memoryview(raw)
    if at + length == size:
        return RequestBody(view[at:], False)  # a body that happens to end like end_of_stream
    if ends and at + length == size - 2:
        return RequestBody(view[at:-2], True)
    return None


def _only_headers(raw: bytes) -> RequestHeaders | None:
    """The headers of a request, when the message holds only them and a usual protocol_config, as Envoy writes it:
    ProcessingRequest.request_headers=2 with headers=1.headers=1 of key=1 and raw_value=3, and end_of_stream=3. None for
    anything else, which protobuf then reads.

    protobuf builds and registers an object for each header: in a running server that costs four times this loop.
    """
    size = len(raw)
    length, at = _read_varint(raw, 1, size)
    end = at + length
    if at < 0 or end > size:
        return None
    config = _CONFIGS.get(raw[end:])
    if config is None or at >= end or raw[at] != 0x0A:
        return None
    length, at = _read_varint(raw, at + 1, end)
    stop = at + length
    if at < 0 or stop > end:
        return None
    ends = raw[stop:end]
    if ends and ends != b"\x18\x01":
        return None
    headers: dict[str, bytes] = {}
    try:
        while at < stop:
            # One HeaderValue: 0A, its length, 0A, the key's length, the key, 1A, the value's length, the value.
            if raw[at] != 0x0A:
                return None
            item = raw[at + 1]
            at += 2
            if item >= 0x80:
                item, at = _read_varint(raw, at - 1, stop)
                if at < 0:
                    return None
            after = at + item
            named = raw[at + 1]
            if raw[at] != 0x0A or named >= 0x80:
                return None
            value = at + 2 + named
            key = raw[at + 2 : value].decode()
            if value == after:
                headers[key] = b""
            else:
                held = raw[value + 1]
                begin = value + 2
                if held >= 0x80:
                    held, begin = _read_varint(raw, value + 1, stop)
                if raw[value] != 0x1A or begin < 0 or begin + held != after:
                    return None
                headers[key] = raw[begin:after]
            at = after
    except (IndexError, UnicodeDecodeError):
        return None
    if at != stop:
        return None
    return RequestHeaders(RequestHead(headers), bool(ends), config[0])


def _read_varint(raw: bytes, at: int, size: int) -> tuple[int, int]:
    """The number and where it ends; -1 for the latter when it is cut or longer than 35 bits."""
    number = shift = 0
    while at < size and shift <= 28:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    return 0, -1


def _request_headers(message: pb.ProcessingRequest) -> RequestHeaders:
    part = message.request_headers
    # With raw_value the text is empty (Envoy's default); the other way round in older or other proxies.
    headers = {h.key: h.raw_value or h.value.encode() for h in part.headers.headers}
    subset = _subset(message) if message.HasField("metadata_context") else None
    config = None
    if message.HasField("protocol_config"):
        told = message.protocol_config
        config = ProtocolConfig(
            _mode(told.request_body_mode),
            _mode(told.response_body_mode),
            told.send_body_without_waiting_for_header_response,
        )
    return RequestHeaders(RequestHead(headers, subset), part.end_of_stream, config)


_MODES: Final = {int(mode): mode for mode in BodyMode}


def _mode(number: int) -> BodyMode:
    mode = _MODES.get(number)
    if mode is None:
        raise ProtocolError(f"body mode {number} is not supported")
    return mode


def _response_headers(message: pb.ProcessingRequest) -> ResponseHeaders:
    part = message.response_headers
    status = 0
    for header in part.headers.headers:
        if header.key == ":status":
            text = header.raw_value or header.value.encode()
            status = int(text) if len(text) == 3 and text.isdigit() else 0
            break
    served = ""
    if message.HasField("metadata_context"):
        spaces = message.metadata_context.filter_metadata
        if names.LB_NAMESPACE in spaces:
            fields = spaces[names.LB_NAMESPACE].fields
            if names.SERVED_KEY in fields:
                served = fields[names.SERVED_KEY].string_value
    return ResponseHeaders(status, part.end_of_stream, served)


def _subset(message: pb.ProcessingRequest) -> tuple[str, ...] | None:
    """The subset hint: a list of strings, or one string with commas; both are seen (reference: GIE lwepp)."""
    spaces = message.metadata_context.filter_metadata
    if names.SUBSET_NAMESPACE not in spaces:
        return None
    fields = spaces[names.SUBSET_NAMESPACE].fields
    if names.SUBSET_KEY not in fields:
        return None
    value = fields[names.SUBSET_KEY]
    if value.HasField("list_value"):
        hints: Sequence[str] = [item.string_value for item in value.list_value.values]
    else:
        hints = value.string_value.split(",")
    return tuple(hint.strip() for hint in hints if hint.strip())


class Encoder:
    """Actions to bytes. One for a server: it keeps what repeats."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], bytes] = {}

    def headers(self, direction: Direction, decision: Decision | None) -> bytes:
        """A HeadersResponse; for a request with a decision, the route is chosen anew (`clear_route_cache`)."""
        if decision is None:
            return _PLAIN_HEADERS[direction]
        key = (direction, *decision[:3])
        found = self._kept.get(key)
        if found is None:
            found = self._keep(key, _headers(direction, decision))
        return found

    def body(self, direction: Direction, decision: Decision | None) -> bytes:
        """A BodyResponse that leaves the body alone."""
        if decision is None:
            return _PLAIN_BODY[direction]
        key = ("body", direction, *decision[:3])
        found = self._kept.get(key)
        if found is None:
            found = self._keep(key, _body(direction, decision))
        return found

    def _keep(self, key: tuple[object, ...], encoded: bytes) -> bytes:
        if len(self._kept) >= _CACHED:
            self._kept.clear()
        self._kept[key] = encoded
        return encoded


def trailers(direction: Direction) -> bytes:
    """A TrailersResponse that leaves the trailers alone."""
    return _PLAIN_TRAILERS[direction]


def chunk(direction: Direction, body: bytes | memoryview, end_of_stream: bool) -> bytes:
    """A BodyResponse whose `streamed_response` is this piece.

    By hand: ProcessingResponse.{request_body=3, response_body=4}.response=1.body_mutation=3.streamed_response=3 with
    body=1 and end_of_stream=2.
    """
    size = len(body)
    end = b"\x10\x01" if end_of_stream else b""
    if size:
        head = b"\x0a" + _varint(size)
        streamed = len(head) + size + len(end)
    else:
        head = b""
        streamed = len(end)
    mutation = b"\x1a" + _varint(streamed) + head
    common = b"\x1a" + _varint(len(mutation) - len(head) + streamed) + mutation
    response = b"\x0a" + _varint(len(common) - len(head) + streamed) + common
    outer = _BODY_TAG[direction] + _varint(len(response) - len(head) + streamed) + response
    return b"".join((outer, body, end))


def immediate(reply: Reply) -> bytes:
    """An ImmediateResponse: Envoy answers the client with it."""
    message = pb.ProcessingResponse()
    answer = message.immediate_response
    answer.status.code = reply.status  # type: ignore[assignment]  # an enum of all HTTP statuses, open in proto3
    answer.body = reply.body
    answer.details = reply.details
    headers = (("content-type", reply.content_type), *reply.headers)
    _set_headers(answer.headers, headers)
    return message.SerializeToString()


def _headers(direction: Direction, decision: Decision) -> bytes:
    message = pb.ProcessingResponse()
    part = message.request_headers if direction is Direction.REQUEST else message.response_headers
    _common(message, part.response, direction, decision)
    return message.SerializeToString()


def _body(direction: Direction, decision: Decision) -> bytes:
    message = pb.ProcessingResponse()
    part = message.request_body if direction is Direction.REQUEST else message.response_body
    _common(message, part.response, direction, decision)
    return message.SerializeToString()


def _common(message: pb.ProcessingResponse, common: pb.CommonResponse, direction: Direction, decision: Decision) -> None:
    # Present even when empty: Envoy ignores clear_route_cache without a header_mutation.
    common.header_mutation.SetInParent()
    _set_headers(common.header_mutation, decision.set_headers)
    common.header_mutation.remove_headers.extend(decision.remove_headers)
    common.clear_route_cache = direction is Direction.REQUEST
    if decision.metadata:
        space = message.dynamic_metadata.fields[names.LB_NAMESPACE].struct_value
        for key, value in decision.metadata:
            space.fields[key].string_value = value


def _set_headers(mutation: pb.HeaderMutation, headers: Sequence[tuple[str, str]]) -> None:
    for key, value in headers:
        option = mutation.set_headers.add()
        option.header.key = key
        option.header.raw_value = value.encode()
        option.append_action = _OVERWRITE


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL: Final = [bytes((n,)) for n in range(0x80)]
_BODY_TAG: Final = {Direction.REQUEST: b"\x1a", Direction.RESPONSE: b"\x22"}


def _plain(field: str) -> bytes:
    message = pb.ProcessingResponse()
    getattr(message, field).SetInParent()
    return message.SerializeToString()


_PLAIN_HEADERS: Final = {d: _plain(f"{d.value}_headers") for d in Direction}
_PLAIN_BODY: Final = {d: _plain(f"{d.value}_body") for d in Direction}
_PLAIN_TRAILERS: Final = {d: _plain(f"{d.value}_trailers") for d in Direction}
