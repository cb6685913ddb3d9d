"""The frames that are not a stream's own content: right and wrong (RFC 9113 section 6)."""

from __future__ import annotations

import pytest

from tests.fakes.http2 import (
    ACK,
    END_HEADERS,
    PREFACE,
    PROCESS,
    SETTINGS_ACK,
    Frame,
    data,
    goaway,
    headers,
    ping,
    priority,
    rst,
    settings,
    window,
)
from tests.fakes.wire import Wire

REQUEST = f"request 1 {PROCESS}"


class TestSettings:
    def test_are_acknowledged(self) -> None:
        wire = Wire()
        assert wire.send(settings(), settings(ENABLE_PUSH=1)) == []
        assert wire.sent() == ["SETTINGS ack", "SETTINGS ack"]

    def test_unknown_ones_are_ignored(self) -> None:
        wire = Wire()
        wire.send(Frame(4, 0, 0, b"\x12\x34\0\0\0\1"))
        assert wire.sent() == ["SETTINGS ack"]

    def test_our_own_are_acknowledged_once(self) -> None:
        wire = Wire(greet=False)
        wire.send(PREFACE, settings())
        assert not wire.connection.control.acknowledged
        wire.send(SETTINGS_ACK, SETTINGS_ACK)
        assert wire.connection.control.acknowledged

    @pytest.mark.parametrize(("value", "largest"), [(16_384, 16_384), (20_000, 20_000), (2**24 - 1, 2**16)])
    def test_the_frames_size(self, value: int, largest: int) -> None:
        wire = Wire(MAX_FRAME_SIZE=value, INITIAL_WINDOW_SIZE=10**6)
        (stream,) = wire.open(1)
        wire.send(window(0, 10**6))
        wire.connection.outbox.message(stream, bytes(100_000))
        assert wire.sent()[1] == f"DATA 1 {largest} bytes"

    @pytest.mark.parametrize(
        ("told", "code"),
        [
            (settings(ENABLE_PUSH=2), "PROTOCOL_ERROR bad_setting"),
            (settings(INITIAL_WINDOW_SIZE=2**31), "FLOW_CONTROL_ERROR bad_setting"),
            (settings(MAX_FRAME_SIZE=16_383), "PROTOCOL_ERROR bad_setting"),
            (settings(MAX_FRAME_SIZE=2**24), "PROTOCOL_ERROR bad_setting"),
            (Frame(4, 0, 0, bytes(5)), "FRAME_SIZE_ERROR bad_frame_size"),
            (Frame(4, ACK, 0, bytes(6)), "FRAME_SIZE_ERROR bad_frame_size"),
            (settings()._replace(stream=1), "PROTOCOL_ERROR bad_stream_id"),
        ],
    )
    def test_that_are_wrong(self, told: Frame, code: str) -> None:
        wire = Wire()
        assert wire.send(told) == [f"ended {code}"]
        assert wire.sent()[-1] == f"GOAWAY 0 {code.split()[0]}"

    def test_windows_of_all_streams_change(self) -> None:
        wire = Wire()
        one, other = wire.open(1, 3)
        one.window -= 10
        wire.send(settings(INITIAL_WINDOW_SIZE=5))
        assert (one.window, other.window) == (-5, 5)

    def test_are_acknowledged_before_the_data_that_they_let_go(self) -> None:
        wire = Wire(INITIAL_WINDOW_SIZE=0)
        (stream,) = wire.open(1)
        wire.connection.outbox.message(stream, b"x")
        wire.sent()
        wire.send(settings(INITIAL_WINDOW_SIZE=5), settings(INITIAL_WINDOW_SIZE=6))
        assert wire.sent() == ["SETTINGS ack", "DATA 1 b'\\x00\\x00\\x00\\x00\\x01'", "SETTINGS ack", "DATA 1 b'x'"]

    def test_the_last_of_a_setting_counts(self) -> None:
        wire = Wire()
        (stream,) = wire.open(1)
        wire.send(Frame(4, 0, 0, settings(INITIAL_WINDOW_SIZE=1).payload + settings(INITIAL_WINDOW_SIZE=7).payload))
        assert stream.window == 7

    def test_a_window_that_overflows(self) -> None:
        wire = Wire()
        wire.open(1)
        wire.send(window(1, 2**31 - 1 - 65_535))
        assert wire.send(settings(INITIAL_WINDOW_SIZE=65_536)) == ["ended FLOW_CONTROL_ERROR window_overflow"]


