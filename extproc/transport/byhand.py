"""Messages read by hand, as far as they are written as Envoy writes them; protobuf reads the rest.

protobuf builds and registers an object for each header, and copies a body twice. Tests hold every reader here against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from extproc import names
from extproc.domain import RequestHead
from extproc.errors import ProtocolError
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import BodyMode, Pieces, ProtocolConfig, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders

_VIEWED: Final = 16 * 1024
"""From this size on, a piece of body is a view of its message."""
_CACHED_BYTES: Final = 4096
"""Longer metadata is read each time."""
_HEAD_BYTES: Final = 12
"""Of a message with a piece of body, before the piece: two tags and two lengths."""


class Rest(NamedTuple):
    """What stands behind a message's request."""

    subset: tuple[str, ...] | None
    served: str
    config: ProtocolConfig | None
    attempt: int | None = None
    of_balancer: bool = False
    """There is metadata of the namespace `envoy.lb`."""


_parse = pb.ProcessingRequest.FromString


class HttpBody:
    """A piece of body as the wire has it."""

    __slots__ = ("body", "end", "end_of_stream")

    def __init__(self, body: bytes | memoryview, end_of_stream: bool, end: int) -> None:
        """`end` is where it ends in its message."""
        self.body = body
        self.end_of_stream = end_of_stream
        self.end = end


def only_request_body(raw: bytes) -> RequestBody | None:
    """The piece of body, when the message has no other request: ProcessingRequest.request_body=4 with body=1 and
    end_of_stream=2, in this order and shortest form, as Envoy writes it; behind it only what `read_rest` knows. None for
    anything else, which protobuf then reads.

    A large body is not copied here, and twice by protobuf.
    """
    piece = _http_body(raw)
    if piece is None:
        return None
    if piece.end == len(raw):
        return RequestBody(piece.body, piece.end_of_stream)
    rest = read_rest(raw[piece.end :])
    return None if rest is None else RequestBody(piece.body, piece.end_of_stream, rest.subset)


def request_body_in(pieces: Pieces) -> RequestBody | None:
    """As `only_request_body`, of a message in pieces that begins with a request's body, which is in pieces then; None for more
    than that reads by itself, such as a body of a few bytes."""
    head = bytes(pieces[0][:_HEAD_BYTES])
    if len(head) < _HEAD_BYTES:
        return None
    total = sum([len(piece) for piece in pieces])
    length, at = read_varint(head, 1, _HEAD_BYTES)
    end = at + length
    if at < 0 or end > total or head[at] != 0x0A:
        return None
    length, begin = read_varint(head, at + 1, _HEAD_BYTES)
    stop = begin + length
    if begin < 0 or stop > end or total - stop > _CACHED_BYTES:
        return None
    body, tail = _between(pieces, begin, total - stop)
    ends = tail[: end - stop]
    if ends and ends != b"\x10\x01":
        return None
    if end == total:
        return RequestBody(body, bool(ends))
    rest = read_rest(tail[end - stop :])
    return None if rest is None else RequestBody(body, bool(ends), rest.subset)


def _between(pieces: Pieces, begin: int, behind: int) -> tuple[Pieces, bytes]:
    """What stands between the first `begin` bytes and the last `behind`, as views, and the latter."""
    between: Pieces = [memoryview(piece) for piece in pieces]
    between[0] = between[0][begin:]
    tail: Pieces = []
    while behind > 0:
        last = between.pop()
        keep = max(0, len(last) - behind)
        behind -= len(last) - keep
        tail.append(last[keep:])
        if keep:
            between.append(last[:keep])
    return between, b"".join(tail[::-1])


def only_response_body(raw: bytes) -> ResponseBody | None:
    """As `only_request_body`, for ProcessingRequest.response_body=5."""
    piece = _http_body(raw)
    if piece is None:
        return None
    if piece.end >= len(raw):
        return ResponseBody(piece.body, piece.end_of_stream)
    rest = read_rest(raw[piece.end :])
    return None if rest is None else ResponseBody(piece.body, piece.end_of_stream, rest.config)


def _http_body(raw: bytes) -> HttpBody | None:
    """The HttpBody that the message begins with."""
    length, at = read_varint(raw, 1, len(raw))
    end = at + length
    if at < 0 or end > len(raw):
        return None
    if at == end:
        return HttpBody(b"", False, end)
    ends = raw[end - 2 : end] == b"\x10\x01"
    if ends and at == end - 2:
        return HttpBody(b"", True, end)
    if raw[at] != 0x0A:
        return None
    length, at = read_varint(raw, at + 1, end)
    if at < 0:
        return None
    # A large piece is only looked at: it is copied when the whole body is put together.
    view = raw if length < _VIEWED else memoryview(raw)
    if at + length == end:
        return HttpBody(view[at:end], False, end)  # a body that happens to end like end_of_stream
    if ends and at + length == end - 2:
        return HttpBody(view[at : end - 2], True, end)
    return None


