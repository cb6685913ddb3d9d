"""The response half: passed on unread, and the end of it is the end of the request."""

from __future__ import annotations

import pytest

from extproc.domain import Decision
from extproc.protocol import BodyMode, Event, ReplyHeaders, StreamLimits
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    FDS,
    NONE,
    PARTIAL,
    RESPONSE_TRAILERS,
    STREAMED,
    TRAILERS,
    Peer,
    body,
    config,
    fallback,
    headers,
    response,
    response_body,
)


def decided(response_mode: BodyMode = FDS, limits: StreamLimits = StreamLimits()) -> Peer:
    """A peer whose request is over and decided."""
    peer = Peer(limits)
    peer.send(headers(config(FDS, response_mode)), body(b"abc", end=True))
    return peer


def test_full_duplex_bodies_are_echoed_piece_by_piece() -> None:
    peer = decided(FDS)
    assert peer.send(response(200)) == ["response headers"]
    assert peer.send(response_body(b"data: 1")) == ["response chunk 'data: 1'"]
    assert peer.send(response_body()) == ["response chunk ''"]
    assert peer.send(response_body(b"data: 2", end=True)) == [
        "response chunk 'data: 2' end",
        "finished 200 complete",
    ]


def test_large_pieces_are_split() -> None:
    peer = decided(FDS)
    peer.send(response())
    assert peer.send(response_body(b"x" * 130_000, end=True)) == [
        "response chunk 62000 bytes",
        "response chunk 62000 bytes",
        "response chunk 6000 bytes end",
        "finished 200 complete",
    ]


@pytest.mark.parametrize("mode", [STREAMED, BUFFERED, PARTIAL])
def test_other_modes_leave_the_body_alone(mode: BodyMode) -> None:
    peer = decided(mode)
    assert peer.send(response(), response_body(b"a"), response_body(b"b", end=True)) == [
        "response headers",
        "response body",
        "response body",
        "finished 200 complete",
    ]


def test_a_response_that_ends_with_its_headers() -> None:
    assert decided().send(response(204, end=True)) == ["response headers", "finished 204 complete"]


@pytest.mark.parametrize("mode", BodyMode)
def test_trailers_end_the_response(mode: BodyMode) -> None:
    peer = decided(mode)
    peer.send(response(503))
    assert peer.send(RESPONSE_TRAILERS) == ["response trailers", "finished 503 complete"]
    assert peer.send(CLOSED) == []


def test_without_bodies_the_end_of_the_stream_is_the_end_of_the_response() -> None:
    peer = decided(NONE)
    assert peer.send(response(200)) == ["response headers"]
    assert peer.send(CLOSED) == ["finished 200"]


def test_a_second_end_is_dropped() -> None:
    peer = decided(FDS)
    peer.send(response(), response_body(b"a", end=True))
    assert peer.send(response_body(end=True), CLOSED) == []


def test_headers_may_be_left_out() -> None:
    """`response_header_mode: SKIP`."""
    assert decided(FDS).send(response_body(b"a"), response_body(b"b", end=True)) == [
        "response chunk 'a'",
        "response chunk 'b' end",
        "finished 0 complete",
    ]


@pytest.mark.parametrize("ending", [response_body(b"a", end=True), RESPONSE_TRAILERS])
def test_the_first_message_of_a_response_may_be_its_last(ending: Event) -> None:
    assert decided(FDS).send(ending)[-1] == "finished 0 complete"


def test_the_response_may_begin_before_the_request_has_ended() -> None:
    """A local reply of Envoy, or an upstream that answers early: neither half waits for the other."""
    peer = Peer()
    assert peer.send(headers(), body(b"ab")) == []
    assert peer.send(response(408), response_body(b"late", end=True)) == [
        "response headers",
        "response chunk 'late' end",
    ]
    assert peer.send(body(b"c", end=True)) == [
        "decide on 'abc'",
        "request headers with decision",
        "request chunk 'abc' end",
    ]
    assert peer.send(CLOSED) == ["finished 408"]


def test_both_directions_interleave() -> None:
    peer = Peer(fallback(STREAMED))
    peer.send(headers())
    assert peer.send(body(b"a"), response(), body(b"b"), response_body(b"1"), TRAILERS, RESPONSE_TRAILERS) == [
        "request body",
        "response headers",
        "request body",
        "response chunk '1'",
        "request trailers",
        "response trailers",
        "finished 200 complete",
    ]


def test_changes_to_response_headers_come_from_the_settings() -> None:
    marker = Decision(set_headers=(("x-went-into-resp-headers", "true"),))
    peer = decided(FDS, StreamLimits(on_response_headers=marker))
    (reply,) = peer.actions([response()])
    assert isinstance(reply, ReplyHeaders)
    assert reply.decision is marker


def test_who_answered_is_kept() -> None:
    peer = decided()
    assert peer.stream.served == ""
    peer.send(response(served="10.0.0.7:8000"))
    assert peer.stream.served == "10.0.0.7:8000"
