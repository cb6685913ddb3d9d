"""Turns of large decisions, and sessions that wait for theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from extproc.domain import Decision
from extproc.errors import ProtocolError
from extproc.protocol import StreamLimits
from extproc.transport.codec import Encoder
from extproc.transport.held import overloaded
from extproc.transport.session import Session
from extproc.transport.turns import Turns
from tests.fakes import messages
from tests.fakes.clock import FakeClock
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import data, headers, message
from tests.fakes.waiting import FakeCarrier
from tests.fakes.wire import CallWire, services_of

LIMITS = StreamLimits(large_body_bytes=100, request_timeout_s=0)
LARGE = b'{"model": "m", "prompt": "' + b"x" * 200 + b'"}'


class TestTurns:
    def test_behind_each_is_a_pause_as_long_as_it_took(self) -> None:
        clock, timers = FakeClock(), list[tuple[float, Callable[[], None]]]()
        turns = Turns(lambda delay_s, call: timers.append((delay_s, call)), clock)
        done: list[str] = []

        def work(name: str, seconds: float) -> Callable[[], None]:
            def take() -> None:
                clock.advance(seconds)
                done.append(name)

            return take

        def fire() -> float:
            delay_s, call = timers.pop()
            call()
            return delay_s

        turns.ask(work("a", 3))
        turns.ask(work("b", 1))
        assert (done, len(timers)) == ([], 1)
        assert fire() == 0
        assert done == ["a"]
        assert fire() == 3
        assert done == ["a", "b"]
        turns.ask(work("c", 0))
        assert fire() == 1
        assert fire() == 0
        assert (done, timers) == (["a", "b", "c"], [])
        turns.ask(work("d", 0))
        assert fire() == 0

    def test_one_that_fails_takes_no_other_along(self) -> None:
        timers: list[Callable[[], None]] = []
        turns = Turns(lambda delay_s, call: timers.append(call), FakeClock())
        done: list[int] = []
        turns.ask(lambda: done.append(1 // 0))
        turns.ask(lambda: done.append(2))
        with pytest.raises(ZeroDivisionError):
            timers.pop()()
        timers.pop()()
        assert done == [2]


class TestASession:
    def late(self, mode: int = 4) -> tuple[Session, FakeCarrier, FakeDecider]:
        decider = FakeDecider(Decision())
        session = Session(decider, Encoder(), LIMITS)
        carrier = FakeCarrier(session, takes_turns=True)
        session.receive(messages.request_headers(modes=(mode, 0)))
        assert session.receive(messages.request_body(LARGE, end=True)) == []
        assert (carrier.turns, decider.asked, session.is_late, session.is_waiting) == (1, [], True, True)
        return session, carrier, decider

    @pytest.mark.parametrize("mode", [2, 3, 4])
    def test_decides_in_its_turn(self, mode: int) -> None:
        _, carrier, decider = self.late(mode)
        carrier.take_turn()
        assert len(carrier.answers) > 0
        assert [question.body for question in decider.asked] == [LARGE]

    def test_what_comes_meanwhile_comes_behind(self) -> None:
        session, carrier, _ = self.late()
        assert session.receive(messages.response_headers(end=True)) == []
        carrier.take_turn()
        assert messages.kinds(carrier.answers)[-1] == "response_headers"

    def test_an_answer_that_began_before_comes_in_order(self) -> None:
        """Envoy's own answer to a request that is still under way: its small pieces are echoed without being read."""
        decider = FakeDecider(Decision())
        session = Session(decider, Encoder(), LIMITS)
        carrier = FakeCarrier(session, takes_turns=True)
        session.receive(messages.request_headers(modes=(4, 4)))
        session.receive(messages.response_headers())
        session.receive(messages.request_body(LARGE, end=True))
        pieces = [b"a" * 20_000, b"b", b"c" * 20_000, b"d"]
        for piece in pieces:
            carrier.answers += session.receive(messages.response_body(piece))
        carrier.take_turn()
        answers = [answer for answer in messages.answers(carrier.answers) if answer.HasField("response_body")]
        assert [answer.response_body.response.body_mutation.streamed_response.body for answer in answers] == pieces

    def test_a_peer_that_breaks_the_protocol_meanwhile(self) -> None:
        session, carrier, _ = self.late()
        session.receive(messages.request_headers())
        with pytest.raises(ProtocolError):
            carrier.take_turn()

    def test_trailers_that_end_it(self) -> None:
        decider = FakeDecider(Decision())
        session = Session(decider, Encoder(), LIMITS)
        carrier = FakeCarrier(session, takes_turns=True)
        session.receive(messages.request_headers())
        session.receive(messages.request_body(LARGE))
        assert carrier.turns == 0
        session.receive(messages.request_trailers())
        assert (carrier.turns, decider.asked) == (1, [])
        carrier.take_turn()
        assert len(decider.asked) == 1

    @pytest.mark.parametrize("how", ["closed", "expire", "give_up"])
    def test_that_is_over_before_its_turn(self, how: str) -> None:
        session, carrier, decider = self.late()
        if how == "closed":
            session.closed()
        elif how == "expire":
            assert len(session.expire()) == 1
        else:
            (answer,) = session.give_up(overloaded())
            assert b"overloaded" in answer
            assert b"retry-after" in answer
        carrier.take_turn()
        assert (carrier.answers, decider.asked) == ([], [])

    def test_small_ones_and_carriers_without_turns_decide_at_once(self) -> None:
        for body, takes_turns, asked in ((b"{}", True, 0), (LARGE, False, 1)):
            decider = FakeDecider(Decision())
            session = Session(decider, Encoder(), LIMITS)
            carrier = FakeCarrier(session, takes_turns=takes_turns)
            session.receive(messages.request_headers())
            assert session.receive(messages.request_body(body, end=True))
            assert (carrier.turns, len(decider.asked)) == (asked, 1)


