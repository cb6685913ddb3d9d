"""FULL_DUPLEX_STREAMED: the headers wait for the body, and the body is echoed behind them."""

from __future__ import annotations

import pytest

from extproc.protocol import CHUNK_BYTES, BodyMode, Decide, ExtProcStream, ProtocolConfig, ReplyChunk, RequestBody, StreamLimits
from tests.fakes.events import EARLY, FDS, NONE, TRAILERS, Peer, body, config, fallback, headers


@pytest.mark.parametrize(("told", "settings"), [(config(FDS), NONE), (None, FDS)], ids=["told", "from settings"])
def test_headers_and_body_are_held_until_the_whole_body_is_there(told: ProtocolConfig | None, settings: BodyMode) -> None:
    peer = Peer(fallback(settings))
    assert peer.send(headers(told)) == []
    assert peer.send(body(b'{"model"')) == []
    assert peer.send(body(b':"m"}', end=True)) == [
        """decide on '{"model":"m"}'""",
        "request headers with decision",
        """request chunk '{"model":"m"}' end""",
    ]


def test_a_request_that_ends_with_its_headers_is_decided_at_once() -> None:
    assert Peer().send(headers(end=True)) == ["decide on ''", "request headers with decision"]


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, [0]), (1, [1]), (62_000, [62_000]), (62_001, [62_000, 1]), (125_000, [62_000, 62_000, 1_000])],
)
def test_chunk_sizes(size: int, chunks: list[int]) -> None:
    peer = Peer()
    actions = peer.actions([headers(), body(b"x" * size, end=True)])
    echoed = [action for action in actions if isinstance(action, ReplyChunk)]
    assert [len(chunk.body) for chunk in echoed] == chunks
    assert [chunk.end_of_stream for chunk in echoed] == [False] * (len(chunks) - 1) + [True]
    assert CHUNK_BYTES == 62_000


def test_an_empty_end_closes_the_body() -> None:
    assert Peer().send(headers(), body(b"abc"), body(end=True))[-1] == "request chunk 'abc' end"


def test_empty_chunks_anywhere_change_nothing() -> None:
    said = Peer().send(headers(), body(), body(b"ab"), body(), body(b"c"), body(), body(end=True))
    assert said == ["decide on 'abc'", "request headers with decision", "request chunk 'abc' end"]


def test_one_empty_body_is_answered_with_one_empty_end() -> None:
    assert Peer().send(headers(), body(end=True)) == [
        "decide on ''",
        "request headers with decision",
        "request chunk '' end",
    ]


def test_trailers_end_the_body_so_no_chunk_does() -> None:
    assert Peer().send(headers(), body(b"ab"), body(b"c"), TRAILERS) == [
        "decide on 'abc'",
        "request headers with decision",
        "request chunk 'abc'",
        "request trailers",
    ]


def test_trailers_without_a_body_get_no_body_reply() -> None:
    """A body reply without a body is spurious to Envoy."""
    assert Peer().send(headers(), TRAILERS) == ["decide on ''", "request headers with decision", "request trailers"]


def test_a_large_body_before_trailers_has_no_end() -> None:
    said = Peer().send(headers(), body(b"x" * 70_000), TRAILERS)
    assert said[2:] == ["request chunk 62000 bytes", "request chunk 8000 bytes", "request trailers"]


@pytest.mark.parametrize("extra", [body(end=True), body(), body(b"again", end=True)])
def test_what_comes_after_the_end_is_dropped(extra: RequestBody) -> None:
    peer = Peer()
    peer.send(headers(), body(b"abc", end=True))
    assert peer.send(extra) == []


def test_trailers_after_the_end_are_still_answered() -> None:
    peer = Peer()
    peer.send(headers(), body(b"abc", end=True))
    assert peer.send(TRAILERS) == ["request trailers"]


def test_a_single_piece_is_echoed_without_a_copy() -> None:
    whole = b"x" * 1000
    peer = Peer()
    echoed = [a for a in peer.actions([headers(), body(whole), body(end=True)]) if isinstance(a, ReplyChunk)]
    assert peer.asked[0].body is whole
    assert echoed[0].body is whole


def test_the_subset_may_come_with_the_body() -> None:
    peer = Peer()
    peer.send(headers(), body(b"a", subset=("10.0.0.1",)), body(end=True))
    assert peer.asked[0].head.subset == ("10.0.0.1",)


def test_the_state_is_seen_in_the_repr() -> None:
    peer = Peer()
    peer.send(headers(), body(b"abc"))
    assert repr(peer.stream) == ("<ExtProcStream COLLECTING/RESPONSE_START FULL_DUPLEX_STREAMED/FULL_DUPLEX_STREAMED held=3>")
    peer.send(body(end=True))
    assert "PASSING/RESPONSE_START" in repr(peer.stream)
    assert "held=0" in repr(peer.stream)


def test_a_part_in_pieces_is_that_part() -> None:
    whole = RequestBody([memoryview(b"ab"), b"", memoryview(b"c")], True)
    assert whole == body(b"abc", end=True)
    assert whole.size == 3
    assert Peer().send(headers(), whole) == Peer().send(headers(), body(b"abc", end=True))
    assert Peer(EARLY).send(headers(), RequestBody([b"a!", b"b"], False), whole) == Peer(EARLY).send(
        headers(), body(b"a!b"), body(b"abc", end=True)
    )


def test_a_body_that_waits_for_its_decision_is_held_once() -> None:
    read = bytearray(b"x" * 100)
    stream = ExtProcStream(StreamLimits())
    stream.receive(headers())
    (asked,) = stream.receive(RequestBody([memoryview(read)[:50], memoryview(read)[50:]], True))
    assert isinstance(asked, Decide)
    read.clear()  # raises BufferError while a view of it is alive
    assert asked.body == b"x" * 100
