"""An answer of an attempt behind which another one is left: nothing of it goes on before it is sure to be the answer."""

from __future__ import annotations

import pytest

from extproc import names
from extproc.domain import NO_MUTATION, Decision, HeaderMutation, is_failure
from extproc.protocol import BodyMode, Event, ReplyResponseHeaders
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    FDS,
    NONE,
    RESPONSE_TRAILERS,
    STREAMED,
    Peer,
    body,
    config,
    headers,
    response,
    response_body,
)

NEXT = HeaderMutation(set_headers=((names.NEXT_ENTITY_HEADER, "1"),))


def decided(mode: BodyMode = FDS, decision: Decision = Decision(falls_back=True)) -> Peer:
    peer = Peer(outcome=decision)
    peer.send(headers(config(FDS, mode)), body(b"abc", end=True))
    return peer


def mutation(peer: Peer, status: int, *, end: bool = False) -> HeaderMutation:
    (reply,) = [each for each in peer.actions([response(status, end=end)]) if isinstance(each, ReplyResponseHeaders)]
    return reply.mutation


@pytest.mark.parametrize("mode", BodyMode)
@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 529, 599])
def test_a_failure_says_that_another_is_left(status: int, end: bool, mode: BodyMode) -> None:
    assert is_failure(status)
    assert mutation(decided(mode), status, end=end) == NEXT
    assert mutation(decided(mode, Decision()), status, end=end) == NO_MUTATION


@pytest.mark.parametrize("status", [0, 200, 201, 204, 301, 400, 401, 403, 404, 408, 413, 422, 499])
def test_other_answers_do_not(status: int) -> None:
    assert not is_failure(status)
    assert mutation(decided(NONE), status) == NO_MUTATION
    assert mutation(decided(FDS), status, end=True) == NO_MUTATION


def test_it_stands_beside_what_the_decision_says() -> None:
    said = HeaderMutation((), (("served-model-name", "a"),))
    assert mutation(decided(decision=Decision(response=said, falls_back=True)), 503) == HeaderMutation(
        (), (*said.set_headers, *NEXT.set_headers)
    )


def test_headers_wait_for_the_first_piece() -> None:
    peer = decided()
    assert peer.send(response(200)) == []
    assert peer.send(response_body(b"data: 1")) == ["response headers", "response chunk 'data: 1'"]
    assert peer.send(response_body(b"data: 2", end=True)) == ["response chunk 'data: 2' end", "finished 200 complete"]


@pytest.mark.parametrize(("events", "echoes"), [([response()], False), ([response(), response_body(b"a")], True)])
def test_the_first_piece_is_no_echo(events: list[Event], echoes: bool) -> None:
    peer = decided()
    peer.send(*events)
    assert peer.stream.echoes is echoes


def test_a_body_of_one_piece() -> None:
    peer = decided()
    peer.send(response(200))
    assert peer.send(response_body(b"{}", end=True)) == [
        "response headers",
        "response chunk '{}' end",
        "finished 200 complete",
    ]


def test_trailers_without_a_body() -> None:
    peer = decided()
    peer.send(response(200))
    assert peer.send(RESPONSE_TRAILERS) == ["response headers", "response trailers", "finished 200 complete"]


def test_cut_before_the_first_piece() -> None:
    peer = decided()
    peer.send(response(200))
    assert peer.send(CLOSED) == ["finished 200"]


def test_a_failure_is_not_held() -> None:
    assert decided().send(response(503)) == ["response headers"]


@pytest.mark.parametrize("mode", [NONE, STREAMED, BUFFERED])
def test_where_pieces_wait_for_the_headers_nothing_is_held(mode: BodyMode) -> None:
    assert decided(mode).send(response(200)) == ["response headers"]


def test_nobody_else_is_left() -> None:
    assert decided(decision=Decision()).send(response(200)) == ["response headers"]