def only_headers(raw: bytes) -> RequestHeaders | None:
    """The headers of a request, as Envoy writes them: ProcessingRequest.request_headers=2 with headers=1.headers=1 of key=1 and
    raw_value=3, and end_of_stream=3; behind them only what `read_rest` knows. None for anything else, which protobuf then
    reads.

    protobuf builds and registers an object for each header: in a running server that costs four times this loop.
    """
    at, stop, end, ends = _header_map(raw)
    if at < 0:
        return None
    rest = read_rest(raw[end:])
    headers = _read_headers(raw, at, stop)
    if rest is None or headers is None:
        return None
    return RequestHeaders(RequestHead(headers, rest.subset, rest.attempt), ends, rest.config)


def only_response_headers(raw: bytes) -> ResponseHeaders | None:
    """As `only_headers`, for ProcessingRequest.response_headers=3; behind it only what `read_rest` knows."""
    at, stop, end, ends = _header_map(raw)
    if at < 0:
        return None
    served, config, of_balancer = "", None, False
    if end < len(raw):
        rest = read_rest(raw[end:])
        if rest is None:
            return None
        served, config, of_balancer = rest.served, rest.config, rest.of_balancer
    headers = _read_headers(raw, at, stop)
    return None if headers is None else response_of(headers, ends, served, config, of_balancer)


def _header_map(raw: bytes) -> tuple[int, int, int, bool]:
    """Where the header map begins and stops, where the HttpHeaders end, and their end_of_stream; -1 first when odd."""
    size = len(raw)
    length, at = read_varint(raw, 1, size)
    end = at + length
    if at < 0 or end > size or at >= end or raw[at] != 0x0A:
        return _ODD
    length, at = read_varint(raw, at + 1, end)
    stop = at + length
    if at < 0 or stop > end:
        return _ODD
    ends = raw[stop:end]
    if ends and ends != b"\x18\x01":
        return _ODD
    return at, stop, end, bool(ends)


_ODD: Final = (-1, 0, 0, False)


_REPEATED: Final = frozenset(
    {
        *(":method", ":scheme", ":path", ":authority", "content-type", "accept", "accept-encoding", "accept-language"),
        *("user-agent", "x-forwarded-proto", "connection", ":status", "server", "transfer-encoding", "x-envoy-internal"),
    }
)
"""Headers whose values repeat and are no secrets: they are read once and kept."""
_KEPT_HEADERS: Final = 4096
_KEPT_HEADER_BYTES: Final = 0x80
_known_headers: dict[bytes, tuple[str, bytes]] = {}
"""Headers as they stand in a message. One for the process, as their meaning is the same for all."""


def _read_headers(raw: bytes, at: int, stop: int) -> dict[str, bytes] | None:
    """The headers between two places; None when they are not written as Envoy writes them."""
    headers: dict[str, bytes] = {}
    known = _known_headers
    try:
        while at < stop:
            # One HeaderValue: 0A, its length, 0A, the key's length, the key, 1A, the value's length, the value.
            if raw[at] != 0x0A:
                return None
            item = raw[at + 1]
            at += 2
            if item < _KEPT_HEADER_BYTES:
                after = at + item
                name = known.get(raw[at:after])
                if name is not None:
                    headers[name[0]] = name[1]
                    at = after
                    continue
            else:
                item, at = read_varint(raw, at - 1, stop)
                if at < 0:
                    return None
                after = at + item
            read = _read_header(raw, at, after)
            if read is None:
                return None
            key, headers[key] = read
            if key in _REPEATED and item < _KEPT_HEADER_BYTES and after <= stop:
                if len(known) >= _KEPT_HEADERS:  # clients choose their paths
                    known.clear()
                known[raw[at:after]] = read
            at = after
    except (IndexError, UnicodeDecodeError):
        return None
    return headers if at == stop else None


def _read_header(raw: bytes, at: int, after: int) -> tuple[str, bytes] | None:
    """One HeaderValue between two places. Raises IndexError and UnicodeDecodeError."""
    named = raw[at + 1]
    if raw[at] != 0x0A or named >= 0x80:
        return None
    value = at + 2 + named
    key = raw[at + 2 : value].decode()
    if value == after:
        return key, b""
    held = raw[value + 1]
    begin = value + 2
    if held >= 0x80:
        held, begin = read_varint(raw, value + 1, after)
    if raw[value] != 0x1A or begin < 0 or begin + held != after:
        return None
    return key, raw[begin:after]


