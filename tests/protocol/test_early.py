"""Early mode: the headers go on when the model is known, and the body behind them as it comes, while it stays true."""

from __future__ import annotations

import itertools
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import Reply
from extproc.errors import UnknownModel
from extproc.protocol import (
    BodyMode,
    Decide,
    Event,
    Finished,
    ReplyChunk,
    ReplyImmediately,
    ReplyRequestHeaders,
    RequestBody,
    StreamLimits,
)
from extproc.request import scanner_of
from tests.fakes.events import (
    BUFFERED,
    CLOSED,
    DEADLINE,
    EARLY,
    FDS,
    NONE,
    PARTIAL,
    STREAMED,
    TRAILERS,
    Peer,
    body,
    config,
    headers,
    made,
    response,
    response_body,
)
from tests.fakes.fuzz import examples

REAL = StreamLimits(scanner_of=scanner_of)


def test_decides_when_the_model_is_known_and_echoes_from_then_on() -> None:
    peer = Peer(EARLY)
    assert peer.send(headers(), body(b"ab"), body(), body(b"c")) == []
    assert peer.send(body(b"d!e")) == ["decide on 'abcd!e' so far", "request headers with decision", "request chunk 'abcd!e'"]
    assert peer.send(body(b"f")) == ["request chunk 'f'"]
    assert peer.send(body()) == ["request chunk ''"]
    assert peer.send(body(b"g", end=True)) == ["request chunk 'g' end"]
    assert "PASSING" in repr(peer.stream)


def test_the_limit_counts_before_what_stands_in_the_body() -> None:
    """However it was cut on its way."""
    said = []
    for pieces in ([b'{"model":"b",' + b"x" * 90], [b'{"model":"b",', b"x" * 90]):
        peer = Peer(REAL._replace(max_body_bytes=100))
        peer.send(headers(), body(b'{"model":"a",'))
        said.append(peer.send(RequestBody(list(pieces), False)))
    assert said == [["answer 413 body_too_large"]] * 2


def test_the_empty_end_and_another_one() -> None:
    peer = Peer(EARLY)
    peer.send(headers(), body(b"!"))
    assert peer.send(body(end=True)) == ["request chunk '' end"]
    assert peer.send(body(end=True)) == []  # Envoy issue 46237


@pytest.mark.parametrize("known", [b"!", b"!abc"])
def test_a_body_that_comes_in_one_piece_is_decided_on_whole(known: bytes) -> None:
    said = Peer(EARLY).send(headers(), body(known, end=True))
    assert said == [f"decide on {known.decode()!r}", "request headers with decision", f"request chunk {known.decode()!r} end"]


def test_so_is_one_whose_model_is_in_its_last_piece_or_nowhere() -> None:
    assert Peer(EARLY).send(headers(), body(b"a"), body(b"!", end=True))[0] == "decide on 'a!'"
    assert Peer(EARLY).send(headers(), body(b"a"), body(end=True))[0] == "decide on 'a'"


def test_a_request_without_a_body() -> None:
    assert Peer(EARLY).send(headers(end=True)) == ["decide on ''", "request headers with decision"]


class TestTrailers:
    def test_after_the_decision(self) -> None:
        peer = Peer(EARLY)
        peer.send(headers(), body(b"!"))
        assert peer.send(body(b"a"), TRAILERS) == ["request chunk 'a'", "request trailers"]
        assert "PASSING" in repr(peer.stream)

    def test_before_it(self) -> None:
        assert Peer(EARLY).send(headers(), body(b"a"), TRAILERS) == [
            "decide on 'a'",
            "request headers with decision",
            "request chunk 'a'",
            "request trailers",
        ]

    def test_without_a_body(self) -> None:
        said = Peer(EARLY).send(headers(), TRAILERS)
        assert said == ["decide on ''", "request headers with decision", "request trailers"]


