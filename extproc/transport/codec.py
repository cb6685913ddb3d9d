"""ProcessingRequest bytes to events, actions to ProcessingResponse bytes.

Headers and pieces of body are read by hand when they look as Envoy writes them, and everything else by protobuf. The answers
that carry a body are written by hand, tag by tag, so that a body is copied once and no message object is built for it; the
answers that carry decisions repeat, so their bytes are kept. Tests hold all of them against protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError

from extproc import names
from extproc.domain import NO_MUTATION, Decision, HeaderMutation, Numbers, Reply, RequestHead
from extproc.errors import ProtocolError
from extproc.media import CHANGED_TRAILERS
from extproc.pb import base_pb2 as core
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import (
    BodyMode,
    Direction,
    Pieces,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.protocol.events import Event
from extproc.transport.byhand import (
    attempt_of,
    config_of,
    of_balancer,
    only_headers,
    only_request_body,
    only_response_body,
    only_response_headers,
    read_rest,
    read_varint,
    request_body_in,
    response_of,
    served_of,
    subset_of,
)

_OVERWRITE: Final = core.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_CACHED: Final = 4096
"""Answers kept; their keys hold model names, which clients choose, so the cache starts over when it is full."""

_REQUEST_HEADERS: Final = 0x12
_RESPONSE_HEADERS: Final = 0x1A
_REQUEST_BODY: Final = 0x22
_RESPONSE_BODY: Final = 0x2A
"""First bytes of messages: the field's number and wire type 2."""

RESPONSE_BODY: Final = b"\x2a"
"""How a message with a piece of the response's body begins."""
_LARGE: Final = 4096
"""From this size on, a piece of body stays a piece of its own."""
_FULL_DUPLEX: Final = BodyMode.FULL_DUPLEX_STREAMED

_parse = pb.ProcessingRequest.FromString


def decode(raw: bytes) -> Event:
    """The event in a message. Raises ProtocolError when it is not a ProcessingRequest, or an empty one."""
    first = raw[0] if raw else 0
    event: Event | None = None
    if first == _RESPONSE_BODY:
        event = only_response_body(raw)
    elif first == _REQUEST_BODY:
        event = only_request_body(raw)
    elif first == _REQUEST_HEADERS:
        event = only_headers(raw)
    elif first == _RESPONSE_HEADERS:
        event = only_response_headers(raw)
    return _by_protobuf(raw) if event is None else event


def decode_pieces(pieces: Pieces) -> RequestBody | None:
    """The part of the request's body in a large message in pieces, which are not joined; None when they have to be."""
    first = pieces[0]
    return request_body_in(pieces) if len(first) and first[0] == _REQUEST_BODY else None


def _by_protobuf(raw: bytes) -> Event:
    try:
        message = _parse(raw)
    except DecodeError as error:
        raise ProtocolError("message is not a ProcessingRequest") from error
    kind = message.WhichOneof("request")
    if kind == "request_body":
        body = message.request_body
        return RequestBody(body.body, body.end_of_stream, subset_of(message))
    if kind == "request_headers":
        return _request_headers(message)
    if kind == "response_body":
        answer = message.response_body
        return ResponseBody(answer.body, answer.end_of_stream, config_of(message))
    if kind == "response_headers":
        return _response_headers(message)
    if kind == "request_trailers":
        return RequestTrailers()
    if kind == "response_trailers":
        return ResponseTrailers(config_of(message))
    raise ProtocolError("ProcessingRequest has no request")


def can_wait(raw: bytes) -> bool:
    """Whether this first message asks for no answer by itself: the headers of a request whose body follows in full duplex.

    True only when that is certain from the message's frame; reading it may then wait for the next message.
    """
    if not raw or raw[0] != _REQUEST_HEADERS:
        return False
    size = len(raw)
    length, at = read_varint(raw, 1, size)
    end = at + length
    if at < 0 or end > size or raw[at : at + 1] != b"\x0a":
        return False
    length, at = read_varint(raw, at + 1, size)
    if at < 0 or at + length != end:
        return False  # more than the header map: the end of the stream
    rest = read_rest(raw[end:])
    config = None if rest is None else rest.config
    return config is not None and config.request_body is _FULL_DUPLEX and not config.body_without_headers_reply


def _request_headers(message: pb.ProcessingRequest) -> RequestHeaders:
    part = message.request_headers
    # With raw_value the text is empty (Envoy's default); the other way round in older or other proxies.
    headers = {h.key: h.raw_value or h.value.encode() for h in part.headers.headers}
    head = RequestHead(headers, subset_of(message), attempt_of(message))
    return RequestHeaders(head, part.end_of_stream, config_of(message))


