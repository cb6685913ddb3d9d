"""Messages read by hand and by protobuf are the same event, and what is written by hand is what protobuf would write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc import names
from extproc.errors import ProtocolError
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import BodyMode, Direction, RequestHeaders, ResponseBody
from extproc.protocol.events import Event
from extproc.transport import codec
from tests.fakes import messages
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_PATTERN: Final = bytes(range(256)) * 70
_SIZES: Final = (0, 1, 2, 5, 100, 126, 127, 128, 300, 16_383, 16_384, 17_000)
_KEYS: Final = (b":path", b":status", b"content-type", b"k" * 126, b"k" * 127, b"k" * 128, b"\xff", b"")
_VALUES: Final = (b"", b"200", b"503", b"/v1/chat/completions", b"v" * 127, b"v" * 128, b"\xff\x00", b"\x10\x01")
_CONTEXT: Final = (
    messages.request_body(b"", subset=["10.0.0.1:80"])[2:],
    messages.request_body(b"", subset="10.0.0.1,10.0.0.2")[2:],
    messages.response_headers(served="10.0.0.1:8000", headers={})[16:],
    b"\x42\x00",
    b"\x42\x02\x0a\x00",
    names.LB_NAMESPACE.encode(),
)


def _varint(source: Source, number: int) -> bytes:
    """Now and then longer than it need be, or another number."""
    odd = source.below(24)
    if odd == 23:
        number = source.number(5)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    if odd == 22:
        out[-1] |= 0x80
        out += b"\x80" * source.below(10) + b"\x00"
    return bytes(out)


def _field(source: Source, tag: int, content: bytes) -> bytes:
    if source.chance(40):
        tag = source.below(256)
    return bytes((tag,)) + _varint(source, len(content)) + content


def _headers(source: Source) -> bytes:
    pairs = []
    for _ in range(source.below(5)):
        key = _field(source, 0x0A, source.pick(_KEYS)) if not source.chance(12) else b""
        value = _field(source, 0x12 if source.chance(8) else 0x1A, source.pick(_VALUES)) if not source.chance(6) else b""
        pairs.append(_field(source, 0x0A, value + key if source.chance(20) else key + value))
    ends = source.pick((b"", b"", b"\x18\x01", b"\x18\x00", b"\x18\x02"))
    return _field(source, 0x0A, b"".join(pairs)) + ends if not source.chance(16) else ends


def _body(source: Source) -> bytes:
    size = source.pick(_SIZES)
    field = _field(source, 0x0A, _PATTERN[:size] + source.pick((b"", b"", b"\x10\x01"))) if not source.chance(9) else b""
    ends = source.pick((b"", b"", b"\x10\x01", b"\x10\x00"))
    return ends + field if source.chance(20) else field + ends


def _rest(source: Source) -> bytes:
    kind = source.below(12)
    if kind < 5:
        return b""
    if kind == 5:
        return source.pick(_CONTEXT)
    if kind == 6:
        return b"\x52\x06\x08" + source.pick((b"\4", b"\0", b"\2", b"\x63")) + b"\x10\x04" + source.pick((b"\x18\0", b"\x18\1"))
    if kind == 7:
        return b"\x50\x01"
    if kind == 8:
        return _CONTEXT[2] + b"\x52\x04\x08\x04\x10\x04"
    if kind == 9:
        return _field(source, source.pick((0x12, 0x22, 0x2A, 0x32)), b"")
    if kind == 10:
        return b"\x42" + _varint(source, 5000) + bytes((0x0A,)) + _varint(source, 4997) + bytes(4997)
    return source.piece(12)


def _message(source: Source) -> bytes:
    """Fields as Envoy writes them, as others may, and broken ones."""
    if source.chance(6):
        return source.rest()
    kind = source.below(9)
    if kind < 3:
        made = _field(source, 0x12 if kind < 2 else 0x1A, _headers(source))
    elif kind < 7:
        made = _field(source, 0x22 if kind < 5 else 0x2A, _body(source))
    else:
        made = _field(source, 0x32 if kind == 7 else 0x3A, _headers(source))
    made += _rest(source)
    if source.chance(10):
        made = _rest(source) + made
    if made and source.chance(6):
        changed = bytearray(made)
        changed[source.number(2) % len(changed)] = source.below(256)
        made = bytes(changed)
    if source.chance(30):
        made = made[: source.number(2) % (len(made) + 1)]
    return made


def _told(decode: Callable[[bytes], Event], raw: bytes) -> Event | str:
    try:
        return decode(raw)
    except ProtocolError as error:
        return error.message


def run(data: bytes) -> None:
    raw = _message(Source(data))
    expected = _told(codec._by_protobuf, raw)
    found = _told(codec.decode, raw)
    assert found.__class__ is expected.__class__
    assert found == expected
    echo = codec.echo(raw)
    if echo is not None:
        assert isinstance(expected, ResponseBody)
        assert not expected.end_of_stream
        said = codec.joined(codec.chunk(Direction.RESPONSE, expected.body, False))
        # An empty body that is written out all the same is copied so.
        assert echo == said or pb.ProcessingResponse.FromString(echo) == pb.ProcessingResponse.FromString(said)
    if codec.can_wait(raw) and not isinstance(expected, str):
        assert isinstance(expected, RequestHeaders)
        assert not expected.end_of_stream
        assert expected.config is not None
        assert expected.config.request_body is BodyMode.FULL_DUPLEX_STREAMED
        assert not expected.config.body_without_headers_reply
    kind = expected if isinstance(expected, str) else expected.__class__.__name__
    _MARKS.add(f"{kind} echo={echo is not None} {len(raw).bit_length() // 4}")


TARGET: Final = Target(
    run,
    seeds=[
        *(bytes([0, kind, *([0] * 3), 4, *([1] * 30)]) for kind in range(9)),
        *(
            bytes([5]) + raw[:200]
            for raw in (
                messages.request_headers(),
                messages.request_headers(subset=["10.0.0.1:80"], end=True),
                messages.request_body(b"abc"),
                messages.request_body(b"abc", end=True, subset="a,b"),
                messages.request_trailers(),
                messages.response_headers(served="10.0.0.1:80"),
                messages.response_body(b"abc"),
                messages.response_body(b"", end=True),
                messages.response_trailers(),
            )
        ),
    ],
    marks=_MARKS,
    modules=["extproc.transport.codec", "extproc.transport.byhand"],
    tokens=[
        b"\x0a",
        b"\x10\x01",
        b"\x18\x01",
        b"\x1a",
        b"\x52\x04\x08\x04\x10\x04",
        b"\x80\x01",
        b"\x80\x80\x80\x80\x80\x00",
        *_CONTEXT,
    ],
)
