"""The windows that we grant, and the streams' book."""

from __future__ import annotations

import pytest

from extproc.transport.h2.frames import ConnectionFault, ErrorCode
from extproc.transport.h2.intake import Intake, StreamBook
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.outbox import Outbox, Stream
from extproc.transport.h2.table import State
from extproc.transport.held import Held
from tests.fakes.http2 import data, headers, lines, rst, settings, window
from tests.fakes.wire import Wire

SMALL = H2Limits(stream_window=65_535, connection_window=100_000, max_stream_unsent=100)
FRAME = bytes(16_384)


class TestWhatAPeerMaySend:
    def test_is_announced(self) -> None:
        assert Wire(SMALL, greet=False).sent() == [
            "SETTINGS HEADER_TABLE_SIZE=0 MAX_CONCURRENT_STREAMS=10000 INITIAL_WINDOW_SIZE=65535 MAX_HEADER_LIST_SIZE=32768",
            "WINDOW_UPDATE 0 +34465",
        ]

    def test_the_connections_window_of_http2_needs_no_update(self) -> None:
        assert len(Wire(SMALL._replace(connection_window=65_535), greet=False).sent()) == 1

    @pytest.mark.parametrize("limits", [SMALL._replace(stream_window=65_534), SMALL._replace(connection_window=65_534)])
    def test_cannot_be_less_than_http2_starts_with(self, limits: H2Limits) -> None:
        with pytest.raises(ValueError, match="65535"):
            Intake(limits, Outbox(lambda _: None, Held()), Held())

    def test_opens_again_when_it_is_half_used(self) -> None:
        wire = Wire(SMALL)
        (stream,) = wire.open(1)
        wire.send(data(1, FRAME), data(1, FRAME))
        assert wire.sent() == []
        wire.send(data(1, b"x"))
        assert wire.sent() == ["WINDOW_UPDATE 1 +32769"]
        assert stream.credit == 65_535
        wire.send(data(1, FRAME), data(1, FRAME[:848]))
        assert wire.sent() == ["WINDOW_UPDATE 0 +50001"]
        assert wire.connection.intake.credit == 100_000

    def test_padding_counts(self) -> None:
        """RFC 9113 section 6.9.1: the whole payload, with its padding."""
        wire = Wire(SMALL)
        (stream,) = wire.open(1)
        wire.send(data(1, b"x", pad=255))
        assert stream.credit == 65_535 - 257
        assert wire.connection.intake.credit == 100_000 - 257

    def test_a_window_used_by_padding_alone_opens_again(self) -> None:
        wire = Wire(SMALL)
        wire.open(1)
        told = []
        for _ in range(256):
            wire.send(data(1, pad=255))
            told += wire.sent()
        assert "WINDOW_UPDATE 1 +33024" in told

    def test_the_last_piece_opens_no_streams_window(self) -> None:
        wire = Wire(SMALL)
        wire.open(1)
        wire.send(data(1, FRAME), data(1, FRAME), data(1, b"x", end=True))
        assert wire.sent() == []

    def test_data_that_nobody_wants_uses_the_connections_window(self) -> None:
        wire = Wire(SMALL)
        wire.open(1)
        wire.send(rst(1), *[data(1, FRAME)] * 4)
        assert "WINDOW_UPDATE 0 +65536" in wire.sent()

    def test_more_than_a_streams_window(self) -> None:
        wire = Wire(SMALL._replace(max_stream_unsent=-1))
        wire.open(1)
        assert wire.send(*[data(1, FRAME)] * 4)[-1] == "reset 1 FLOW_CONTROL_ERROR window_ignored by us"
        assert "RST_STREAM 1 FLOW_CONTROL_ERROR" in wire.sent()

    def test_more_than_the_connections_window(self) -> None:
        wire = Wire(SMALL)
        wire.open(1, 3)
        wire.connection.intake.low = -1
        wire.send(*[data(1, FRAME)] * 3, *[data(3, FRAME)] * 3)
        wire.connection.intake.low = 0
        assert wire.send(data(3, FRAME)) == ["ended FLOW_CONTROL_ERROR window_ignored"]
        assert wire.sent()[-1].startswith("GOAWAY 3 FLOW_CONTROL_ERROR")


class TestAPeerThatTakesNothing:
    def stinted(self) -> Wire:
        wire = Wire(SMALL, INITIAL_WINDOW_SIZE=0)
        (stream,) = wire.open(1)
        wire.connection.outbox.message(stream, bytes(96))
        wire.send(data(1, FRAME), data(1, FRAME), data(1, b"x"))
        assert stream.waiting_bytes == 101
        assert wire.sent() == ["HEADERS 1 :status=200 content-type=application/grpc"]
        return wire

    def test_may_not_send_more_on_that_stream(self) -> None:
        wire = self.stinted()
        wire.send(data(1, FRAME))
        assert wire.connection.streams[1].credit == 65_535 - 3 * 16_384 - 1

    def test_may_send_again_when_it_took_something(self) -> None:
        wire = self.stinted()
        wire.send(window(1, 1))
        assert wire.sent() == ["DATA 1 b'\\x00'", "WINDOW_UPDATE 1 +32769"]

    def test_may_send_again_after_larger_windows(self) -> None:
        wire = self.stinted()
        wire.send(settings(INITIAL_WINDOW_SIZE=1))
        assert wire.sent() == ["SETTINGS ack", "DATA 1 b'\\x00'", "WINDOW_UPDATE 1 +32769"]

    def test_is_not_granted_anything_for_a_stream_that_is_over(self) -> None:
        wire = self.stinted()
        wire.send(rst(1), window(0, 1))
        assert wire.sent() == []


class TestStreamBook:
    def test_ends_are_remembered_for_a_while(self) -> None:
        book = StreamBook()
        for stream_id in range(1, 4001, 2):
            book.last_id = stream_id
            book.remember(stream_id, State.CLOSED)
        assert len(book._over) <= 1000
        assert book.state_of(3999) is State.CLOSED
        assert book.state_of(1) is State.FORGOTTEN
        assert book.state_of(4001) is State.IDLE

    def test_streams_that_only_a_server_could_open_are_idle(self) -> None:
        book = StreamBook()
        book.last_id = 9
        assert book.state_of(4) is State.IDLE

    def test_a_stream_that_is_forgotten(self) -> None:
        book = StreamBook()
        stream = book.open[1] = Stream(1, 0, 0)
        book.last_id = 1
        book.forget(stream, State.RESET)
        assert (book.open, book.state_of(1), stream.over) == ({}, State.RESET, True)
        assert repr(stream) == "<Stream 1 RESET window=0 waiting=0>"

    def test_stream_0_is_none(self) -> None:
        with pytest.raises(ConnectionFault) as caught:
            StreamBook().state_of(0)
        assert caught.value.code is ErrorCode.PROTOCOL_ERROR


def test_an_update_for_the_streams_of_a_server() -> None:
    wire = Wire()
    wire.open(5)
    assert wire.send(window(2, 1)) == ["ended PROTOCOL_ERROR bad_stream_state"]


def test_lines_are_what_was_sent() -> None:
    assert lines(bytes(headers(1)) + bytes(data(1))) == [
        "HEADERS 1 :method=POST :scheme=http :path=/envoy.service.ext_proc.v3.ExternalProcessor/Process"
        " :authority=extproc content-type=application/grpc te=trailers",
        "DATA 1",
    ]
