"""Messages that are read by hand are read as protobuf reads them, and everything odd is left to protobuf."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from extproc import names
from extproc.errors import ProtocolError
from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2
from extproc.protocol import BodyMode, Direction, Pieces, ProtocolConfig
from extproc.protocol.events import Event, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders
from extproc.transport import codec
from tests.fakes import messages
from tests.fakes.messages import put_attempt, put_subset

_sizes = st.sampled_from([0, 1, 5, 100, 126, 127, 128, 300, 20_000])


def by_protobuf(raw: bytes) -> Event | str:
    return told(codec._by_protobuf, raw)


def by_hand(raw: bytes) -> Event | str:
    return told(codec.decode, raw)


def told(decode: Callable[[bytes], Event], raw: bytes) -> Event | str:
    try:
        return decode(raw)
    except ProtocolError as error:
        return error.message


@st.composite
def metadata(draw: st.DrawFn, message: pb.ProcessingRequest) -> None:
    """Now and then what Envoy forwards of a request's metadata."""
    kind = draw(st.integers(0, 8))
    if kind == 0:
        message.metadata_context.SetInParent()
    if kind in (1, 2):
        space = message.metadata_context.filter_metadata[names.LB_NAMESPACE]
        space.fields[names.SERVED_KEY].string_value = draw(st.sampled_from(["10.0.0.1:8000", "", "x" * 5000]))
    if kind in (2, 3):
        put_subset(message, draw(st.sampled_from([["10.0.0.1:80"], [], "10.0.0.1,10.0.0.2"])))
    if kind in (3, 8):
        put_attempt(message, draw(st.sampled_from([0, 1, 15, -1, 1e300])))
    if kind == 4:
        message.attributes["envoy.filters.http.ext_proc"].SetInParent()


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    message = pb.ProcessingRequest()
    part = draw(st.sampled_from([message.request_headers, message.response_headers]))
    part.SetInParent()
    if draw(st.booleans()):
        status = part.headers.headers.add()
        status.key, status.raw_value = ":status", draw(st.sampled_from([b"200", b"503", b"", b"20", b"abc"]))
    for number in range(draw(st.integers(0, 5))):
        header = part.headers.headers.add()
        header.key = f"{number}" + "k" * draw(st.sampled_from([0, 1, 125, 126, 127]))
        if draw(st.integers(0, 9)):
            header.raw_value = b"v" * draw(_sizes)
        else:
            header.value = "text"
    part.end_of_stream = draw(st.booleans())
    draw(metadata(message))
    if draw(st.booleans()):
        modes = processing_mode_pb2.ProcessingMode
        message.protocol_config.request_body_mode = draw(
            st.sampled_from([modes.NONE, modes.STREAMED, modes.BUFFERED, modes.FULL_DUPLEX_STREAMED])
        )
    if not draw(st.integers(0, 9)):
        message.observability_mode = True
    return message.SerializeToString()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    message = pb.ProcessingRequest()
    part = draw(st.sampled_from([message.request_body, message.response_body]))
    part.SetInParent()
    part.body = b"b" * draw(_sizes) + draw(st.sampled_from([b"", b"\x10\x01", b"\x10"]))
    part.end_of_stream = draw(st.booleans())
    draw(metadata(message))
    if draw(st.booleans()):
        message.protocol_config.response_body_mode = processing_mode_pb2.ProcessingMode.BUFFERED
    return message.SerializeToString()


@given(st.one_of(headers(), bodies()))
def test_whole_messages(raw: bytes) -> None:
    assert by_hand(raw) == by_protobuf(raw)


@given(st.one_of(headers(), bodies()), st.data())
def test_damaged_messages(raw: bytes, data: st.DataObject) -> None:
    if not raw:
        return
    damaged = bytearray(raw[:400])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert by_hand(bytes(damaged)) == by_protobuf(bytes(damaged))


@given(st.sampled_from([b"\x12", b"\x1a", b"\x22", b"\x2a"]), st.binary(max_size=40))
def test_any_bytes(tag: bytes, rest: bytes) -> None:
    assert by_hand(tag + rest) == by_protobuf(tag + rest)


@given(bodies(), st.lists(st.integers(0, 20_000), max_size=4))
def test_messages_in_pieces(raw: bytes, cuts: list[int]) -> None:
    """A piece of a request's body that is read in pieces is what it is as a whole."""
    places = sorted({0, *(cut for cut in cuts if cut < len(raw))})
    pieces: Pieces = [raw[begin:end] for begin, end in zip(places, [*places[1:], len(raw)], strict=True)]
    event = codec.decode_pieces(pieces)
    if event is not None:
        assert isinstance(event, RequestBody)
        assert event == by_protobuf(raw)
        assert event.size == len(event.body)


