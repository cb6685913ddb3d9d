"""One connection: each frame, right and wrong (RFC 9113)."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.headers import encode
from tests.fakes.fuzz import examples
from tests.fakes.http2 import (
    END_HEADERS,
    GRPC,
    PREFACE,
    PROCESS,
    Frame,
    block,
    continuation,
    data,
    headers,
    literal,
    ping,
    priority,
    rst,
    settings,
    window,
    with_path,
)
from tests.fakes.wire import CallWire, DataReceived, Heard, Wire, show

REQUEST = f"request 1 {PROCESS}"


class TestThePreface:
    def test_in_pieces(self) -> None:
        wire = Wire(greet=False)
        wire.sent()
        whole = PREFACE + bytes(settings()) + bytes(headers(1))
        heard = [line for byte in whole for line in wire.send(bytes([byte]))]
        assert heard == [REQUEST]
        assert wire.sent() == ["SETTINGS ack"]
        assert wire.connection.control.established

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.1", PREFACE[:-1] + b"x"])
    def test_of_something_else(self, start: bytes) -> None:
        wire = Wire(greet=False)
        assert wire.send(start) == ["ended PROTOCOL_ERROR not_http2"]
        assert wire.sent()[-1] == "GOAWAY 0 PROTOCOL_ERROR"

    @pytest.mark.parametrize("frame", [ping(), data(1), headers(1), window(0, 1), Frame(99)])
    def test_settings_come_first(self, frame: Frame) -> None:
        assert Wire(greet=False).send(PREFACE, frame) == ["ended PROTOCOL_ERROR not_http2"]

    def test_nothing_is_read_after_the_end(self) -> None:
        wire = Wire()
        wire.send(ping(b""))
        assert wire.send(headers(1)) == []
        assert wire.connection.ended


class TestRequests:
    def test_with_a_body_and_an_end(self) -> None:
        wire = Wire()
        assert wire.send(headers(1), data(1, b"one"), data(1, b"two", end=True)) == [
            REQUEST,
            "data 1 b'one'",
            "data 1 b'two' end",
        ]

    def test_that_end_at_once(self) -> None:
        assert Wire().send(headers(1, end=True)) == [REQUEST + " end"]

    def test_with_an_empty_end(self) -> None:
        assert Wire().send(headers(1), data(1, end=True)) == [REQUEST, "data 1 end"]

    def test_with_trailers(self) -> None:
        assert Wire().send(headers(1), headers(1, block([("x", "y")]), end=True)) == [REQUEST, "data 1 end"]

    @pytest.mark.parametrize("trailers", [[(":path", "/")], [("connection", "x")]])
    def test_with_trailers_that_are_none(self, trailers: list[tuple[str, str]]) -> None:
        assert Wire().send(headers(1), headers(1, literal(trailers), end=True))[1:] == [
            "reset 1 PROTOCOL_ERROR malformed_request by us"
        ]

    def test_headers_in_the_middle(self) -> None:
        assert Wire().send(headers(1), headers(1, block([("x", "y")])))[1:] == [
            "reset 1 PROTOCOL_ERROR malformed_request by us"
        ]

    def test_large_data_is_not_copied(self) -> None:
        wire = Wire()
        wire.send(headers(1), data(1, bytes(4095)), data(1, bytes(4096)))
        kinds = [type(event.data) for event in wire.events if isinstance(event, DataReceived)]
        assert kinds == [bytes, memoryview]

    def test_skipped_streams_cannot_be_opened_later(self) -> None:
        wire = Wire()
        wire.open(5)
        assert wire.send(headers(3)) == ["ended PROTOCOL_ERROR bad_stream_state"]

    @pytest.mark.parametrize("stream_id", [0, 2])
    def test_on_streams_that_a_client_does_not_have(self, stream_id: int) -> None:
        assert Wire().send(headers(stream_id)) == ["ended PROTOCOL_ERROR bad_stream_id"]

    def test_that_are_malformed(self) -> None:
        wire = Wire()
        assert wire.send(headers(1, block(GRPC[1:]))) == ["reset 1 PROTOCOL_ERROR malformed_request by us"]
        assert wire.sent() == ["RST_STREAM 1 PROTOCOL_ERROR"]
        assert wire.send(headers(3)) == [f"request 3 {PROCESS}"]

    @pytest.mark.parametrize(
        ("told", "frames", "fine"),
        [
            (3, [data(1, b"abc", end=True)], True),
            (3, [data(1, b"a", pad=4), data(1, b"bc"), data(1, end=True)], True),
            (0, [data(1, end=True)], True),
            (3, [data(1, b"ab", end=True)], False),
            (3, [data(1, b"abcd", end=True)], False),
            (3, [headers(1, block([("x", "y")]), end=True)], False),
        ],
    )
    def test_content_length(self, told: int, frames: list[Frame], fine: bool) -> None:
        heard = Wire().send(headers(1, block([*GRPC, ("content-length", str(told))])), *frames)
        assert (heard[-1] == "reset 1 PROTOCOL_ERROR malformed_request by us") is not fine

    def test_content_length_without_a_body(self) -> None:
        assert Wire().send(headers(1, block([*GRPC, ("content-length", "1")]), end=True)) == [
            "reset 1 PROTOCOL_ERROR malformed_request by us"
        ]


class TestHeaderBlocks:
    def test_in_many_frames(self) -> None:
        encoded = block()
        first = headers(1, encoded[:3], whole=False, end=True)
        rest = [continuation(1, encoded[3:9], whole=False), continuation(1, b"", whole=False), continuation(1, encoded[9:])]
        assert Wire().send(first, *rest) == [REQUEST + " end"]

    def test_padded(self) -> None:
        assert Wire().send(headers(1, pad=7)) == [REQUEST]

    @pytest.mark.parametrize("pad", [None, 3])
    def test_with_a_priority(self, pad: int | None) -> None:
        told = headers(1, b"\0\0\0\x03\xff" + block(), pad=pad)
        assert Wire().send(told._replace(flags=told.flags | 32)) == [REQUEST]

    def test_that_depends_on_itself(self) -> None:
        told = headers(1, b"\0\0\0\x01\xff" + block())
        assert Wire().send(told._replace(flags=told.flags | 32)) == ["reset 1 PROTOCOL_ERROR malformed_request by us"]

    def test_too_short_for_its_priority(self) -> None:
        assert Wire().send(Frame(1, END_HEADERS | 32, 1, b"\0\0\0\1")) == ["ended FRAME_SIZE_ERROR bad_frame_size"]

    @pytest.mark.parametrize(
        "frame", [data(1), headers(3), settings(), ping(), rst(1), continuation(3, b""), Frame(99), window(0, 1), priority(1)]
    )
    def test_nothing_comes_between(self, frame: Frame) -> None:
        assert Wire().send(headers(1, whole=False), frame) == ["ended PROTOCOL_ERROR broken_header_block"]

    def test_a_continuation_of_nothing(self) -> None:
        assert Wire().send(continuation(1, b"")) == ["ended PROTOCOL_ERROR broken_header_block"]
        assert Wire().send(headers(1), continuation(1, b"")) == [REQUEST, "ended PROTOCOL_ERROR broken_header_block"]

    def test_that_are_no_hpack(self) -> None:
        assert Wire().send(headers(1, b"\xff\xff\xff\xff\xff")) == ["ended COMPRESSION_ERROR bad_header_block"]

    @pytest.mark.parametrize("before", [rst(1), data(1, b"x", end=True)])
    def test_of_streams_that_are_not_wanted_keep_the_table_right(self, before: Frame) -> None:
        """RFC 9113 section 4.3: field blocks of any stream change the table."""
        encoder = Encoder()
        wire = Wire()
        wire.send(headers(1, block(encoder=encoder)))
        wire.connection.reset(wire.connection.streams[1], ErrorCode.CANCEL)
        more = (*GRPC, ("x-more", "1"))
        wire.send(before, headers(1, block([("x-more", "1")], encoder=encoder), end=True))
        assert wire.send(headers(3, block(more, encoder=encoder))) == [f"request 3 {PROCESS}"]
        event: Any = wire.events[-1]
        assert event.fields.values == dict(more)


class TestData:
    def test_padded(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(data(1, b"abc", pad=9), data(1, b"", pad=3, end=True)) == ["data 1 b'abc'", "data 1 end"]

    def test_with_too_much_padding(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(Frame(0, 8, 1, b"\2a")) == ["ended PROTOCOL_ERROR bad_padding"]

    def test_without_its_padding(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(Frame(0, 8, 1)) == ["ended FRAME_SIZE_ERROR bad_frame_size"]

    def test_that_is_empty_means_nothing(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(data(1), data(1, pad=2)) == []

    def test_on_stream_0(self) -> None:
        assert Wire().send(data(0, b"x")) == ["ended PROTOCOL_ERROR bad_stream_id"]

    @given(st.lists(st.integers(1, 300), max_size=8), st.lists(st.binary(max_size=200), max_size=6))
    @examples(100)
    def test_in_any_pieces(self, cuts: list[int], pieces: list[bytes]) -> None:
        wire = Wire()
        wire.open(1)
        whole = b"".join(bytes(data(1, piece)) for piece in pieces) + bytes(data(1, end=True))
        got, at = b"", 0
        for cut in [*cuts, len(whole)]:
            wire.connection.receive(whole[at : at + cut], wire.events)
            at += cut
        for event in wire.events[1:]:
            assert isinstance(event, DataReceived)
            got += bytes(event.data)
        assert got == b"".join(pieces)
        assert wire.connection.streams[1].state.name == "HALF_CLOSED_REMOTE"


class TestOurEnd:
    def test_before_the_peers_tells_it_to_stop(self) -> None:
        """RFC 9113 section 8.1: RST_STREAM with NO_ERROR after a whole answer."""
        wire = Wire()
        (stream,) = wire.open(1)
        wire.connection.outbox.end(stream, encode([("grpc-status", "0")]))
        assert wire.sent() == ["HEADERS 1 grpc-status=0 end", "RST_STREAM 1 NO_ERROR"]
        assert wire.send(data(1, b"late"), headers(1, block([("x", "y")]), end=True)) == []
        assert wire.sent() == []

    def test_after_the_peers(self) -> None:
        wire = Wire()
        (stream,) = wire.open(1)
        wire.send(data(1, end=True))
        wire.connection.outbox.end(stream, encode([("grpc-status", "0")]))
        assert wire.sent() == ["HEADERS 1 grpc-status=0 end"]
        assert wire.connection.streams == {}

    def test_by_reset(self) -> None:
        wire = Wire()
        (stream,) = wire.open(1)
        wire.connection.reset(stream, ErrorCode.CANCEL)
        wire.connection.reset(stream, ErrorCode.CANCEL)
        assert wire.sent() == ["RST_STREAM 1 CANCEL"]

    def test_a_block_larger_than_a_frame(self) -> None:
        wire = Wire()
        (stream,) = wire.open(1)
        wire.connection.outbox.end(stream, encode([("grpc-message", "x" * 20_000)]))
        assert [line.split()[0] for line in wire.sent()] == ["HEADERS", "CONTINUATION", "RST_STREAM"]


class TestAGracefulEnd:
    def test_in_two_steps(self) -> None:
        wire = Wire()
        wire.open(1)
        wire.connection.announce_end()
        assert wire.sent() == ["GOAWAY 2147483647 NO_ERROR"]
        assert wire.send(headers(3)) == [f"request 3 {PROCESS}"]
        wire.connection.refuse_new()
        wire.connection.refuse_new()
        assert wire.sent() == ["GOAWAY 3 NO_ERROR"]
        assert wire.send(headers(5), data(5, b"x"), rst(5), data(3, b"y")) == ["data 3 b'y'"]
        assert wire.sent() == []

    def test_the_last_stream_never_grows(self) -> None:
        """RFC 9113 section 6.8: the peer may have tried the later ones elsewhere."""
        wire = Wire()
        wire.open(1)
        wire.connection.refuse_new()
        wire.send(headers(3), ping(b""))
        assert wire.sent() == ["GOAWAY 1 NO_ERROR", "GOAWAY 1 FRAME_SIZE_ERROR"]


class TestWhatComesInOneRead:
    """Events are told after all frames of a read were parsed: what a stream is then may be later than its event."""

    def test_a_request_that_is_reset_at_once(self) -> None:
        wire = Wire()
        heard = wire.send(headers(1), data(1, b"x"), rst(1), headers(3))
        assert heard == [REQUEST, "data 1 b'x'", "reset 1 CANCEL reset_by_peer", f"request 3 {PROCESS}"]
        event: Any = wire.events[0]
        assert event.stream.over
        wire.connection.outbox.message(event.stream, b"answer")
        wire.connection.outbox.end(event.stream, encode([("grpc-status", "0")]))
        assert wire.sent() == []

    def test_events_before_a_fault_are_told(self) -> None:
        assert Wire().send(headers(1), data(1, b"x"), ping(b""), headers(3)) == [
            REQUEST,
            "data 1 b'x'",
            "ended FRAME_SIZE_ERROR bad_frame_size",
        ]


FRAMES = st.one_of(
    st.builds(Frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 6), st.binary(max_size=12)),
    st.builds(headers, st.sampled_from([1, 3, 5]), end=st.booleans()),
    st.builds(data, st.sampled_from([1, 3, 5]), st.binary(max_size=9), end=st.booleans()),
    st.builds(window, st.sampled_from([0, 1, 3]), st.integers(0, 2**31 - 1)),
)


def told(events: Heard) -> list[object]:
    """What the events say, whatever the pieces of data that come one after the other."""
    out: list[object] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, DataReceived):
            data, ended = bytes(event.data), event.ended
            if isinstance(last, tuple) and last[0] == event.stream.id and not last[2]:
                out[-1] = (event.stream.id, last[1] + data, ended)
            elif data or ended:
                out.append((event.stream.id, data, ended))
        else:
            out.append(show(event))
    return out


@given(frames=st.lists(FRAMES, max_size=12), cut=st.integers(1, 40), garbage=st.binary(max_size=20))
@examples(500)
def test_any_frames_end_in_the_same_way_however_they_are_cut(frames: list[Frame], cut: int, garbage: bytes) -> None:
    whole = b"".join(map(bytes, frames)) + garbage
    wire, other = Wire(), Wire()
    heard, in_pieces = Heard(), Heard()
    wire.connection.receive(whole, heard)
    for at in range(0, len(whole), cut):
        other.connection.receive(whole[at : at + cut], in_pieces)
    assert told(heard) == told(in_pieces)
    assert wire.connection.outbox.take() == other.connection.outbox.take()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(2, 0, 1, b"1234"),
        priority(1, 1),
        window(1, 0),
        window(1, 2**31 - 1),
        rst(1),
        data(1, b"x"),
        data(1, b"x", end=True),
        Frame(0, 0x8, 1, b"\x09"),
        headers(1),
    ],
)
def test_a_frame_behind_an_answer_finds_the_stream_ended_in_one_read_as_in_two(frame: Frame) -> None:
    """What ended a stream counts for every frame behind it, not from the next read on."""
    answered = bytes(headers(1, with_path("/unknown")))
    at_once, in_two = CallWire(), CallWire()
    lines = at_once.send(answered + bytes(frame))
    assert lines == in_two.send(answered) + in_two.send(frame)
    assert (at_once.calls.fault and at_once.calls.fault.reason) == (in_two.calls.fault and in_two.calls.fault.reason)
    assert at_once.resets == in_two.resets