class TestACall:
    def wire(self) -> tuple[CallWire, list[Callable[[], None]]]:
        timers: list[Callable[[], None]] = []
        turns = Turns(lambda delay_s, call: timers.append(call), FakeClock())
        return CallWire(services=services_of(FakeDecider(Decision()), limits=LIMITS, turns=turns)), timers

    def test_is_answered_in_its_turn_and_holds_until_then(self) -> None:
        wire, timers = self.wire()
        raws = [messages.request_headers(modes=(4, 0)), messages.request_body(LARGE, end=True)]
        assert wire.send(headers(1), data(1, b"".join(map(message, raws)))) == []
        assert wire.services.held.bytes > len(LARGE)
        assert len(wire.send(headers(3), data(3, message(messages.request_headers(modes=(0, 0), end=True))))) > 1
        timers.pop()()
        assert wire.woken == 1
        assert len(wire.sent()) > 1
        assert wire.services.held.bytes == 0

    def test_whose_peer_has_sent_all_is_answered_and_ends(self) -> None:
        wire, timers = self.wire()
        raws = [messages.request_headers(modes=(4, 0)), messages.request_body(LARGE, end=True)]
        assert wire.send(headers(1), data(1, b"".join(map(message, raws)), end=True)) == []
        timers.pop()()
        out = wire.sent()
        assert out[-1] == "HEADERS 1 grpc-status=0 end"
        assert len(out) > 2
        assert (wire.open, wire.ended) == (0, {"OK": 1})

    def test_that_is_gone_before_its_turn(self) -> None:
        wire, timers = self.wire()
        raws = [messages.request_headers(modes=(4, 0)), messages.request_body(LARGE, end=True)]
        wire.send(headers(1), data(1, b"".join(map(message, raws))))
        wire.calls.lost()
        assert wire.services.held.bytes == 0
        timers.pop()()
        assert wire.sent() == []
