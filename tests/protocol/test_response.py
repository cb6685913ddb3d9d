"""The response half: passed on unread, and the end of it is the end of the request."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from extproc.domain import BodyPath, Decision, HeaderMutation, Reply
from extproc.protocol import Answered, BodyMode, Event, ReplyResponseHeaders, ResponseBody, ResponseHeaders, StreamLimits
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


class TestWithoutARequest:
    """`request_header_mode: SKIP`: what Envoy says of its modes comes with the response's first message."""

    @pytest.mark.parametrize("mode", [STREAMED, BUFFERED, PARTIAL])
    def test_bodies_are_answered_in_their_own_mode(self, mode: BodyMode) -> None:
        first = response()._replace(config=config(NONE, mode))
        assert Peer().send(first, response_body(b"a", end=True)) == ["response headers", "response body"]

    def test_full_duplex_bodies_are_echoed(self) -> None:
        peer = Peer(fallback(NONE, BUFFERED))
        first = response()._replace(config=config(NONE, FDS))
        assert peer.send(first, response_body(b"a", end=True)) == ["response headers", "response chunk 'a' end"]

    def test_so_when_the_headers_are_not_sent_either(self) -> None:
        first = response_body(b"a", end=True)._replace(config=config(NONE, BUFFERED))
        assert Peer().send(first) == ["response body"]
        assert Peer(fallback(NONE, BUFFERED)).send(RESPONSE_TRAILERS._replace(config=config(NONE, FDS)))[-1] == (
            "response trailers"
        )

    def test_a_config_that_comes_later_changes_nothing(self) -> None:
        peer = decided(FDS)
        peer.send(response())
        assert peer.send(response_body(b"a")._replace(config=config(FDS, BUFFERED))) == ["response chunk 'a'"]


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
    marker = HeaderMutation(set_headers=(("x-went-into-resp-headers", "true"),))
    peer = decided(FDS, StreamLimits(on_response_headers=marker))
    reply, _ = peer.actions([response()])
    assert isinstance(reply, ReplyResponseHeaders)
    assert reply.mutation is marker


def test_or_from_the_decision_and_its_word_is_the_last() -> None:
    marker = HeaderMutation(("server",), (("x-both", "settings"), ("x-marker", "true")))
    own = HeaderMutation(("x-gone",), (("X-Both", "decision"),), (("set-cookie", "a=1"),))
    for mode in BodyMode:
        peer = Peer(StreamLimits(on_response_headers=marker), outcome=Decision(response=own))
        peer.send(headers(config(FDS, mode)), body(b"abc", end=True))
        reply, answered = peer.actions([response(201, served="10.0.0.7:8000")])
        assert isinstance(reply, ReplyResponseHeaders)
        assert reply.mutation == HeaderMutation(
            ("server", "x-gone"), (("x-marker", "true"), ("X-Both", "decision")), (("set-cookie", "a=1"),)
        )
        assert isinstance(answered, Answered)
        assert (answered.decision.response, answered.status, answered.served) == (own, 201, "10.0.0.7:8000")


def test_who_answered_is_kept() -> None:
    peer = decided()
    assert peer.stream.served == ""
    peer.send(response(served="10.0.0.7:8000"))
    assert peer.stream.served == "10.0.0.7:8000"


class FakeReader:
    """Puts letters in capitals, keeps the last byte of each piece back where it may, and notes what it hears."""

    def __init__(self, *removed: str, wants_body: bool = True, only_listens: bool = False) -> None:
        self.wants_body = wants_body
        self.only_listens = only_listens
        self.heard: list[object] = []
        self._removed = removed
        self.sets: tuple[tuple[str, str], ...] = ()
        self._path = BodyPath.EMPTY
        self._held = b""

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> HeaderMutation:
        self.heard += [status, dict(headers), path]
        self._path = path
        return HeaderMutation(self._removed, self.sets)

    def body(self, piece: bytes, last: bool) -> bytes:
        assert type(piece) is bytes
        self.heard.append((piece, last))
        if piece.isupper():
            return piece
        data = self._held + piece.upper()
        keep = len(data) - 1 if self._path is BodyPath.FREE and not last and data else len(data)
        self._held = data[keep:]
        return data[:keep]

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held


