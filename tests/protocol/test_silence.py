"""An answer that has to begin in time: 504 when it does not, and nothing of that afterwards."""

from __future__ import annotations

import pytest

from extproc.domain import Decision
from extproc.errors import ProviderSilent
from extproc.protocol import BodyMode, Event, ReplyImmediately
from tests.fakes.events import (
    CLOSED,
    FDS,
    NONE,
    RESPONSE_TRAILERS,
    SILENCE,
    Peer,
    body,
    config,
    head,
    headers,
    response,
    response_body,
)

PATIENT = Decision(patience_s=1.5)


def decided(mode: BodyMode = FDS, decision: Decision = PATIENT, path: str = "/v1/chat/completions") -> Peer:
    peer = Peer(outcome=decision)
    peer.send(headers(config(FDS, mode), of=head(path)), body(b"abc", end=True))
    return peer


def test_it_is_asked_for_with_the_decision() -> None:
    peer = Peer(outcome=PATIENT)
    assert peer.send(headers(), body(b"abc", end=True)) == [
        "decide on 'abc'",
        "request headers with decision",
        "request chunk 'abc' end",
        "silence in 1.5 s",
    ]
    assert not [line for line in Peer().send(headers(), body(b"abc", end=True)) if "silence" in line]


@pytest.mark.parametrize("mode", BodyMode)
def test_no_answer_at_all(mode: BodyMode) -> None:
    peer = decided(mode)
    assert peer.send(SILENCE) == ["answer 504 provider_silent"]
    assert peer.send(response(200), response_body(b"late", end=True), SILENCE) == []
    assert peer.send(CLOSED) == ["finished 504"]


def test_headers_and_then_nothing() -> None:
    """They are held back, so that the client can still be told."""
    peer = decided()
    assert peer.send(response(200)) == []
    assert peer.send(SILENCE) == ["answer 504 provider_silent"]
    assert peer.send(response_body(b"late"), RESPONSE_TRAILERS, CLOSED) == ["finished 504"]


@pytest.mark.parametrize(
    "begun",
    [
        [response(200), response_body(b"")],
        [response(200), response_body(b"data: 1")],
        [response(200), response_body(b"{}", end=True)],
        [response(200), RESPONSE_TRAILERS],
        [response(204, end=True)],
        [response(429)],
        [response(500)],
    ],
)
def test_an_answer_that_has_begun_is_left_alone(begun: list[Event]) -> None:
    peer = decided()
    peer.send(*begun)
    assert peer.send(SILENCE) == []
    assert "PASSING" in repr(peer.stream)


def test_where_bodies_are_not_seen_headers_are_the_beginning() -> None:
    peer = decided(NONE)
    assert peer.send(response(200)) == ["response headers"]
    assert peer.send(SILENCE) == []


@pytest.mark.parametrize("falls_back", [False, True])
def test_whoever_is_left_is_asked(falls_back: bool) -> None:
    peer = decided(decision=PATIENT._replace(falls_back=falls_back), path="/serving-endpoints/ep/invocations")
    (action,) = peer.actions([SILENCE])
    assert isinstance(action, ReplyImmediately)
    assert isinstance(action.answer, ProviderSilent)
    assert (action.answer.falls_back, action.answer.to_databricks) == (falls_back, True)
    assert "1.5 s" in action.answer.message


def test_after_the_stream_nothing_happens() -> None:
    peer = decided()
    assert peer.send(CLOSED, SILENCE) == ["finished 0"]
