"""Messages that are read by hand are read as protobuf reads them, and everything odd is left to protobuf."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import ProtocolError
from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2
from extproc.protocol.events import Event, RequestHeaders
from extproc.transport import codec

_sizes = st.sampled_from([0, 1, 5, 100, 126, 127, 128, 300, 20_000])


def by_protobuf(raw: bytes) -> Event | str:
    nothing = mock.Mock(return_value=None)
    with mock.patch.object(codec, "_only_body", nothing), mock.patch.object(codec, "_only_headers", nothing):
        return by_hand(raw)


def by_hand(raw: bytes) -> Event | str:
    try:
        return codec.decode(raw)
    except ProtocolError as error:
        return error.message


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    message = pb.ProcessingRequest()
    message.request_headers.SetInParent()
    for number in range(draw(st.integers(0, 5))):
        header = message.request_headers.headers.headers.add()
        header.key = f"{number}" + "k" * draw(st.sampled_from([0, 1, 125, 126, 127]))
        if draw(st.integers(0, 9)):
            header.raw_value = b"v" * draw(_sizes)
        else:
            header.value = "text"
    message.request_headers.end_of_stream = draw(st.booleans())
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
    message.request_body.SetInParent()
    message.request_body.body = b"b" * draw(_sizes) + draw(st.sampled_from([b"", b"\x10\x01", b"\x10"]))
    message.request_body.end_of_stream = draw(st.booleans())
    if not draw(st.integers(0, 9)):
        message.metadata_context.SetInParent()
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


@given(st.sampled_from([b"\x12", b"\x22"]), st.binary(max_size=40))
def test_any_bytes(tag: bytes, rest: bytes) -> None:
    assert by_hand(tag + rest) == by_protobuf(tag + rest)


def test_what_envoy_sends_is_read_by_hand() -> None:
    message = pb.ProcessingRequest()
    header = message.request_headers.headers.headers.add()
    header.key, header.raw_value = ":path", b"/v1/chat/completions"
    message.protocol_config.request_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
    with mock.patch.object(codec, "_parse", side_effect=AssertionError("read by protobuf")):
        event = codec.decode(message.SerializeToString())
    assert isinstance(event, RequestHeaders)
    assert event.head.headers == {":path": b"/v1/chat/completions"}