class TestABodyThatTurnsOutWrong:
    def test_is_stopped_before_the_piece_that_shows_it(self) -> None:
        peer = Peer(EARLY)
        peer.send(headers(), body(b"!"))
        assert peer.send(body(b"ab")) == ["request chunk 'ab'"]
        assert peer.send(body(b"c#", end=True)) == ["answer 400 conflicting_model"]
        assert peer.send(body(b"d", end=True), TRAILERS, response(200)) == []
        assert peer.send(CLOSED) == ["finished 0"]

    def test_while_its_answer_is_under_way(self) -> None:
        peer = Peer(EARLY._replace(fallback=config(FDS, FDS)))
        peer.send(headers(), body(b"!"), response(200))
        assert peer.send(body(b"#")) == ["answer 400 conflicting_model"]
        assert peer.send(response_body(b"x", end=True), CLOSED) == ["finished 200"]

    def test_after_its_answer(self) -> None:
        peer = Peer(EARLY)
        peer.send(headers(), body(b"!"))
        assert peer.send(response(400, end=True)) == ["response headers", "finished 400 complete"]
        assert peer.send(body(b"#"), CLOSED) == ["answer 400 conflicting_model"]

    def test_before_the_decision_it_is_read_whole(self) -> None:
        """The director sees what is wrong with it, and the last model counts."""
        peer = Peer(EARLY)
        assert peer.send(headers(), body(b"!#"), body(b"!")) == []
        assert peer.send(body(b"a", end=True))[0] == "decide on '!#!a'"

    def test_too_large(self) -> None:
        peer = Peer(EARLY._replace(max_body_bytes=4))
        assert peer.send(headers(), body(b"ab!"))[-1] == "request chunk 'ab!'"
        assert peer.send(body(b"c")) == ["request chunk 'c'"]
        assert peer.send(body(b"d", end=True)) == ["answer 413 body_too_large"]

    def test_too_large_before_the_decision(self) -> None:
        peer = Peer(EARLY._replace(max_body_bytes=4))
        assert peer.send(headers(), body(b"abc"), body(b"!!")) == ["answer 413 body_too_large"]


def test_a_model_that_does_not_come_soon_is_waited_for_as_ever() -> None:
    peer = Peer(EARLY._replace(streamed_hold_bytes=4))
    assert peer.send(headers(), body(b"abc")) == []
    assert "SCANNING" in repr(peer.stream)
    assert peer.send(body(b"d")) == []
    assert "COLLECTING" in repr(peer.stream)
    assert peer.send(body(b"!")) == []
    assert peer.send(body(b"#", end=True))[0] == "decide on 'abcd!#'"


class TestADirectorThatTakesItsTime:
    def test_what_comes_meanwhile_goes_on_behind(self) -> None:
        peer = Peer(EARLY, outcome=None)
        assert peer.send(headers(), body(b"!"), body(b"a"), body(b"b", end=True)) == ["decide on '!' so far"]
        assert peer.send(made()) == [
            "request headers with decision",
            "request chunk '!'",
            "request chunk 'a'",
            "request chunk 'b' end",
        ]

    def test_with_trailers(self) -> None:
        peer = Peer(EARLY, outcome=None)
        peer.send(headers(), body(b"!"), body(b"a"), TRAILERS)
        assert peer.send(made())[1:] == ["request chunk '!'", "request chunk 'a'", "request trailers"]

    def test_what_comes_meanwhile_is_watched(self) -> None:
        peer = Peer(EARLY, outcome=None)
        peer.send(headers(), body(b"!"), body(b"#"), body(b"c", end=True))
        assert peer.send(made()) == ["request headers with decision", "request chunk '!'", "answer 400 conflicting_model"]
        assert peer.send(CLOSED) == ["finished 0"]

    def test_and_is_bounded(self) -> None:
        peer = Peer(EARLY._replace(max_body_bytes=4), outcome=None)
        peer.send(headers(), body(b"!"))
        assert peer.send(body(b"abc"), body(b"d")) == ["withdraw", "answer 413 body_too_large"]

    def test_not_for_ever(self) -> None:
        peer = Peer(EARLY, outcome=None)
        peer.send(headers(), body(b"!"))
        assert peer.send(DEADLINE, made(), CLOSED) == ["withdraw", "answer 504 decision_timeout", "finished 0"]


def test_a_refusal_comes_before_anything_goes_on() -> None:
    said = Peer(EARLY, outcome=UnknownModel("none")).send(headers(), body(b"!"), body(b"a", end=True), CLOSED)
    assert said == ["decide on '!' so far", "answer 404 model_not_found"]
    said = Peer(EARLY, outcome=Reply(200, b"")).send(headers(), body(b"!"), CLOSED)
    assert said == ["decide on '!' so far", "answer 200"]


