"""The services on a connection: what is answered, with which status, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.domain import Decision, RequestHead
from extproc.protocol import StreamLimits
from extproc.transport.h2.frames import ErrorCode
from extproc.transport.h2.limits import H2Limits
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import (
    GRPC,
    PROCESS,
    Frame,
    block,
    data,
    goaway,
    headers,
    message,
    ping,
    rst,
    settings,
    window,
    with_path,
)
from tests.fakes.wire import CallWire, services_of

HEAD = "HEADERS 1 :status=200 content-type=application/grpc"
ONLY = "HEADERS 1 :status=200 content-type=application/grpc grpc-status={} end"
LIST, WATCH = (f"/grpc.health.v1.Health/{name}" for name in ("List", "Watch"))
REQUEST = message(messages.request_headers(modes=None, end=True))


def decider() -> FakeDecider:
    return FakeDecider(Decision(set_headers=(("x", "y"),), ticket=object()))


def status(told: list[str]) -> str:
    """The status and its message, from the last HEADERS."""
    line = next(line for line in reversed(told) if line.startswith("HEADERS"))
    return line[line.index("grpc-status=") :].removesuffix(" end")


def replace(name: str, value: str | None) -> bytes:
    """The usual fields with one of them changed, or left out."""
    kept = [(key, value if key == name and value is not None else old) for key, old in GRPC if key != name or value is not None]
    return block(kept if any(key == name for key, _ in GRPC) else [*GRPC, (name, value or "")])


class TestProcess:
    def test_a_stream(self) -> None:
        fake = decider()
        wire = CallWire(fake)
        told = wire.send(headers(1), data(1, REQUEST))
        assert told[0] == HEAD
        assert wire.open == 1
        assert wire.send(data(1, end=True)) == ["HEADERS 1 grpc-status=0 end"]
        assert (wire.open, wire.ended, wire.resets) == (0, {"OK": 1}, {})
        assert len(fake.ended) == 1

    def test_messages_in_any_pieces(self) -> None:
        wire = CallWire(decider())
        wire.send(headers(1))
        told = [line for byte in REQUEST for line in wire.send(data(1, bytes([byte])))]
        assert [line.split()[0] for line in told] == ["HEADERS", "DATA"]

    def test_many_messages_in_one_frame(self) -> None:
        wire = CallWire(decider())
        first = messages.request_headers()
        told = wire.send(headers(1), data(1, message(first) + message(messages.request_body(b"{}", end=True)), end=True))
        assert [line.split()[0] for line in told] == ["HEADERS", "DATA", "DATA", "HEADERS"]
        assert status(told) == "grpc-status=0"

    def test_without_messages(self) -> None:
        wire = CallWire()
        assert wire.send(headers(1, end=True)) == [ONLY.format(0)]
        assert wire.ended == {"OK": 1}

    def test_streams_do_not_mix(self) -> None:
        wire = CallWire(decider())
        wire.send(headers(1), headers(3), data(1, REQUEST[:10]), data(3, REQUEST[:7]))
        assert wire.send(data(3, REQUEST[7:]))[0].startswith("HEADERS 3")
        assert wire.send(data(1, REQUEST[10:]))[0].startswith("HEADERS 1")
        assert wire.open == 2

    @pytest.mark.parametrize(
        ("frames", "told", "code"),
        [
            (message(b"\xff\xff"), "grpc-status=3 grpc-message=", "INVALID_ARGUMENT"),
            (REQUEST + REQUEST, "grpc-status=3 grpc-message=unexpected RequestHeaders", "INVALID_ARGUMENT"),
            (b"\1\0\0\0\1x", "grpc-status=13 grpc-message=compressed message", "INTERNAL"),
            (b"\0\0\x10\0\1", "grpc-status=8 grpc-message=message of 1048577 bytes", "RESOURCE_EXHAUSTED"),
        ],
    )
    def test_faults_of_the_peer(self, frames: bytes, told: str, code: str, logged: list[Any]) -> None:
        fake = decider()
        wire = CallWire(fake)
        out = wire.send(headers(1), data(1, frames))
        assert status(out).startswith(told)
        assert out[-1] == "RST_STREAM 1 NO_ERROR"
        assert (wire.open, wire.ended) == (0, {code: 1})
        assert len(fake.ended) == len(fake.asked)
        assert len(logged) == (code == "INVALID_ARGUMENT")
        assert wire.send(data(1, REQUEST)) == []

    def test_what_came_before_a_fault_is_answered(self) -> None:
        wire = CallWire(decider())
        out = wire.send(headers(1), data(1, REQUEST + b"\1\0\0\0\0"))
        assert [line.split()[0] for line in out] == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]

    def test_an_end_inside_a_message(self) -> None:
        wire = CallWire()
        out = wire.send(headers(1), data(1, REQUEST[:-1], end=True))
        assert status(out) == "grpc-status=13 grpc-message=the call ended inside a message"
        assert wire.ended == {"INTERNAL": 1}

    def test_a_fault_of_ours(self, logged: list[Any]) -> None:
        def broken(_: RequestHead) -> None:
            raise ZeroDivisionError

        wire = CallWire(services=services_of(FakeDecider(), limits=StreamLimits(scanner_of=broken)))
        wire.send(headers(1))
        call = wire.connection.streams[1].call
        request = message(messages.request_headers()) + message(messages.request_body(b"{}"))
        assert status(wire.send(data(1, request))) == "grpc-status=13 grpc-message=internal error"
        assert (wire.open, wire.ended) == (0, {"INTERNAL": 1})
        assert (logged[0]["log_level"], logged[0]["event"]) == ("error", "stream ended: a fault of ours")
        assert call.stream.call is None

    def test_a_reset(self) -> None:
        fake = decider()
        wire = CallWire(fake)
        wire.send(headers(1), data(1, REQUEST))
        assert wire.send(rst(1)) == []
        assert (wire.open, wire.ended, wire.resets) == (0, {"CANCELLED": 1}, {})
        assert len(fake.ended) == 1

    def test_a_reset_with_a_code_that_nobody_knows(self) -> None:
        wire = CallWire(decider())
        wire.send(headers(1), data(1, REQUEST))
        wire.send(Frame(3, 0, 1, b"\xff\xff\xff\xff"))
        assert (wire.open, wire.ended) == (0, {"CANCELLED": 1})

    def test_a_reset_by_us(self, logged: list[Any]) -> None:
        wire = CallWire(decider())
        wire.send(headers(1), data(1, REQUEST))
        assert wire.send(window(1, 0)) == ["RST_STREAM 1 PROTOCOL_ERROR"]
        assert (wire.open, wire.ended, wire.resets) == (0, {"CANCELLED": 1}, {"bad_window_update": 1})
        assert (logged[0]["event"], logged[0]["reason"]) == ("stream reset", "bad_window_update")

    def test_everything_in_one_read(self) -> None:
        """As in three: it is answered, over, and counted once."""
        fake = decider()
        wire, slow = CallWire(fake), CallWire(decider())
        lines = wire.send(headers(1), data(1, REQUEST), rst(1))
        assert lines == slow.send(headers(1)) + slow.send(data(1, REQUEST)) + slow.send(rst(1))
        assert [line.split()[0] for line in lines] == ["HEADERS", "DATA"]
        assert (wire.open, wire.ended) == (0, {"CANCELLED": 1})
        assert len(fake.ended) == len(fake.asked)

    def test_a_connection_that_is_lost(self) -> None:
        fake = decider()
        wire = CallWire(fake)
        wire.send(headers(1), data(1, REQUEST), headers(3), headers(5, with_path(WATCH)), data(5, message()))
        wire.calls.lost()
        wire.calls.lost()
        assert (wire.open, wire.ended) == (0, {"CANCELLED": 2})
        assert len(fake.ended) == 1
        assert wire.services.health.watchers == 0

    def test_a_connection_that_is_lost_with_answers_waiting(self) -> None:
        wire = CallWire(decider(), INITIAL_WINDOW_SIZE=0)
        wire.send(headers(1), data(1, REQUEST))
        outbox = wire.connection.outbox
        assert outbox.unsent > 0
        wire.calls.lost()
        assert (outbox.unsent, outbox.stuck()) == (0, [])

    def test_bodies_are_held_until_they_are_answered(self) -> None:
        wire = CallWire(decider())
        held = wire.services.held
        first, body = message(messages.request_headers()), messages.request_body(bytes(1000))
        wire.send(headers(1), data(1, first + message(body)))
        assert held.bytes == len(first + message(body))
        wire.send(data(1, message(messages.request_body(b"", end=True))))
        assert held.bytes == 0
        wire.send(headers(3), data(3, first + message(body)))
        wire.send(rst(3))
        assert held.bytes == 0

    def test_without_a_decider_there_is_no_such_method(self) -> None:
        wire = CallWire(services=services_of(None))
        assert status(wire.send(headers(1))) == "grpc-status=12 grpc-message=unknown method"
        assert wire.ended == {}


class TestLeaving:
    def test_answers_go_on_and_the_undecided_are_told(self) -> None:
        fake = decider()
        wire = CallWire(fake)
        done = [messages.request_headers(modes=(0, 0), end=True), messages.response_headers()]
        wire.send(headers(1), data(1, b"".join(map(message, done))))
        wire.send(headers(3), data(3, message(messages.request_headers())))
        wire.calls.leave()
        out = wire.sent()
        assert out[0] == "HEADERS 1 grpc-status=0 end"
        assert "grpc-status=14 grpc-message=the server is shutting down" in out[2]
        assert (wire.open, wire.ended) == (0, {"OK": 1, "UNAVAILABLE": 1})
        wire.calls.leave()
        assert wire.sent() == []

    def test_watchers_are_told(self) -> None:
        wire = CallWire()
        wire.send(headers(1, with_path(WATCH)), data(1, message()))
        wire.calls.leave()
        assert status(wire.sent()).startswith("grpc-status=14")
        assert wire.services.health.watchers == 0


class TestTimeouts:
    def test_a_call_that_takes_too_long(self) -> None:
        fake = decider()
        wire = CallWire(fake)
        wire.send(headers(1, with_path(PROCESS, ("grpc-timeout", "1500m"))), data(1, REQUEST))
        assert [timer.seconds for timer in wire.timers.waiting] == [1.5]
        wire.timers.fire()
        assert wire.woken == 1
        assert wire.sent()[0] == "HEADERS 1 grpc-status=4 grpc-message=the call's grpc-timeout is over end"
        assert (wire.open, wire.ended) == (0, {"DEADLINE_EXCEEDED": 1})
        assert len(fake.ended) == 1

    @pytest.mark.parametrize("how", ["end", "reset", "lost"])
    def test_a_call_that_is_over_leaves_no_timer(self, how: str) -> None:
        """Or calls with long timeouts would pile up."""
        wire = CallWire(decider())
        wire.send(headers(1, with_path(PROCESS, ("grpc-timeout", "1H"))), data(1, REQUEST))
        if how == "lost":
            wire.calls.lost()
        else:
            wire.send(data(1, end=True) if how == "end" else rst(1))
        assert wire.timers.waiting == []

    @pytest.mark.parametrize("path", [PROCESS, LIST, "/other"])
    def test_one_that_is_malformed(self, path: str) -> None:
        wire = CallWire()
        out = wire.send(headers(1, with_path(path, ("grpc-timeout", "soon"))))
        assert status(out).startswith("grpc-status=13 grpc-message=malformed grpc-timeout")
        assert (wire.ended, wire.timers.waiting) == ({}, [])


class TestOtherRequests:
    @pytest.mark.parametrize("path", ["/", "/other", PROCESS + "x", PROCESS.lower(), "/grpc.health.v1.Health/check", "*"])
    def test_methods_that_we_do_not_have(self, path: str) -> None:
        wire = CallWire()
        assert wire.send(headers(1, with_path(path))) == [
            ONLY.format("12 grpc-message=unknown method"),
            "RST_STREAM 1 NO_ERROR",
        ]
        assert (wire.open, wire.ended) == (0, {})

    @pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "post"])
    def test_http_methods(self, method: str) -> None:
        wire = CallWire()
        assert wire.send(headers(1, replace(":method", method), end=True)) == [
            "HEADERS 1 :status=405 content-type=text/plain allow=POST",
            "DATA 1 49 bytes",
            "DATA 1 end",
        ]

    def test_an_answer_to_head_has_no_content(self) -> None:
        assert CallWire().send(headers(1, replace(":method", "HEAD"), end=True)) == [
            "HEADERS 1 :status=405 content-type=text/plain allow=POST",
            "DATA 1 end",
        ]

    @pytest.mark.parametrize("content_type", [None, "application/json", "application/grpc-web", "application/grpcx", ""])
    def test_content_types(self, content_type: str | None) -> None:
        wire = CallWire()
        assert wire.send(headers(1, replace("content-type", content_type)), data(1, b"{}")) == []
        assert wire.send(data(1, end=True))[0] == "HEADERS 1 :status=415 content-type=text/plain"

    @pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc"])
    def test_content_types_of_grpc(self, content_type: str) -> None:
        wire = CallWire()
        assert wire.send(headers(1, replace("content-type", content_type), end=True)) == [ONLY.format(0)]

    def test_te_is_not_asked_for(self) -> None:
        assert CallWire().send(headers(1, replace("te", None), end=True)) == [ONLY.format(0)]

    def test_encodings(self) -> None:
        wire = CallWire()
        out = wire.send(headers(1, replace("grpc-encoding", "gzip")))
        assert out[0].startswith(
            "HEADERS 1 :status=200 content-type=application/grpc grpc-status=12 grpc-message=grpc-encoding 'gzip' is not"
        )
        assert "grpc-accept-encoding=identity" in out[0]
        assert wire.send(headers(3, replace("grpc-encoding", "identity"), end=True))[0].startswith("HEADERS 3")

    def test_that_are_reset_before_their_end(self) -> None:
        wire = CallWire()
        assert wire.send(headers(1, replace(":method", "GET")), data(1, b"x"), rst(1)) == []
        assert wire.send(headers(3, replace(":method", "GET")), rst(3)) == []

    def test_leaving(self) -> None:
        wire = CallWire()
        wire.send(headers(1, replace(":method", "GET")))
        wire.calls.leave()
        assert wire.connection.streams == {}


class TestTheConnection:
    def test_its_end_is_kept(self) -> None:
        wire = CallWire(decider())
        wire.send(headers(1), data(1, REQUEST), ping(b""))
        assert wire.calls.fault is not None
        assert wire.calls.fault.code is ErrorCode.FRAME_SIZE_ERROR
        assert wire.open == 1
        wire.calls.lost()
        assert wire.ended == {"CANCELLED": 1}

    def test_the_peers_goaway(self) -> None:
        wire = CallWire()
        wire.send(goaway())
        assert wire.calls.peer_leaves

    def test_the_answer_to_the_ping_of_a_drain(self) -> None:
        wire = CallWire()
        seen = []
        for payload in (b"keepaliv", b"draining", b"keepaliv"):
            wire.send(ping(payload, ack=True))
            seen.append(wire.calls.drain_answered)
        assert seen == [False, True, True]

    def test_a_stream_over_a_bound_in_time(self) -> None:
        wire = CallWire(decider(), H2Limits(), INITIAL_WINDOW_SIZE=0)
        wire.send(headers(1), data(1, REQUEST))
        wire.calls.reset(wire.connection.streams[1], ErrorCode.CANCEL, "window_timeout")
        assert wire.sent() == ["RST_STREAM 1 CANCEL"]
        assert (wire.open, wire.ended, wire.resets) == (0, {"CANCELLED": 1}, {"window_timeout": 1})

    def test_answers_wait_for_windows_and_the_status_for_them(self) -> None:
        wire = CallWire(decider(), INITIAL_WINDOW_SIZE=0)
        assert wire.send(headers(1), data(1, REQUEST, end=True)) == [HEAD]
        assert wire.ended == {"OK": 1}  # our part is done
        out = wire.send(settings(INITIAL_WINDOW_SIZE=1000))
        assert [line.split()[0] for line in out] == ["SETTINGS", "DATA", "HEADERS"]


def test_a_large_answer_in_frames() -> None:
    """The body's echo, through the peer's windows."""
    wire = CallWire(decider(), services=services_of(decider(), limits=StreamLimits()), INITIAL_WINDOW_SIZE=2**20)
    body = bytes(50_000)
    parts = message(messages.request_headers()) + message(messages.request_body(body, end=True))
    pieces = [data(1, parts[at : at + 16_384]) for at in range(0, len(parts), 16_384)]
    out = wire.send(headers(1), *pieces)
    assert [line.split()[0] for line in out] == ["HEADERS", "DATA", "DATA", "DATA", "DATA", "DATA"]
