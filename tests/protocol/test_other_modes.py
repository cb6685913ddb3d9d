"""BUFFERED, BUFFERED_PARTIAL, STREAMED and NONE."""

from __future__ import annotations

import pytest

from extproc.protocol import BodyMode, StreamLimits
from tests.fakes.events import (
    BUFFERED,
    FDS,
    NONE,
    PARTIAL,
    STREAMED,
    TRAILERS,
    Peer,
    body,
    config,
    fallback,
    headers,
)


@pytest.fixture(params=["protocol_config", "fallback"])
def source(request: pytest.FixtureRequest) -> str:
    """Where the mode comes from."""
    name: str = request.param
    return name


def peer_in(mode: BodyMode, source: str, *, early: bool = False) -> tuple[Peer, list[str]]:
    """A peer that has sent its headers, and the answer to them."""
    if source == "fallback":
        peer = Peer(fallback(mode, early=early))
        return peer, peer.send(headers())
    peer = Peer(fallback(NONE if mode is not NONE else FDS))  # what the stream says wins
    return peer, peer.send(headers(config(mode, early=early)))


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
class TestBuffered:
    def test_headers_are_answered_at_once_and_changes_ride_on_the_body(self, mode: BodyMode, source: str) -> None:
        peer, said = peer_in(mode, source)
        assert said == ["request headers"]
        assert peer.send(body(b"abc", end=True)) == ["decide on 'abc'", "request body with decision"]

    def test_headers_only(self, mode: BodyMode) -> None:
        said = Peer(fallback(mode)).send(headers(end=True))
        assert said == ["decide on ''", "request headers with decision"]

    def test_trailers_follow_the_body(self, mode: BodyMode, source: str) -> None:
        peer, _ = peer_in(mode, source)
        assert peer.send(body(b"abc"))[-1] == "request body with decision"
        assert peer.send(TRAILERS) == ["request trailers"]

    def test_trailers_without_a_body_pass(self, mode: BodyMode, source: str) -> None:
        peer, _ = peer_in(mode, source)
        assert peer.send(TRAILERS) == ["request trailers"]
        assert peer.asked == []

    def test_a_second_end_is_dropped(self, mode: BodyMode, source: str) -> None:
        peer, _ = peer_in(mode, source)
        peer.send(body(b"abc", end=True))
        assert peer.send(body(end=True)) == []

    def test_empty_body(self, mode: BodyMode, source: str) -> None:
        peer, _ = peer_in(mode, source)
        assert peer.send(body(end=True)) == ["decide on ''", "request body with decision"]


def test_a_buffered_body_is_whole_even_if_trailers_follow(source: str) -> None:
    peer, _ = peer_in(BUFFERED, source)
    peer.send(body(b"abc"))
    assert peer.asked[0].complete


def test_a_partly_buffered_body_without_an_end_may_be_cut(source: str) -> None:
    peer, _ = peer_in(PARTIAL, source)
    assert peer.send(body(b"abc")) == ["decide on 'abc' so far", "request body with decision"]


class TestStreamed:
    def test_headers_are_decided_without_the_body(self, source: str) -> None:
        """Envoy sends the body only after the headers' reply, so there is nothing to wait for."""
        _, said = peer_in(STREAMED, source)
        assert said == ["decide on nothing", "request headers with decision"]

    def test_each_chunk_is_answered_once(self, source: str) -> None:
        peer, _ = peer_in(STREAMED, source)
        assert peer.send(body(b"a")) == ["request body"]
        assert peer.send(body(b"b", end=True)) == ["request body"]
        assert peer.send(body(end=True)) == []

    def test_trailers(self, source: str) -> None:
        peer, _ = peer_in(STREAMED, source)
        assert peer.send(body(b"a"), TRAILERS) == ["request body", "request trailers"]

    def test_body_that_does_not_wait_is_collected(self, source: str) -> None:
        peer, said = peer_in(STREAMED, source, early=True)
        assert said == []
        assert peer.send(body(b"ab"), body(b"c", end=True)) == [
            "decide on 'abc'",
            "request headers with decision",
            "request body",
            "request body",
        ]

    def test_collected_empty_chunks_are_answered_too(self, source: str) -> None:
        """Envoy waits for one reply for each chunk it sent, also for the empty one that ends an HTTP/2 body."""
        peer, _ = peer_in(STREAMED, source, early=True)
        said = peer.send(body(b"abc"), body(), body(end=True))
        assert said == ["decide on 'abc'", "request headers with decision", *["request body"] * 3]

    def test_collected_body_that_trailers_end(self, source: str) -> None:
        peer, _ = peer_in(STREAMED, source, early=True)
        assert peer.send(body(b"abc"), TRAILERS) == [
            "decide on 'abc'",
            "request headers with decision",
            "request body",
            "request trailers",
        ]

    def test_trailers_without_a_body(self, source: str) -> None:
        peer, _ = peer_in(STREAMED, source, early=True)
        assert peer.send(TRAILERS) == ["decide on ''", "request headers with decision", "request trailers"]

    def test_a_long_body_is_decided_on_its_beginning(self) -> None:
        """Envoy stops reading when its own buffer is full; waiting for the end would wait forever."""
        limits = StreamLimits(streamed_hold_bytes=4, fallback=config(STREAMED, early=True))
        peer = Peer(limits)
        assert peer.send(headers(), body(b"abc")) == []
        assert peer.send(body(b"d")) == [
            "decide on 'abcd' so far",
            "request headers with decision",
            "request body",
            "request body",
        ]
        assert peer.send(body(b"ef"), body(end=True)) == ["request body", "request body"]


class TestNone:
    def test_headers_are_decided_without_the_body(self, source: str) -> None:
        _, said = peer_in(NONE, source)
        assert said == ["decide on nothing", "request headers with decision"]

    def test_trailers(self, source: str) -> None:
        peer, _ = peer_in(NONE, source)
        assert peer.send(TRAILERS) == ["request trailers"]

    def test_a_request_that_has_no_body_is_known_whole(self) -> None:
        assert Peer(fallback(NONE)).send(headers(end=True))[0] == "decide on ''"


class TestTooLarge:
    @pytest.mark.parametrize("mode", [FDS, BUFFERED, PARTIAL])
    def test_over_the_limit_is_413(self, mode: BodyMode) -> None:
        peer = Peer(StreamLimits(max_body_bytes=3, fallback=config(mode)))
        assert peer.send(headers(), body(b"abcd"))[-1] == "answer 413 body_too_large"
        assert peer.asked == []

    def test_pieces_add_up(self) -> None:
        peer = Peer(StreamLimits(max_body_bytes=3))
        assert peer.send(headers(), body(b"ab")) == []
        assert peer.send(body(b"cd", end=True)) == ["answer 413 body_too_large"]

    @pytest.mark.parametrize("mode", [FDS, BUFFERED, PARTIAL])
    def test_just_the_limit_passes(self, mode: BodyMode) -> None:
        peer = Peer(StreamLimits(max_body_bytes=3, fallback=config(mode)))
        peer.send(headers(), body(b"abc", end=True))
        assert peer.asked[0].body == b"abc"

    def test_body_that_is_only_passed_has_no_limit(self) -> None:
        peer = Peer(StreamLimits(max_body_bytes=3, fallback=config(STREAMED)))
        peer.send(headers())
        assert peer.send(body(b"x" * 10)) == ["request body"]