def _response_headers(message: pb.ProcessingRequest) -> ResponseHeaders:
    part = message.response_headers
    headers = {h.key: h.raw_value or h.value.encode() for h in part.headers.headers}
    return response_of(headers, part.end_of_stream, served_of(message), config_of(message), of_balancer(message))


Message: TypeAlias = bytes | tuple[bytes | memoryview, ...]
"""A message, or its pieces in order."""


def joined(message: Message) -> bytes:
    """The message as one."""
    return message if isinstance(message, bytes) else b"".join(message)


class Encoder:
    """Actions to bytes. One for a server: it keeps what repeats, under what it means."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], bytes] = {}
        self._kept_responses: dict[HeaderMutation, bytes] = {}

    def request_headers(self, decision: Decision | None) -> bytes:
        """A HeadersResponse; with a decision, the route is chosen anew (`clear_route_cache`)."""
        if decision is None:
            return _PLAIN_REQUEST_HEADERS
        key = (False, decision.set_headers, decision.remove_headers, decision.metadata)
        encoded = self._kept.get(key)
        if encoded is None:
            encoded = self._keep(key, _request_headers_answer(decision))
        return encoded

    def response_headers(self, mutation: HeaderMutation) -> bytes:
        """A HeadersResponse to the response's headers."""
        encoded = self._kept_responses.get(mutation)
        if encoded is None:
            # A dictionary of its own: what is set here may differ from request to request (a receipt, a cookie).
            if len(self._kept_responses) >= _CACHED:
                self._kept_responses.clear()
            encoded = self._kept_responses[mutation] = _response_headers_answer(mutation)
        return encoded

    def body(self, direction: Direction, decision: Decision | None, replaced: bytes | None = None) -> bytes:
        """A BodyResponse outside full duplex, which leaves the piece alone or replaces it."""
        if replaced is not None:
            return _replaced_body(direction, decision, replaced)
        if decision is None:
            return _PLAIN_BODY[direction]
        key = (True, decision.set_headers, decision.remove_headers, decision.metadata)
        encoded = self._kept.get(key)
        if encoded is None:
            encoded = self._keep(key, _body(direction, decision))
        return encoded

    def _keep(self, key: tuple[object, ...], encoded: bytes) -> bytes:
        if len(self._kept) >= _CACHED:
            self._kept.clear()
        self._kept[key] = encoded
        return encoded


def trailers(direction: Direction, changed: bool) -> bytes:
    """A TrailersResponse that leaves the trailers alone; `changed`: without digests of the body, which is another one now."""
    return (_CHANGED_TRAILERS if changed else _PLAIN_TRAILERS)[direction]


def chunk(direction: Direction, body: bytes | memoryview, end_of_stream: bool) -> Message:
    """A BodyResponse whose `streamed_response` is this piece; in pieces when it is large, so that the body is not copied.

    By hand: `_streamed_head`, and then body=1 and end_of_stream=2.
    """
    size = len(body)
    end = b"\x10\x01" if end_of_stream else b""
    if not size:
        return _streamed_head(direction, len(end)) + end
    field = b"\x0a" + _varint(size)
    head = _streamed_head(direction, len(field) + size + len(end))
    return b"".join((head, field, body, end)) if size < _LARGE else (head + field, body, end)


@lru_cache(maxsize=8192)
def _streamed_head(direction: Direction, size: int) -> bytes:
    """What stands before a StreamedBodyResponse of this many bytes:
    ProcessingResponse.{request_body=3, response_body=4}.response=1.body_mutation=3.streamed_response=3.
    """
    head = b""
    for tag in (b"\x1a", b"\x1a", b"\x0a", _BODY_TAG[direction]):
        head = tag + _varint(len(head) + size) + head
    return head


def with_numbers(message: Message, numbers: Numbers) -> Message:
    """The answer, with these dynamic metadata: two messages of protobuf behind each other are one with the fields of both."""
    told = pb.ProcessingResponse()
    for namespace, name, value in numbers:
        told.dynamic_metadata.fields[namespace].struct_value.fields[name].number_value = value
    added = told.SerializeToString()
    return message + added if isinstance(message, bytes) else (*message, added)