def read_by(reader: FakeReader, mode: BodyMode = FDS, limits: StreamLimits = StreamLimits()) -> Peer:
    peer = Peer(limits, outcome=Decision(reader=reader))
    peer.send(headers(config(FDS, mode)), body(b"abc", end=True))
    return peer


class TestWithAReader:
    def test_it_hears_headers_and_pieces_and_says_what_goes_on(self) -> None:
        reader = FakeReader()
        peer = read_by(reader)
        assert peer.send(ResponseHeaders(200, False, "", {"a": b"b"})) == ["response headers"]
        assert peer.send(ResponseBody(memoryview(b"one"), False)) == ["response chunk 'ON'"]
        assert peer.send(response_body(b""), response_body(b"two")) == ["response chunk 'ETW'"]
        assert peer.send(response_body(b"", end=True)) == ["response chunk 'O' end", "finished 200 complete"]
        heard = [200, {"a": b"b"}, BodyPath.FREE, (b"one", False), (b"", False), (b"two", False), (b"", True)]
        assert reader.heard == heard

    def test_it_may_change_the_status_and_what_a_deployment_sets_comes_after(self) -> None:
        reader = FakeReader("retry-after")
        reader.sets = ((":status", "502"), ("x-served", "reader"))
        peer = Peer(outcome=Decision(reader=reader, response=HeaderMutation(set_headers=(("x-served", "deployment"),))))
        peer.send(headers(config(FDS, FDS)), body(b"abc", end=True))
        reply, _ = peer.actions([response()])
        assert isinstance(reply, ReplyResponseHeaders)
        assert reply.mutation == HeaderMutation(("retry-after",), ((":status", "502"), ("x-served", "deployment")))

    def test_nothing_goes_on_while_it_holds_everything_back(self) -> None:
        peer = read_by(FakeReader())
        assert peer.send(response(), response_body(b"a")) == ["response headers"]
        assert peer.send(response_body(b"b")) == ["response chunk 'A'"]

    def test_trailers_set_free_what_it_holds(self) -> None:
        peer = read_by(FakeReader())
        peer.send(response(), response_body(b"abc"))
        assert peer.send(RESPONSE_TRAILERS) == [
            "response chunk 'C'",
            "response trailers without digests",
            "finished 200 complete",
        ]

    def test_large_pieces_are_cut_again(self) -> None:
        peer = read_by(FakeReader())
        peer.send(response())
        assert peer.send(response_body(b"x" * 100_000, end=True)) == [
            "response chunk 62000 bytes",
            "response chunk 38000 bytes end",
            "finished 200 complete",
        ]

    @pytest.mark.parametrize("mode", [STREAMED, BUFFERED, PARTIAL])
    def test_elsewhere_each_piece_is_answered_by_itself(self, mode: BodyMode) -> None:
        reader = FakeReader()
        peer = read_by(reader, mode)
        assert peer.send(response(), response_body(b"one")) == ["response headers", "response body becomes 'ONE'"]
        assert peer.send(response_body(b"TWO")) == ["response body"]
        assert reader.heard[2] is BodyPath.PIECEWISE

    @pytest.mark.parametrize(("mode", "end", "path"), [(NONE, False, BodyPath.UNSEEN), (FDS, True, BodyPath.EMPTY)])
    def test_it_hears_when_no_body_comes(self, mode: BodyMode, end: bool, path: BodyPath) -> None:
        reader = FakeReader()
        read_by(reader, mode).send(response(204, end=end), RESPONSE_TRAILERS)
        assert reader.heard == [204, {}, path]

    def test_the_headers_that_it_removes_go(self) -> None:
        marker = HeaderMutation(("x-other",), (("x-went-into-resp-headers", "true"),))
        for limits in (StreamLimits(), StreamLimits(on_response_headers=marker)):
            reply, _ = read_by(FakeReader("content-length"), FDS, limits).actions([response()])
            assert isinstance(reply, ReplyResponseHeaders)
            assert "content-length" in reply.mutation.remove_headers
            assert reply.mutation.set_headers == limits.on_response_headers.set_headers

    def test_without_headers_it_hears_nothing(self) -> None:
        reader = FakeReader()
        assert read_by(reader).send(response_body(b"one"), response_body(b"", end=True))[0] == "response chunk 'one'"
        assert reader.heard == []

    def test_a_response_from_before_the_decision_is_not_read(self) -> None:
        reader = FakeReader()
        peer = Peer(outcome=Decision(reader=reader))
        peer.send(headers(), response(408), body(b"x", end=True))
        assert peer.send(response_body(b"late", end=True)) == ["response chunk 'late' end", "finished 408 complete"]
        assert reader.heard == []