def test_the_deadline_is_for_the_decision() -> None:
    peer = Peer(EARLY)
    assert peer.send(headers(), body(b"a"), DEADLINE) == ["answer 408 request_timeout"]
    peer = Peer(EARLY)
    peer.send(headers(), body(b"!"))
    assert peer.send(DEADLINE) == []
    assert peer.send(body(b"a", end=True)) == ["request chunk 'a' end"]


def test_envoy_is_not_left_while_the_body_goes_on() -> None:
    peer = Peer(EARLY._replace(fallback=config(FDS, NONE)))
    peer.send(headers(), body(b"!"), response(200))
    assert not peer.stream.is_idle
    peer.send(body(end=True))
    assert peer.stream.is_idle


@pytest.mark.parametrize("mode", [STREAMED, BUFFERED, PARTIAL, NONE])
def test_only_in_full_duplex(mode: BodyMode) -> None:
    limits = EARLY._replace(fallback=config(mode))
    plain = StreamLimits(fallback=config(mode))
    events: list[Event] = [headers(), body(b"!"), body(b"#", end=True)]
    if mode is NONE:
        events = events[:1]
    elif mode in (BUFFERED, PARTIAL):
        events = [headers(), body(b"!#", end=True)]
    assert Peer(limits).send(*events) == Peer(plain).send(*events)


def test_bodies_without_a_scanner_are_read_whole() -> None:
    peer = Peer(StreamLimits(scanner_of=lambda head: None))
    assert peer.send(headers(), body(b"!")) == []
    assert peer.send(body(b"#", end=True))[0] == "decide on '!#'"


# -- with the real scanner -------------------------------------------------------------------------------------------

documents = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "n"])},
    optional={"messages": st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3)), "a": st.none()},
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body, maybe with another model behind the first, and its pieces."""
    fields = draw(st.permutations(list(draw(documents).items())))
    members = [orjson.dumps({key: value})[1:-1] for key, value in fields]
    if draw(st.booleans()):
        members.append(b'"mod\\u0065l":"%b"' % draw(st.sampled_from([b"m", b"n"])))
    whole = b"{" + b",".join(members) + b"}"
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    return whole, [whole[a:b] for a, b in itertools.pairwise([0, *at, len(whole)])]


@examples(150)
@given(requests(), st.sampled_from(["last", "empty", "trailers"]), st.integers(1, 60))
def test_every_byte_in_order_or_never_the_end(request: tuple[bytes, list[bytes]], end: str, hold: int) -> None:
    whole, pieces = request
    peer = Peer(REAL._replace(streamed_hold_bytes=hold))
    events = [body(piece, end=end == "last" and index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    ends: dict[str, list[Event]] = {"last": [], "empty": [body(end=True)], "trailers": [TRAILERS]}
    done = peer.actions([headers(), *events, *ends[end], CLOSED])
    replies = [action for action in done if not isinstance(action, Decide | Finished)]
    chunks = [action for action in done if isinstance(action, ReplyChunk)]
    assert isinstance(replies[0], ReplyRequestHeaders)
    assert sum(isinstance(action, Finished) for action in done) == 1
    assert len(peer.asked) == 1
    echoed = b"".join(chunk.body for chunk in chunks)
    stopped = isinstance(replies[-1], ReplyImmediately)
    if stopped:
        assert whole.startswith(echoed)
        assert len(echoed) < len(whole)
        assert not any(chunk.end_of_stream for chunk in chunks)
    else:
        assert echoed == whole
        assert [chunk.end_of_stream for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
        assert chunks[-1].end_of_stream == (end != "trailers")
    # What was decided on is what the upstream reads.
    asked = peer.asked[0].body
    assert asked is not None
    if not peer.asked[0].complete and not stopped:
        (first,) = {value for key, value in _members(whole) if key == "model"}
        assert orjson.dumps(first) in asked


def _members(whole: bytes) -> list[tuple[str, object]]:
    found: list[list[tuple[str, object]]] = []
    json.loads(whole, object_pairs_hook=lambda members: found.append(members))
    return found[-1]
