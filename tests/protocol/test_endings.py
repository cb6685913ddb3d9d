"""Answers of our own, decisions that come late, and peers that go away: a decision is given back exactly once."""

from __future__ import annotations

import pytest

from extproc.domain import Decision, Reply
from extproc.errors import ProtocolError, UnknownModel
from extproc.protocol import BodyMode, Event, Finished, PeerClosed, RequestBody, StreamLimits
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
    failed,
    fallback,
    headers,
    made,
    response,
    response_body,
)

NOT_FOUND = UnknownModel("no such model")
OURS = Reply(200, b"{}")


class TestImmediateResponse:
    @pytest.mark.parametrize("mode", BodyMode)
    def test_an_error_answers_the_client(self, mode: BodyMode) -> None:
        peer = Peer(fallback(mode), outcome=NOT_FOUND)
        assert peer.send(headers(end=True)) == ["decide on ''", "answer 404 model_not_found"]

    def test_a_reply_answers_the_client(self) -> None:
        assert Peer(outcome=OURS).send(headers(end=True))[-1] == "answer 200"

    def test_then_silence_whatever_comes(self) -> None:
        peer = Peer(outcome=NOT_FOUND)
        peer.send(headers(), body(b"abc", end=True))
        late: list[Event] = [body(b"x"), body(end=True), TRAILERS, response(404), response_body(b"no", end=True)]
        assert peer.send(*late, RESPONSE_TRAILERS, CLOSED, CLOSED) == []

    def test_nothing_was_decided_so_nothing_is_given_back(self) -> None:
        peer = Peer(outcome=OURS)
        assert "finished" not in " ".join(peer.send(headers(end=True), CLOSED))

    def test_too_large_then_silence(self) -> None:
        peer = Peer(StreamLimits(max_body_bytes=1))
        assert peer.send(headers(), body(b"ab"), body(b"c", end=True), response(413), CLOSED) == ["answer 413 body_too_large"]


class TestLateDecision:
    def test_the_stream_goes_on_when_it_comes(self) -> None:
        peer = Peer(outcome=None)
        assert peer.send(headers(), body(b"abc", end=True)) == ["decide on 'abc'"]
        assert peer.send(made()) == ["request headers with decision", "request chunk 'abc' end"]

    def test_a_second_end_meanwhile_is_dropped(self) -> None:
        peer = Peer(outcome=None)
        peer.send(headers(), body(b"abc", end=True))
        assert peer.send(body(end=True)) == []
        assert peer.send(made()) == ["request headers with decision", "request chunk 'abc' end"]

    def test_body_and_trailers_that_came_meanwhile_follow_in_order(self) -> None:
        peer = Peer(StreamLimits(streamed_hold_bytes=2, fallback=config(STREAMED, early=True)), outcome=None)
        assert peer.send(headers(), body(b"ab")) == ["decide on 'ab' so far"]
        assert peer.send(body(b"cd"), body(b""), TRAILERS) == []
        assert peer.send(made()) == [
            "request headers with decision",
            "request body",
            "request body",
            "request body",
            "request trailers",
        ]

    def test_buffered_trailers_wait_for_the_bodys_reply(self) -> None:
        peer = Peer(fallback(BUFFERED), outcome=None)
        assert peer.send(headers(), body(b"abc")) == ["request headers", "decide on 'abc'"]
        assert peer.send(TRAILERS) == []
        assert peer.send(made()) == ["request body with decision", "request trailers"]

    def test_trailers_without_bodies(self) -> None:
        peer = Peer(fallback(NONE), outcome=None)
        assert peer.send(headers(), TRAILERS) == ["decide on nothing"]
        assert peer.send(made()) == ["request headers with decision", "request trailers"]

    @pytest.mark.parametrize("outcome", [made(OURS), failed(NOT_FOUND)])
    def test_an_answer_of_ours_forgets_what_came_meanwhile(self, outcome: Event) -> None:
        peer = Peer(fallback(PARTIAL), outcome=None)
        peer.send(headers(), body(b"abc"), TRAILERS)
        said = peer.send(outcome)
        assert len(said) == 1
        assert said[0].startswith("answer ")
        assert peer.send(body(b"d", end=True), CLOSED) == []

    def test_the_response_does_not_wait(self) -> None:
        peer = Peer(outcome=None)
        peer.send(headers(end=True))
        assert peer.send(response(504, end=True)) == ["response headers"]
        assert peer.send(made(), CLOSED) == ["request headers with decision", "finished 504"]


