"""A decision that is taken back: 429 as long as nothing of the answer has come, and nothing of that afterwards."""

from __future__ import annotations

import pytest

from extproc.domain import Decision, Lease
from extproc.errors import RequestEvicted
from extproc.protocol import BodyMode, Event, ReplyImmediately
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    DEADLINE,
    EVICTED,
    FDS,
    NONE,
    RESPONSE_TRAILERS,
    STREAMED,
    Peer,
    body,
    config,
    head,
    headers,
    response,
    response_body,
)

LEASE = Lease()
ON_LEASE = Decision(lease=LEASE)


def decided(
    mode: BodyMode = FDS, decision: Decision = ON_LEASE, path: str = "/v1/chat/completions", request_mode: BodyMode = FDS
) -> Peer:
    peer = Peer(outcome=decision)
    events = [] if request_mode is NONE else [body(b"abc", end=True)]
    peer.send(headers(config(request_mode, mode), of=head(path)), *events)
    return peer


def may(peer: Peer) -> bool:
    return peer.stream.may_be_evicted


def test_it_is_told_with_the_decision_and_to_no_other() -> None:
    peer = Peer(outcome=ON_LEASE)
    assert peer.send(headers(), body(b"abc", end=True)) == [
        "decide on 'abc'",
        "request headers with decision",
        "request chunk 'abc' end",
        "may be evicted",
    ]
    assert not [line for line in Peer().send(headers(), body(b"abc", end=True)) if "evicted" in line]


@pytest.mark.parametrize("request_mode", [FDS, STREAMED, BUFFERED, NONE])
@pytest.mark.parametrize("mode", BodyMode)
def test_before_the_answer(mode: BodyMode, request_mode: BodyMode) -> None:
    peer = decided(mode, request_mode=request_mode)
    assert may(peer)
    assert peer.send(EVICTED) == ["answer 429 request_evicted"]
    assert not may(peer)
    assert peer.send(response(200), response_body(b"late", end=True), EVICTED, DEADLINE) == []
    assert peer.send(CLOSED) == ["finished 429"]


def test_headers_and_nothing_yet() -> None:
    """Engines that stream say 200 before they have begun: these headers are held back, and the client can still be told."""
    peer = decided()
    assert peer.send(response(200)) == []
    assert may(peer)
    assert peer.send(EVICTED) == ["answer 429 request_evicted"]
    assert peer.send(response_body(b"late"), RESPONSE_TRAILERS, CLOSED) == ["finished 429"]


@pytest.mark.parametrize(
    "begun",
    [
        [response(200), response_body(b"data: 1")],
        [response(200), response_body(b"{}", end=True)],
        [response(200), RESPONSE_TRAILERS],
        [response(204, end=True)],
        [response(500)],
        [response(0), response_body(b"{")],
        [response_body(b"{")],
        [RESPONSE_TRAILERS],
    ],
)
def test_an_answer_that_has_begun_is_left_alone(begun: list[Event]) -> None:
    peer = decided()
    peer.send(*begun)
    assert not may(peer)
    assert peer.send(EVICTED) == []
    assert "PASSING" in repr(peer.stream)


@pytest.mark.parametrize("mode", [NONE, STREAMED, BUFFERED])
def test_where_bodies_are_not_held_headers_are_the_beginning(mode: BodyMode) -> None:
    peer = decided(mode)
    assert peer.send(response(200)) == ["response headers"]
    assert peer.send(EVICTED) == []


@pytest.mark.parametrize("falls_back", [False, True])
def test_whoever_is_left_is_asked(falls_back: bool) -> None:
    peer = decided(decision=ON_LEASE._replace(falls_back=falls_back), path="/serving-endpoints/ep/invocations")
    (action,) = peer.actions([EVICTED])
    assert isinstance(action, ReplyImmediately)
    assert isinstance(action.answer, RequestEvicted)
    assert (action.answer.falls_back, action.answer.to_databricks, action.answer.retry_after_s) == (falls_back, True, 3)


def test_before_a_decision_and_after_the_stream_nothing_may_be_taken_back() -> None:
    peer = Peer(outcome=ON_LEASE)
    peer.send(headers())
    assert not may(peer)
    peer = decided()
    assert peer.send(CLOSED, EVICTED) == ["finished 0"]
    assert not may(peer)
