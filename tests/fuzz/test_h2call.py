"""What may come of a call that is given up: a reset may cut an answer, nothing else may."""

from __future__ import annotations

import pytest

from extproc.transport.codec import joined
from extproc.transport.held import overloaded
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fuzz import wire as w
from tests.fuzz.exchange import body_message
from tests.fuzz.h2call import PoliteCall
from tests.fuzz.h2peer import ENCODER, OUTCOMES, STREAM_LIMITS

SENT = [
    messages.request_headers(
        {":method": b"POST", ":path": b"/v1/chat/completions", "content-type": b"application/json"}, modes=(4, 4)
    ),
    body_message(0x22, b'{"model":"m"', end=False),
    body_message(0x22, b',"a":1}', end=True),
]


@pytest.fixture
def call() -> PoliteCall:
    return PoliteCall(1, SENT, OUTCOMES[0])


@pytest.fixture
def whole(call: PoliteCall) -> bytes:
    return b"".join(map(w.grpc, call.expected))


@pytest.fixture
def refusal() -> bytes:
    session = Session(FakeDecider(OUTCOMES[0]), ENCODER, STREAM_LIMITS)
    answers = [*session.receive(SENT[0]), *session.receive(SENT[1]), *session.give_up(overloaded())]
    return b"".join(w.grpc(joined(answer)) for answer in answers)


def _seen(body: bytes, *, status: str | None = None, reset: int | None = None) -> w.Seen:
    trailers = None if status is None else {"grpc-status": status}
    return w.Seen(0, body=bytearray(body), trailers=trailers, ended=status is not None, reset=reset)


def test_a_reset_may_cut_it_anywhere(call: PoliteCall, whole: bytes, refusal: bytes) -> None:
    assert whole != refusal
    for body in (whole, refusal):
        assert all(call.gave_up(_seen(body[:size], reset=8)) for size in range(len(body) + 1))


def test_but_what_came_is_the_beginning_of_it(call: PoliteCall, whole: bytes) -> None:
    for at in range(len(whole)):
        changed = bytearray(whole[: at + 1])
        changed[at] ^= 1
        assert not call.gave_up(_seen(bytes(changed), reset=8))
    assert not call.gave_up(_seen(whole + b"\0", reset=8))


@pytest.mark.parametrize("reset", [None, 0])
def test_a_refusal_is_whole(call: PoliteCall, refusal: bytes, reset: int | None) -> None:
    assert call.gave_up(_seen(refusal, status="0", reset=reset))
    for size in range(len(refusal)):
        assert not call.gave_up(_seen(refusal[:size], status="0", reset=reset))


def test_a_status_comes_behind_whole_answers(call: PoliteCall, whole: bytes) -> None:
    ends = {sum(5 + len(answer) for answer in call.expected[:number]) for number in range(len(call.expected) + 1)}
    assert len(ends) > 1
    for size in range(len(whole) + 1):
        seen = _seen(whole[:size], status="8")
        if size in ends:
            assert call.gave_up(seen)
        else:
            with pytest.raises(AssertionError):
                call.gave_up(seen)


def test_what_comes_of_it_else_is_not_given_up(call: PoliteCall, whole: bytes, refusal: bytes) -> None:
    assert not call.gave_up(_seen(whole, status="0"))
    assert not call.gave_up(_seen(whole[:3], reset=2))
    assert not call.gave_up(_seen(refusal, status="8"))
    assert not call.gave_up(w.Seen(0, body=bytearray(whole), trailers={"grpc-status": "0"}, ended=True, reset=8))