def echo(raw: bytes) -> bytes | None:
    """The answer to a piece of response body that goes on as it is in full duplex: `chunk` of what `decode` says, at a third
    of the cost. None when the message ends the body, is 16 KiB long or more, or is odd.

    HttpBody and StreamedBodyResponse number their fields alike, so the inner message is copied as it stands.
    """
    try:
        length, at = raw[1], 2
        if length >= 0x80:
            if raw[2] >= 0x80:
                return None
            length, at = length & 0x7F | raw[2] << 7, 3
        size, begin = raw[at + 1], at + 2
        if size >= 0x80:
            if raw[at + 2] >= 0x80:
                return None
            size, begin = size & 0x7F | raw[at + 2] << 7, at + 3
        end = at + length
        if raw[0] != _RESPONSE_BODY or raw[at] != 0x0A or begin + size != end:
            return None
    except IndexError:
        return None
    if end != len(raw) and (end > len(raw) or read_rest(raw[end:]) is None):
        return None
    return _streamed_head(Direction.RESPONSE, length) + raw[at:end]


def echoed(raw: bytes) -> bytes:
    """The piece of body in a message that has an `echo`."""
    at = 3 if raw[1] >= 0x80 else 2
    size, begin = raw[at + 1], at + 2
    if size >= 0x80:
        size, begin = size & 0x7F | raw[at + 2] << 7, at + 3
    return raw[begin : begin + size]


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


def _request_headers_answer(decision: Decision) -> bytes:
    message = pb.ProcessingResponse()
    _decided(message, message.request_headers.response, decision)
    return message.SerializeToString()


def _response_headers_answer(mutation: HeaderMutation) -> bytes:
    if mutation == NO_MUTATION:
        return _PLAIN_RESPONSE_HEADERS
    message = pb.ProcessingResponse()
    mutated = message.response_headers.response.header_mutation
    mutated.remove_headers.extend(mutation.remove_headers)
    _set_headers(mutated, mutation.set_headers)
    _append_headers(mutated, mutation.append_headers)
    return message.SerializeToString()


def _body(direction: Direction, decision: Decision) -> bytes:
    message = pb.ProcessingResponse()
    part = message.request_body if direction is Direction.REQUEST else message.response_body
    _decided(message, part.response, decision)
    return message.SerializeToString()


def _replaced_body(direction: Direction, decision: Decision | None, body: bytes) -> bytes:
    message = pb.ProcessingResponse()
    part = message.request_body if direction is Direction.REQUEST else message.response_body
    if decision is not None:
        _decided(message, part.response, decision)
    if body:
        part.response.body_mutation.body = body
    else:
        part.response.body_mutation.clear_body = True
    return message.SerializeToString()


def _decided(message: pb.ProcessingResponse, common: pb.CommonResponse, decision: Decision) -> None:
    # Present even when empty: Envoy ignores clear_route_cache without a header_mutation.
    common.header_mutation.SetInParent()
    _set_headers(common.header_mutation, decision.set_headers)
    common.header_mutation.remove_headers.extend(decision.remove_headers)
    common.clear_route_cache = True
    if decision.metadata:
        space = message.dynamic_metadata.fields[names.LB_NAMESPACE].struct_value
        for key, value in decision.metadata:
            if isinstance(value, str):
                space.fields[key].string_value = value
                continue
            numbers = space.fields[key].struct_value
            numbers.SetInParent()
            for name, number in value:
                numbers.fields[name].number_value = number


def _set_headers(mutation: pb.HeaderMutation, headers: Sequence[tuple[str, str]]) -> None:
    for key, value in headers:
        option = mutation.set_headers.add()
        option.header.key = key
        option.header.raw_value = value.encode()
        option.append_action = _OVERWRITE


def _append_headers(mutation: pb.HeaderMutation, headers: Sequence[tuple[str, str]]) -> None:
    for key, value in headers:
        option = mutation.set_headers.add()
        option.header.key = key
        option.header.raw_value = value.encode()
        # The deprecated field: in ext_proc, Envoy (1.40) takes `append_action` 0, which would say the same, as not set and
        # overwrites.
        option.append.value = True


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


_PLAIN_REQUEST_HEADERS: Final = _plain("request_headers")
_PLAIN_RESPONSE_HEADERS: Final = _plain("response_headers")
_PLAIN_BODY: Final = {d: _plain(f"{d.value}_body") for d in Direction}
_PLAIN_TRAILERS: Final = {d: _plain(f"{d.value}_trailers") for d in Direction}


def _without_digests(field: str) -> bytes:
    message = pb.ProcessingResponse()
    getattr(message, field).header_mutation.remove_headers.extend(CHANGED_TRAILERS)
    return message.SerializeToString()


_CHANGED_TRAILERS: Final = {d: _without_digests(f"{d.value}_trailers") for d in Direction}
