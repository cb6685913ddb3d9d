"""A request that is undecided when its time is over is answered; what is decided takes as long as it likes."""

from __future__ import annotations

import pytest

from extproc.domain import Reply
from extproc.errors import NoEndpoints
from extproc.protocol import BodyMode, StreamLimits
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    DEADLINE,
    FDS,
    PARTIAL,
    STREAMED,
    TRAILERS,
    Peer,
    body,
    failed,
    fallback,
    headers,
    made,
    response,
)


@pytest.mark.parametrize("mode", [FDS, STREAMED, BUFFERED, PARTIAL])
def test_a_body_that_does_not_come(mode: BodyMode) -> None:
    peer = Peer(fallback(mode, early=True))
    peer.send(headers())
    assert peer.send(DEADLINE) == ["answer 408 request_timeout"]
    assert peer.send(body(b"late"), TRAILERS, response(408), CLOSED) == []
    assert peer.asked == []


def test_half_a_body_is_let_go() -> None:
    peer = Peer()
    peer.send(headers(), body(b"half"))
    assert peer.send(DEADLINE) == ["answer 408 request_timeout"]
    assert "held=0" in repr(peer.stream)


def test_no_headers() -> None:
    peer = Peer()
    assert peer.send(DEADLINE, CLOSED) == ["answer 408 request_timeout"]


def test_the_time_is_told() -> None:
    (action,) = Peer(StreamLimits(request_timeout_s=1.5)).actions([DEADLINE])
    assert "1.5 s" in str(action)


class TestADirectorThatTakesItsTime:
    def test_is_not_waited_for(self) -> None:
        peer = Peer(outcome=None)
        peer.send(headers(), body(b"whole", end=True))
        assert peer.send(DEADLINE) == ["withdraw", "answer 504 decision_timeout"]
        assert "held=0" in repr(peer.stream)

    def test_gets_its_decision_back(self) -> None:
        peer = Peer(outcome=None)
        peer.send(headers(end=True), DEADLINE)
        assert peer.send(made()) == ["finished 0"]
        assert peer.send(CLOSED) == []

    def test_may_say_something_else_too_late(self) -> None:
        for outcome in (made(Reply(200, b"")), failed(NoEndpoints("none"))):
            peer = Peer(outcome=None)
            assert peer.send(headers(end=True), DEADLINE, outcome, CLOSED)[2:] == ["answer 504 decision_timeout"]


@pytest.mark.parametrize("mode", list(BodyMode))
def test_after_the_decision_nothing_happens(mode: BodyMode) -> None:
    peer = Peer(fallback(mode))
    peer.send(headers(end=True))
    assert peer.send(DEADLINE) == []
    assert peer.send(response(200, end=True), DEADLINE) == ["response headers", "finished 200 complete"]
    assert peer.send(CLOSED, DEADLINE) == []


def test_after_an_answer_of_ours_nothing_happens() -> None:
    assert Peer(outcome=NoEndpoints("none")).send(headers(end=True), DEADLINE) == ["decide on ''", "answer 503 no_endpoints"]


class TestWhatComesWhileTheDirectorThinks:
    def test_counts_as_body(self) -> None:
        peer = Peer(fallback(FDS)._replace(max_body_bytes=8), outcome=None)
        peer.send(headers(), body(b"12345", end=True), body(b"678"))
        assert peer.send(body(b"9")) == ["withdraw", "answer 413 body_too_large"]
        assert "held=0" in repr(peer.stream)
        assert peer.send(made(), CLOSED) == ["finished 0"]

    def test_is_not_kept_when_envoy_keeps_it(self) -> None:
        peer = Peer(fallback(STREAMED)._replace(max_body_bytes=8), outcome=None)
        peer.send(headers())
        assert peer.send(*[body(b"1234567")] * 3, body(end=True)) == []
        assert peer.send(made()) == ["request headers with decision", *["request body"] * 4]
