"""A request for which there is no room is answered while it is undecided, and else let alone."""

from __future__ import annotations

import pytest

from extproc.protocol import BodyMode
from tests.fakes.events import BUFFERED, CLOSED, FDS, GIVEN_UP, PARTIAL, STREAMED, Peer, body, fallback, headers, made, response


@pytest.mark.parametrize("mode", [FDS, STREAMED, BUFFERED, PARTIAL])
def test_a_body_that_is_under_way(mode: BodyMode) -> None:
    peer = Peer(fallback(mode, early=True))
    peer.send(headers())
    if mode in (FDS, STREAMED):
        peer.send(body(b"half"))
    assert peer.send(GIVEN_UP) == ["answer 503 overloaded"]
    assert "held=0" in repr(peer.stream)
    assert peer.send(body(b"late"), GIVEN_UP, CLOSED, GIVEN_UP) == []
    assert peer.asked == []


def test_a_decision_that_waits_is_withdrawn() -> None:
    peer = Peer(outcome=None)
    peer.send(headers(), body(b"whole", end=True))
    assert peer.send(GIVEN_UP) == ["withdraw", "answer 503 overloaded"]
    assert peer.send(made()) == ["finished 0"]


def test_what_is_decided_goes_on() -> None:
    peer = Peer()
    peer.send(headers(end=True))
    assert peer.send(GIVEN_UP, response(200, end=True), GIVEN_UP) == ["response headers", "finished 200 complete"]