class TestPeerGone:
    @pytest.mark.parametrize(
        "before",
        [
            [],
            [headers()],
            [headers(), body(b"abc")],
            [headers(config(BUFFERED))],
        ],
    )
    def test_before_the_decision_nothing_is_left(self, before: list[Event]) -> None:
        peer = Peer()
        peer.send(*before)
        assert peer.send(CLOSED) == []
        assert peer.asked == []

    @pytest.mark.parametrize(
        ("after", "end"),
        [
            ([], "finished 0"),
            ([response(200)], "finished 200"),
            ([response(500), response_body(b"part")], "finished 500"),
        ],
    )
    def test_after_the_decision_it_is_given_back(self, after: list[Event], end: str) -> None:
        peer = Peer()
        peer.send(headers(), body(b"abc", end=True), *after)
        assert peer.send(CLOSED) == [end]

    def test_gone_twice_is_gone_once(self) -> None:
        peer = Peer()
        peer.send(headers(end=True))
        assert peer.send(CLOSED, CLOSED, CLOSED) == ["finished 0"]

    def test_after_the_response_it_was_given_back_already(self) -> None:
        peer = Peer()
        peer.send(headers(end=True), response(200, end=True))
        assert peer.send(CLOSED) == []

    def test_what_was_decided_is_what_is_given_back(self) -> None:
        mine = Decision(ticket=object())
        peer = Peer(outcome=mine)
        peer.send(headers(end=True))
        (end,) = peer.actions([CLOSED])
        assert isinstance(end, Finished)
        assert end.decision is mine

    def test_a_decision_that_comes_after_the_close_is_given_back_once(self) -> None:
        mine = Decision(ticket=object())
        peer = Peer(outcome=None)
        peer.send(headers(), body(b"abc", end=True), CLOSED)
        (end,) = peer.actions([made(mine)])
        assert isinstance(end, Finished)
        assert end.decision is mine
        assert not end.complete
        assert peer.send(CLOSED) == []

    @pytest.mark.parametrize("outcome", [made(OURS), failed(NOT_FOUND)])
    def test_an_answer_that_comes_after_the_close_is_dropped(self, outcome: Event) -> None:
        peer = Peer(outcome=None)
        peer.send(headers(end=True), CLOSED)
        assert peer.send(outcome) == []

    def test_messages_after_the_close_are_dropped(self) -> None:
        peer = Peer()
        peer.send(headers(), CLOSED)
        assert peer.send(body(b"x"), TRAILERS, response(), response_body(b"y"), RESPONSE_TRAILERS, headers()) == []


class TestProtocolErrors:
    @pytest.mark.parametrize(
        ("before", "event", "said"),
        [
            ([], body(b"x"), "unexpected RequestBody while waiting for request headers"),
            ([], TRAILERS, "unexpected RequestTrailers while waiting for request headers"),
            ([headers()], headers(), "unexpected RequestHeaders while waiting for the body"),
            ([headers(config(BUFFERED))], headers(), "unexpected RequestHeaders while waiting for the body that Envoy"),
            ([headers(end=True)], headers(), "unexpected RequestHeaders while waiting for nothing"),
            ([response()], response(), "unexpected ResponseHeaders while waiting for the response's body"),
            ([response(end=True)], response(), "unexpected ResponseHeaders while waiting for nothing"),
            ([headers(end=True)], made(), "unexpected DecisionMade"),
            ([], failed(NOT_FOUND), "unexpected DecisionFailed"),
        ],
    )
    def test_what_the_state_does_not_allow(self, before: list[Event], event: Event, said: str) -> None:
        peer = Peer()
        peer.send(*before)
        with pytest.raises(ProtocolError) as caught:
            peer.send(event)
        assert caught.value.message.startswith(said)

    def test_the_decision_is_still_given_back(self) -> None:
        peer = Peer(fallback(FDS))
        peer.send(headers(end=True))
        with pytest.raises(ProtocolError):
            peer.send(headers())
        assert peer.send(PeerClosed()) == ["finished 0"]

    def test_the_stream_is_as_before(self) -> None:
        peer = Peer()
        peer.send(headers())
        with pytest.raises(ProtocolError):
            peer.send(headers())
        assert peer.send(RequestBody(b"abc", True))[0] == "decide on 'abc'"