def read_rest(rest: bytes) -> Rest | None:
    """What stands behind a message's request; None when protobuf must say, with the request.

    Envoy repeats this from stream to stream, and the metadata of a request with each of its messages, so it is read once for
    many. With `metadata_options` it stands there even when it is empty.
    """
    return _read_known_rest(rest) if len(rest) <= _CACHED_BYTES else _read_any_rest(rest)


def _read_any_rest(rest: bytes) -> Rest | None:
    try:
        message = _parse(rest)
        if message.WhichOneof("request") is not None:
            return None
        return Rest(subset_of(message), served_of(message), config_of(message), attempt_of(message), of_balancer(message))
    except (DecodeError, ProtocolError):
        return None


_read_known_rest = lru_cache(maxsize=1024)(_read_any_rest)


def read_varint(raw: bytes, at: int, size: int) -> tuple[int, int]:
    """The number and where it ends; -1 for the latter when it is cut or longer than 35 bits."""
    if at < size:
        number = raw[at]
        at += 1
        if number < 0x80:
            return number, at
        number &= 0x7F
        shift = 7
        while at < size and shift <= 28:
            byte = raw[at]
            at += 1
            if byte < 0x80:
                return number | byte << shift, at
            number |= (byte & 0x7F) << shift
            shift += 7
    return 0, -1


def response_of(
    headers: Mapping[str, bytes], ends: bool, served: str, config: ProtocolConfig | None = None, of_balancer: bool = False
) -> ResponseHeaders:
    """The event; `served` goes before a header of the same name, which an upstream may write."""
    text = headers.get(":status", b"")
    status = int(text) if len(text) == 3 and text.isdigit() else 0
    if not served and names.SERVED_KEY in headers:
        served = headers[names.SERVED_KEY].decode("latin-1")
    return ResponseHeaders(status, ends, served, headers, config, of_balancer)


def served_of(message: pb.ProcessingRequest) -> str:
    """The endpoint that answered, '' when the proxy does not tell."""
    if not message.HasField("metadata_context"):
        return ""
    spaces = message.metadata_context.filter_metadata
    if names.LB_NAMESPACE not in spaces:
        return ""
    fields = spaces[names.LB_NAMESPACE].fields
    return fields[names.SERVED_KEY].string_value if names.SERVED_KEY in fields else ""


def of_balancer(message: pb.ProcessingRequest) -> bool:
    """Whether the proxy told anything under the load balancer's namespace."""
    return message.HasField("metadata_context") and names.LB_NAMESPACE in message.metadata_context.filter_metadata


def attempt_of(message: pb.ProcessingRequest) -> int | None:
    """Which attempt at its request this is, as in RequestHead; None when the proxy does not say, or something odd."""
    if not message.HasField("metadata_context"):
        return None
    spaces = message.metadata_context.filter_metadata
    if names.ATTEMPT_NAMESPACE not in spaces:
        return None
    fields = spaces[names.ATTEMPT_NAMESPACE].fields
    if names.ATTEMPT_KEY not in fields or not fields[names.ATTEMPT_KEY].HasField("number_value"):
        return None
    number = fields[names.ATTEMPT_KEY].number_value
    return int(number) if 0 <= number <= _MOST_ATTEMPTS else None


_MOST_ATTEMPTS: Final = 1000
"""More is no number of an attempt."""


def subset_of(message: pb.ProcessingRequest) -> tuple[str, ...] | None:
    """The subset hint: a list of strings, or one string with commas; both are seen (reference: GIE lwepp)."""
    if not message.HasField("metadata_context"):
        return None
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


def config_of(message: pb.ProcessingRequest) -> ProtocolConfig | None:
    """What Envoy is configured to send. Raises ProtocolError for a body mode that we do not know."""
    if not message.HasField("protocol_config"):
        return None
    config = message.protocol_config
    return ProtocolConfig(
        _mode(config.request_body_mode),
        _mode(config.response_body_mode),
        config.send_body_without_waiting_for_header_response,
    )


_MODES: Final = {int(mode): mode for mode in BodyMode}


def _mode(number: int) -> BodyMode:
    mode = _MODES.get(number)
    if mode is None:
        raise ProtocolError(f"body mode {number} is not supported")
    return mode
