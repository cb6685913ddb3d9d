"""Requests that are decided on their headers whatever Envoy sends of their body: a WebSocket, or any body that nobody reads."""

from __future__ import annotations

import pytest

from extproc.domain import RequestHead
from extproc.protocol import BodyMode, OnHeaders, StreamLimits
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    DEADLINE,
    EARLY,
    FDS,
    HEAD,
    NONE,
    PARTIAL,
    STREAMED,
    TRAILERS,
    Peer,
    body,
    config,
    headers,
    response,
    response_body,
)

LIMITS = StreamLimits(8, on_headers=OnHeaders(lambda head: "upgrade" in head.headers, (b"upgrade",)))
UPGRADE = RequestHead({":method": b"GET", ":path": b"/v1/realtime", "upgrade": b"websocket"})


def opened(mode: BodyMode, limits: StreamLimits = LIMITS, *, early: bool = False, response_mode: BodyMode = NONE) -> Peer:
    peer = Peer(limits)
    said = peer.send(headers(config(mode, response_mode, early=early), of=UPGRADE))
    assert said == ["decide on nothing so far", "request headers with decision"]
    return peer


@pytest.mark.parametrize("mode", [FDS, BUFFERED, PARTIAL, STREAMED])
def test_the_handshake_goes_on_at_once(mode: BodyMode) -> None:
    opened(mode)


def test_both_directions_pass_and_nothing_is_held_or_bounded() -> None:
    peer = opened(FDS, response_mode=FDS)
    assert peer.send(response(101)) == ["response headers"]
    for _ in range(5):
        assert peer.send(body(b"ping-ping")) == ["request chunk 'ping-ping'"]
        assert peer.send(response_body(b"pong")) == ["response chunk 'pong'"]
    assert "held=0" in repr(peer.stream)
    assert peer.send(body(b"", end=True)) == ["request chunk '' end"]
    assert peer.send(CLOSED) == ["finished 101"]


@pytest.mark.parametrize(("mode", "early"), [(BUFFERED, False), (PARTIAL, False), (STREAMED, True), (STREAMED, False)])
def test_in_other_modes_each_piece_is_left_as_it_is(mode: BodyMode, early: bool) -> None:
    peer = opened(mode, early=early)
    assert peer.send(body(b"longer than the limit"), body(b"x", end=True)) == ["request body", "request body"]


def test_the_deadline_does_not_end_it() -> None:
    peer = opened(FDS)
    assert peer.send(DEADLINE) == []
    assert peer.send(body(b"x")) == ["request chunk 'x'"]


def test_trailers_pass() -> None:
    assert opened(FDS).send(body(b"x"), TRAILERS) == ["request chunk 'x'", "request trailers"]


def test_early_mode_does_not_read_along() -> None:
    peer = opened(FDS, LIMITS._replace(scanner_of=EARLY.scanner_of))
    assert peer.send(body(b"#"), body(b"!")) == ["request chunk '#'", "request chunk '!'"]


def test_other_requests_are_read_as_ever() -> None:
    peer = Peer(LIMITS)
    assert peer.send(headers(config(FDS), of=HEAD)) == []
    assert peer.send(body(b"abc", end=True))[0] == "decide on 'abc'"


def test_one_that_ends_with_its_headers_has_an_empty_body() -> None:
    assert Peer(LIMITS).send(headers(config(FDS), end=True, of=UPGRADE))[0] == "decide on ''"