class TestWhoAnswered:
    DECISION = Decision(destination="10.0.0.7:8000")

    def peer(self, decision: Decision = DECISION) -> Peer:
        peer = Peer(outcome=decision)
        peer.send(headers(config(FDS, NONE)), body(b"abc", end=True))
        return peer

    def test_another_than_was_picked_is_said(self) -> None:
        assert self.peer().send(response(served="10.0.0.9:8000")) == ["response headers", "served by 10.0.0.9:8000"]

    @pytest.mark.parametrize("served", ["", "10.0.0.7:8000"])
    def test_the_picked_one_is_not(self, served: str) -> None:
        assert self.peer().send(response(served=served)) == ["response headers"]

    def test_nor_when_none_was_picked(self) -> None:
        assert self.peer(Decision()).send(response(served="10.0.0.9:8000")) == ["response headers"]


@pytest.mark.parametrize(
    ("mode", "reader", "events", "echoes"),
    [
        (FDS, None, [], False),
        (FDS, None, [response()], True),
        (FDS, None, [response(), response_body(b"a")], True),
        (FDS, None, [response_body(b"a")], True),
        (FDS, None, [response(), response_body(end=True)], False),
        (FDS, None, [response(), CLOSED], False),
        (FDS, FakeReader(), [response()], False),
        (FDS, FakeReader(wants_body=False), [response()], True),
        (FDS, FakeReader(only_listens=True), [response()], True),
        (FDS, FakeReader(only_listens=True), [], False),
        (STREAMED, FakeReader(only_listens=True), [response()], False),
        (STREAMED, None, [response()], False),
        (NONE, None, [response()], False),
    ],
)
def test_when_pieces_go_on_as_they_are(mode: BodyMode, reader: FakeReader | None, events: list[Event], echoes: bool) -> None:
    peer = Peer(outcome=Decision(reader=reader))
    peer.send(headers(config(FDS, mode)), body(b"abc", end=True), *events)
    assert peer.stream.echoes is echoes
    listens = reader is not None and reader.only_listens and bool(events)
    assert (peer.stream.listener is not None) is (
        listens or (isinstance(reader, FakeReader) and reader.wants_body and bool(events))
    )


def test_no_piece_goes_on_after_an_answer_of_ours() -> None:
    peer = Peer(outcome=Reply(200, b""))
    peer.send(headers(), response(), body(b"x", end=True))
    assert not peer.stream.echoes


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ResponseHeaders(200, False, "10.0.0.1:8000"), "10.0.0.1:8000"),
        (ResponseHeaders(200, False, "10.0.0.1:8000", of_balancer=True), "10.0.0.1:8000"),
        (ResponseHeaders(200, False, of_balancer=True), "fail: missing destination endpoint served metadata"),
        (ResponseHeaders(200, False), "fail: missing envoy lb metadata"),
    ],
)
def test_who_served_is_told_in_a_header_when_the_decision_asks_for_it(event: ResponseHeaders, expected: str) -> None:
    peer = Peer(outcome=Decision(served_header="x-served"))
    peer.send(headers(config(FDS, NONE)), body(b"abc", end=True))
    (reply, *_) = peer.stream.receive(event)
    assert isinstance(reply, ReplyResponseHeaders)
    assert ("x-served", expected) in reply.mutation.set_headers
