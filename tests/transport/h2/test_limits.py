"""Every bound of a connection: what the peer is told, what is counted, and what is logged."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.transport.h2.frames import ConnectionFault, ErrorCode
from extproc.transport.h2.limits import Allowance, H2Limits, Meter
from extproc.transport.held import Held
from tests.fakes import messages
from tests.fakes.clock import FakeClock
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import (
    GRPC,
    PREFACE,
    PROCESS,
    Frame,
    block,
    continuation,
    data,
    headers,
    literal,
    message,
    ping,
    priority,
    rst,
    settings,
    window,
    with_path,
)
from tests.fakes.peers import PeerWire
from tests.fakes.wire import Wire, services_of

FEW = Allowance(3, 1)
TIGHT = H2Limits(
    max_streams=2,
    max_header_bytes=1000,
    max_continuations=3,
    resets=FEW,
    settings=FEW,
    pings=FEW,
    empty_data=FEW,
    other=FEW,
)
WATCH = with_path("/grpc.health.v1.Health/Watch")
LIST = with_path("/grpc.health.v1.Health/List")


class TestMeter:
    def test_so_many_at_once_and_so_many_a_second(self) -> None:
        clock = FakeClock()
        meter = Meter("ping_flood", Allowance(2, 0.5), clock)
        meter.count()
        meter.count()
        with pytest.raises(ConnectionFault) as caught:
            meter.count()
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
        assert (caught.value.reason, caught.value.message) == ("ping_flood", "ping flood: more than 2 at once or 0.5 a second")
        clock.advance(4)
        meter.count()

    def test_never_more_than_its_burst(self) -> None:
        clock = FakeClock()
        meter = Meter("ping_flood", Allowance(2, 1000), clock)
        for _ in range(2):
            meter.count()
        clock.advance(1000)
        for _ in range(3):
            meter.count()
        with pytest.raises(ConnectionFault):
            meter.count()

    def test_a_steady_rate_within_it_goes_on(self) -> None:
        clock = FakeClock()
        meter = Meter("ping_flood", Allowance(2, 1), clock)
        for _ in range(100):
            clock.advance(1)
            meter.count()


FLOODS = ("settings_flood", "ping_flood", "empty_data_flood", "rapid_reset")


def flood(name: str) -> list[Frame]:
    """Four frames of a kind, where three are allowed."""
    kinds = {
        "settings_flood": [settings()] * 3,  # the preface has used one
        "ping_flood": [ping()] * 4,
        "empty_data_flood": [headers(1), *[data(1)] * 4],
        "rapid_reset": [frame for n in (1, 3, 5, 7) for frame in (headers(n), rst(n))],
    }
    return kinds[name]


USELESS = {
    "priority": [priority(1)] * 4,
    "unknown frames": [Frame(99)] * 4,
    "data of streams that are over": [headers(1), rst(1), *[data(1, b"x")] * 4],
    "windows of streams that are over": [headers(1), rst(1), *[window(1, 1)] * 4],
    "resets of streams that are over": [headers(1), *[rst(1)] * 5],
    "requests that are none": [headers(n, block(GRPC[1:])) for n in (1, 3, 5, 7)],
    "refused streams": [headers(n) for n in (1, 3, 5, 7, 9, 11)],
}


@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        *(
            (flood(name), "ENHANCE_YOUR_CALM", name)
            for name in ("settings_flood", "ping_flood", "empty_data_flood", "rapid_reset")
        ),
        *((frames, "ENHANCE_YOUR_CALM", "useless_frames") for frames in USELESS.values()),
        ([headers(1, literal([*GRPC, ("x", "y" * 900)]))], "ENHANCE_YOUR_CALM", "header_list_too_large"),
        (
            [headers(1, whole=False), *[continuation(1, b"", whole=False)] * 4],
            "ENHANCE_YOUR_CALM",
            "continuation_flood",
        ),
        (
            [headers(1, whole=False), continuation(1, bytes(1000), whole=False)],
            "ENHANCE_YOUR_CALM",
            "continuation_flood",
        ),
        ([Frame(0, 0, 1, bytes(16_385))], "FRAME_SIZE_ERROR", "frame_too_large"),
    ],
)
async def test_a_peer_that_goes_over_a_bound(frames: list[Frame], code: str, reason: str, logged: list[Any]) -> None:
    wire = PeerWire(TIGHT)
    wire.sent()
    told = wire.send(*frames)
    assert told[-1].startswith("GOAWAY")
    assert told[-1].endswith(code)
    assert wire.faults == {reason: 1}
    line = logged[-1]
    assert (line["log_level"], line["event"], line["code"], line["reason"]) == ("warning", "connection ended", code, reason)
    assert "192.0.2.1" in line["peer"]
    wire.send(headers(21))
    wire.wait(1)
    assert wire.transport.asked == ["write eof"]  # the peer is given time to read why: this tick may have come at once
    wire.wait(1)
    assert wire.transport.asked == ["write eof", "abort"]
    wire.lose()
    assert wire.services.streams.open.value == 0
    assert wire.faults == {reason: 1}


@pytest.mark.parametrize("name", FLOODS)
async def test_as_much_as_is_allowed(name: str) -> None:
    frames = flood(name)
    wire = PeerWire(TIGHT)
    wire.send(*frames[: -2 if name == "rapid_reset" else -1])
    assert wire.faults == {}


async def test_nothing_is_said_after_the_end() -> None:
    """What else happens to the calls of a connection that failed is of no interest to its peer."""
    wire = PeerWire()
    wire.send(headers(1, WATCH), data(1, message()))
    wire.send(headers(3, with_path(PROCESS, ("grpc-timeout", "1S"))), ping(b""))
    wire.services.health.set_ready(True)
    assert wire.wait(1) == []
    assert wire.send(headers(5)) == []
    wire.lose()
    assert (wire.ended, wire.services.health.watchers) == ({"CANCELLED": 1}, 0)


async def test_streams_at_once(logged: list[Any]) -> None:
    wire = PeerWire(TIGHT)
    wire.sent()
    assert wire.send(*(headers(n) for n in (1, 3, 5, 7))) == ["RST_STREAM 5 REFUSED_STREAM", "RST_STREAM 7 REFUSED_STREAM"]
    assert wire.resets == {"too_many_streams": 2}
    assert [line["event"] for line in logged] == ["stream reset"]  # once a connection
    assert (logged[0]["reason"], logged[0]["code"]) == ("too_many_streams", "REFUSED_STREAM")
    wire.send(rst(1))
    assert wire.send(headers(9)) == []
    assert wire.services.streams.open.value == 2


async def test_resets_of_streams_that_were_answered_are_no_flood() -> None:
    wire = PeerWire(TIGHT._replace(max_streams=100))
    for number in range(1, 41, 2):
        wire.send(headers(number, WATCH), data(number, message()))
        wire.send(rst(number))
    assert wire.faults == {}
    assert wire.services.health.watchers == 0
    # After a stream's end they have no effect; that is a bound of its own.
    for number in range(41, 101, 2):
        wire.send(headers(number, LIST), data(number, message()))
        wire.send(rst(number))
    assert wire.faults == {"useless_frames": 1}


def test_header_blocks_within_the_bounds() -> None:
    wire = Wire(TIGHT)
    encoded = block()
    pieces = [continuation(1, encoded[n : n + 1], whole=False) for n in range(2)]
    assert len(wire.send(headers(1, b"", whole=False), *pieces, continuation(1, encoded[2:]))) == 1


class TestTime:
    """Each timer, tick by tick."""

    async def overdue(self, wire: PeerWire, seconds: float, code: str, reason: str, logged: list[Any]) -> list[str]:
        wire.sent()
        before = wire.wait(seconds - wire.server.tick_s)
        assert (wire.faults, wire.transport.asked) == ({}, [])
        told = wire.wait(wire.server.tick_s)
        assert told[-1].endswith(code)
        assert wire.faults == {reason: 1}
        assert (logged[-1]["event"], logged[-1]["reason"], logged[-1]["code"]) == ("connection ended", reason, code)
        assert wire.transport.asked == ["write eof"]
        return before

    @pytest.mark.parametrize("start", [b"", PREFACE[:10], PREFACE, PREFACE + bytes(settings())[:5]])
    async def test_to_finish_the_preface(self, start: bytes, logged: list[Any]) -> None:
        wire = PeerWire(greet=False)
        if start:
            wire.send(start)
        await self.overdue(wire, 10, "PROTOCOL_ERROR", "preface_timeout", logged)

    async def test_to_acknowledge_our_settings(self, logged: list[Any]) -> None:
        wire = PeerWire(greet=False)
        wire.send(PREFACE, settings())
        await self.overdue(wire, 30, "SETTINGS_TIMEOUT", "settings_timeout", logged)

    async def test_of_silence(self, logged: list[Any]) -> None:
        wire = PeerWire()
        assert await self.overdue(wire, 80, "NO_ERROR", "keepalive_timeout", logged) == ["PING b'keepaliv'"]

    async def test_of_silence_that_a_ping_ends(self) -> None:
        wire = PeerWire()
        wire.sent()
        for _ in range(3):
            assert wire.wait(79) == ["PING b'keepaliv'"]
            wire.send(ping(b"keepaliv", ack=True))
        assert wire.faults == {}

    async def test_without_a_stream_is_no_fault(self) -> None:
        wire = PeerWire(H2Limits(idle_timeout_s=100, keepalive_s=0))
        wire.sent()
        assert wire.wait(99) == []
        assert wire.wait(1) == ["GOAWAY 2147483647 NO_ERROR", "PING b'draining'"]
        assert wire.send(ping(b"draining", ack=True)) == ["GOAWAY 0 NO_ERROR"]
        assert wire.transport.asked == ["write eof"]
        assert wire.faults == {}

    async def test_with_a_stream_is_not_idle(self) -> None:
        wire = PeerWire(H2Limits(idle_timeout_s=100, keepalive_s=0))
        wire.send(headers(1))
        assert wire.wait(1000) == []
        wire.send(rst(1))
        assert wire.wait(99) == []
        assert len(wire.wait(1)) == 2

    @pytest.mark.parametrize("blocked", ["stream", "connection"])
    async def test_for_a_window(self, blocked: str, logged: list[Any]) -> None:
        wire = PeerWire(H2Limits(window_timeout_s=100, keepalive_s=0))
        if blocked == "stream":
            wire.send(settings(INITIAL_WINDOW_SIZE=10))
        else:
            wire.peer._connection.outbox.window = 10
        wire.send(headers(1, LIST), data(1, message(), end=True))
        wire.wait(99)
        assert wire.resets == {}
        wire.send(window(1 if blocked == "stream" else 0, 1))  # little, but it moves
        wire.wait(1)
        assert wire.wait(99) == []
        assert wire.wait(1) == ["RST_STREAM 1 CANCEL"]
        assert wire.resets == {"window_timeout": 1}
        assert (logged[-1]["event"], logged[-1]["reason"]) == ("stream reset", "window_timeout")
        assert wire.faults == {}

    async def test_to_read(self, logged: list[Any]) -> None:
        wire = PeerWire()
        wire.send(headers(1))
        wire.peer.pause_writing()
        wire.sent()
        wire.wait(59)
        assert wire.faults == {}
        assert wire.wait(1) == ["GOAWAY 1 ENHANCE_YOUR_CALM"]
        assert wire.transport.asked == ["pause", "abort"]
        assert wire.faults == {"peer_does_not_read": 1}
        assert logged[-1]["reason"] == "peer_does_not_read"
        wire.lose()
        assert wire.ended == {"CANCELLED": 1}

    async def test_to_read_what_was_written(self) -> None:
        wire = PeerWire()
        for _ in range(3):
            wire.peer.pause_writing()
            wire.wait(59)
            wire.peer.resume_writing()
            wire.wait(1)
        assert wire.transport.asked == ["pause", "resume"] * 3
        assert wire.faults == {}

    async def test_that_is_off(self) -> None:
        off = H2Limits(
            preface_timeout_s=0, settings_timeout_s=0, idle_timeout_s=0, keepalive_s=0, window_timeout_s=0, read_timeout_s=0
        )
        wire = PeerWire(off, greet=False)
        wire.sent()
        wire.wait(10_000)
        wire.send(PREFACE, settings())
        wire.sent()
        assert wire.wait(10_000) == []
        wire.peer.pause_writing()
        assert wire.wait(10_000) == []
        assert wire.faults == {}

    async def test_is_looked_at_often_enough(self) -> None:
        assert PeerWire(H2Limits(preface_timeout_s=0.4)).server.tick_s == 0.1
        assert PeerWire().server.tick_s == 1.0


async def test_a_socket_buffers_no_more_than_this() -> None:
    assert PeerWire().transport.high == 2**20


def large(wire: PeerWire, stream: int, pieces: int) -> None:
    """A body that goes on, in pieces of 12,000 bytes."""
    wire.send(headers(stream), data(stream, message(messages.request_headers())))
    for _ in range(pieces):
        wire.send(data(stream, message(messages.request_body(b"x" * 12_000))))


async def test_bodies_that_wait_and_nobody_goes_on(logged: list[Any]) -> None:
    """One was let go on, sends nothing more, and the other waits for it: who holds most is answered, and the other goes on."""
    wire = PeerWire(H2Limits(stream_window=65_535), services=services_of(FakeDecider(), held=Held(400_000)))
    large(wire, 1, 14)
    large(wire, 3, 10)
    assert len(wire.services.held.waiting) == 1
    assert wire.wait(4) == []
    told = wire.wait(2)
    assert "HEADERS 1 grpc-status=0 end" in told
    assert [line for line in told if line.startswith("WINDOW_UPDATE 3 ")]
    assert wire.resets == {"held_too_much": 1}
    assert (logged[-1]["event"], logged[-1]["reason"]) == ("stream reset", "held_too_much")
    assert wire.wait(20) == []


async def test_bodies_beyond_the_bound_are_given_up_at_once() -> None:
    """Streams that only use their first windows: the largest is answered, whoever else sends."""
    wire = PeerWire(services=services_of(FakeDecider(), held=Held(100_000)))
    large(wire, 1, 4)
    large(wire, 3, 3)
    assert wire.resets == {}
    assert wire.services.held.bytes < 100_000
    told = wire.send(headers(5), data(5, message(messages.request_headers()) + message(messages.request_body(b"x" * 16_000))))
    assert "HEADERS 1 grpc-status=0 end" in told
    assert wire.resets == {"held_too_much": 1}
    assert wire.services.held.bytes < 100_000
    wire.lose()
    assert (wire.services.held.bytes, wire.services.held.holders) == (0, {})