class TestWindowUpdate:
    def test_by_nothing(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(window(1, 0)) == ["reset 1 PROTOCOL_ERROR bad_window_update by us"]
        assert wire.send(window(0, 0)) == ["ended PROTOCOL_ERROR bad_window_update"]

    def test_by_too_much(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(window(1, 2**31 - 1)) == ["reset 1 FLOW_CONTROL_ERROR window_overflow by us"]
        assert wire.send(window(0, 2**31 - 1)) == ["ended FLOW_CONTROL_ERROR window_overflow"]

    def test_of_a_wrong_size(self) -> None:
        assert Wire().send(Frame(8, 0, 0, bytes(3))) == ["ended FRAME_SIZE_ERROR bad_frame_size"]

    def test_the_reserved_bit_means_nothing(self) -> None:
        wire = Wire()
        (stream,) = wire.open(1)
        wire.send(Frame(8, 0, 1, b"\x80\0\0\1"))
        assert stream.window == 65_536
        assert wire.send(data(1, b"x")._replace(stream=2**31 + 1)) == ["data 1 b'x'"]


class TestTheOthers:
    def test_ping(self) -> None:
        wire = Wire()
        assert wire.send(ping(b"abcdefgh")) == []
        (line,) = wire.sent()
        assert line == "PING ack"
        wire.connection.ping(b"12345678")
        assert wire.sent() == ["PING b'12345678'"]
        assert wire.send(ping(b"12345678", ack=True)) == ["ping answered b'12345678'"]
        assert wire.sent() == []

    def test_a_ping_is_answered_with_its_own_bytes(self) -> None:
        wire = Wire()
        wire.send(ping(b"abcdefgh"))
        assert wire.connection.outbox.take() == bytes(ping(b"abcdefgh", ack=True))

    def test_goaway(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(goaway(0, "ENHANCE_YOUR_CALM"), data(1, b"x")) == ["peer leaves ENHANCE_YOUR_CALM", "data 1 b'x'"]

    def test_codes_that_nobody_knows(self) -> None:
        """RFC 9113 section 7: they mean no more than that there was an error."""
        wire = Wire()
        wire.open(1)
        assert wire.send(Frame(3, 0, 1, b"\xff\xff\xff\xff")) == ["reset 1 0xffffffff reset_by_peer"]
        assert wire.send(Frame(7, 0, 0, bytes(7) + b"\x0e")) == ["peer leaves 0xe"]

    def test_priority(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(priority(1, 3), priority(99, 1)) == []
        assert wire.sent() == []
        assert wire.send(priority(1, 1)) == ["reset 1 PROTOCOL_ERROR bad_priority by us"]

    @pytest.mark.parametrize("stream", [1, 3], ids=["over", "idle"])
    @pytest.mark.parametrize(("size", "end"), [(5, "PROTOCOL_ERROR bad_priority"), (4, "FRAME_SIZE_ERROR bad_frame_size")])
    def test_a_wrong_priority_of_a_stream_that_is_not_open(self, stream: int, size: int, end: str) -> None:
        """Nothing may be sent on a stream that is idle or over, so the connection is what tells (RFC 9113 section 5.4.2)."""
        wire = Wire()
        wire.open(1)
        assert wire.send(rst(1)) == ["reset 1 CANCEL reset_by_peer"]
        assert wire.send(priority(stream, stream) if size == 5 else Frame(2, 0, stream, bytes(size))) == [f"ended {end}"]
        assert wire.sent() == [f"GOAWAY 1 {end.split()[0]}"]

    @pytest.mark.parametrize("kind", [10, 12, 0xFF])
    def test_unknown_frames_mean_nothing(self, kind: int) -> None:
        wire = Wire()
        assert wire.send(Frame(kind, 0xFF, 0, b"abc"), Frame(kind, 0, 1), headers(1)) == [REQUEST]

    @pytest.mark.parametrize(
        ("frame", "end"),
        [
            (ping(b"1234567"), "FRAME_SIZE_ERROR bad_frame_size"),
            (ping()._replace(stream=1), "PROTOCOL_ERROR bad_stream_id"),
            (goaway()._replace(stream=1), "PROTOCOL_ERROR bad_stream_id"),
            (Frame(7, 0, 0, bytes(7)), "FRAME_SIZE_ERROR bad_frame_size"),
            (priority(0), "PROTOCOL_ERROR bad_stream_id"),
            (Frame(5, END_HEADERS, 1, bytes(4)), "PROTOCOL_ERROR push_promise"),
            (rst(0), "PROTOCOL_ERROR bad_stream_id"),
            (Frame(3, 0, 1, bytes(3)), "FRAME_SIZE_ERROR bad_frame_size"),
            (Frame(0, 0, 1, bytes(16_385)), "FRAME_SIZE_ERROR frame_too_large"),
        ],
    )
    def test_that_are_wrong(self, frame: Frame, end: str) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(frame) == [f"ended {end}"]
        assert wire.sent()[-1] == f"GOAWAY 1 {end.split()[0]}"

    def test_a_frame_that_is_too_large_is_refused_by_its_head(self) -> None:
        assert Wire().send(b"\x00\x40\x01\0\0\0\0\0\1") == ["ended FRAME_SIZE_ERROR frame_too_large"]

    def test_a_priority_of_a_wrong_size(self) -> None:
        wire = Wire()
        wire.open(1)
        assert wire.send(Frame(2, 0, 1, bytes(4))) == ["reset 1 FRAME_SIZE_ERROR bad_frame_size by us"]