@given(bodies(), st.data())
def test_damaged_messages_in_pieces(raw: bytes, data: st.DataObject) -> None:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, min(30, len(damaged)) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    event = codec.decode_pieces([bytes(damaged[:cut]), bytes(damaged[cut:])])
    if event is not None:
        assert event == by_protobuf(bytes(damaged))


def test_a_large_body_in_pieces_is_read_by_hand_and_not_copied() -> None:
    for subset in (None, ["10.0.0.1:80"]):
        for end in (False, True):
            raw = messages.request_body(b"x" * 60_000, end=end, subset=subset)
            with mock.patch.object(codec, "_parse", side_effect=AssertionError("read by protobuf")):
                event = codec.decode_pieces([raw[:16_000], raw[16_000:59_999], raw[59_999:]])
            assert event == RequestBody(b"x" * 60_000, end, None if subset is None else tuple(subset))
            assert event is not None
            assert all(isinstance(piece, memoryview) for piece in event.pieces)
    assert codec.decode_pieces([messages.response_body(b"x" * 60_000)]) is None


def test_what_envoy_sends_is_read_by_hand() -> None:
    message = pb.ProcessingRequest()
    header = message.request_headers.headers.headers.add()
    header.key, header.raw_value = ":path", b"/v1/chat/completions"
    message.protocol_config.request_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
    for metadata in (False, True):
        if metadata:  # as it is with `metadata_options` in Envoy's config
            message.metadata_context.SetInParent()
        raw = message.SerializeToString()
        with mock.patch.object(codec, "_parse", side_effect=AssertionError("read by protobuf")):
            event = codec.decode(raw)
        assert isinstance(event, RequestHeaders)
        assert event.head.headers == {":path": b"/v1/chat/completions"}
        assert event.config == ProtocolConfig(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.NONE)
        assert codec.can_wait(raw)


def test_what_envoy_sends_of_a_response_is_read_by_hand() -> None:
    with mock.patch.object(codec, "_parse", side_effect=AssertionError("read by protobuf")):
        opening = codec.decode(messages.response_headers(b"404", served="10.0.0.1:80"))
        piece = codec.decode(messages.response_body(b"data: 1\n\n", end=True))
        large = codec.decode(messages.response_body(b"x" * 62_000))
    headers = {":status": b"404", "content-type": b"application/json"}
    assert opening == ResponseHeaders(404, False, "10.0.0.1:80", headers, of_balancer=True)
    assert piece == ResponseBody(b"data: 1\n\n", True)
    assert isinstance(large, ResponseBody)
    assert isinstance(large.body, memoryview)
    assert large.body == b"x" * 62_000


def test_metadata_behind_a_piece_of_request_body_is_its_subset() -> None:
    with mock.patch.object(codec, "_parse", side_effect=AssertionError("read by protobuf")):
        event = codec.decode(messages.request_body(b"abc", subset=["10.0.0.1:80"]))
    assert event == RequestBody(b"abc", False, ("10.0.0.1:80",))


def check_echo(raw: bytes) -> None:
    """An echo is what decoding and encoding the piece would say."""
    echo = codec.echo(raw)
    if echo is not None:
        event = codec.decode(raw)
        assert isinstance(event, ResponseBody)
        assert not event.end_of_stream
        assert codec.echoed(raw) == event.body
        told = pb.ProcessingResponse.FromString(codec.joined(codec.chunk(Direction.RESPONSE, event.body, False)))
        assert pb.ProcessingResponse.FromString(echo) == told


@given(bodies())
def test_echoes(raw: bytes) -> None:
    check_echo(raw)


@given(bodies(), st.data())
def test_echoes_of_damaged_messages(raw: bytes, data: st.DataObject) -> None:
    if raw:
        damaged = bytearray(raw[:400])
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        check_echo(bytes(damaged))


@given(st.binary(max_size=40))
def test_echoes_of_any_bytes(rest: bytes) -> None:
    check_echo(b"\x2a" + rest)


def test_all_small_pieces_are_echoed() -> None:
    for size in [*range(1, 300), 16_370]:
        echo = codec.echo(messages.response_body(b"x" * size))
        assert echo == codec.joined(codec.chunk(Direction.RESPONSE, b"x" * size, False)), size
        assert codec.echoed(messages.response_body(b"x" * size)) == b"x" * size
    assert codec.echo(messages.response_body(b"abc", end=True)) is None
    assert codec.echo(messages.response_body(b"x" * 16_384)) is None
    assert codec.echo(messages.request_body(b"abc")) is None
    assert codec.echo(b"") is None
