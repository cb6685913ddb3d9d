"""Bodies that go on changed, in every mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import Splice, spliced
from extproc.protocol import CHUNK_BYTES, BodyMode, ReplyBody, ReplyChunk, StreamLimits
from extproc.protocol.splices import changed_pieces, changed_replies
from tests.fakes.events import (
    BUFFERED,
    DECISION,
    FDS,
    PARTIAL,
    STREAMED,
    TRAILERS,
    FakeScanner,
    Peer,
    body,
    fallback,
    headers,
)
from tests.fakes.fuzz import examples

RENAMED = DECISION._replace(splices=(Splice(2, 3, b"new"),))
BODY = b"ab!def"


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, list[Splice], bytes]:
    """A body, changes to it, and what it becomes."""
    before, after = b"", b""
    splices = []
    for keep, old, new in draw(
        st.lists(st.tuples(st.binary(max_size=8), st.binary(min_size=1, max_size=4), st.binary(max_size=6)), max_size=5)
    ):
        before += keep
        splices.append(Splice(len(before), len(before) + len(old), new))
        before += old
        after += keep + new
    tail = draw(st.binary(max_size=8))
    return before + tail, splices, after + tail


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    at = sorted(place % (len(whole) + 1) for place in places)
    return [whole[begin:end] for begin, end in zip([0, *at], [*at, len(whole)], strict=True)]


@examples(200)
@given(changes(), st.lists(st.integers(0, 1000), max_size=6))
def test_whole_or_in_pieces_it_becomes_the_same(change: tuple[bytes, list[Splice], bytes], places: list[int]) -> None:
    before, splices, after = change
    assert spliced(before, splices) == after
    pieces = cut(before, places)
    new = changed_pieces(pieces, splices)
    assert b"".join(old if became is None else became for old, became in zip(pieces, new, strict=True)) == after


@given(st.integers(0, 3 * CHUNK_BYTES), st.integers(0, 2 * CHUNK_BYTES), st.integers(0, 2 * CHUNK_BYTES))
@examples(50)
def test_chunks_are_full_and_only_the_last_ends(size: int, place: int, inserted: int) -> None:
    before = bytes(range(256)) * (size // 256 + 1)
    place = min(place, len(before) - 1)
    splices = [Splice(place, place + 1, b"x" * inserted)]
    replies = changed_replies(before, splices, None, ends=True)
    chunks = [reply for reply in replies if isinstance(reply, ReplyChunk)]
    assert b"".join(bytes(chunk.body) for chunk in chunks) == before[:place] + b"x" * inserted + before[place + 1 :]
    assert all(len(chunk.body) == CHUNK_BYTES for chunk in chunks[:-1])
    assert len(chunks[-1].body) <= CHUNK_BYTES
    assert [chunk.end_of_stream for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_what_holds_no_change_is_not_copied() -> None:
    before = bytes(10 * CHUNK_BYTES)
    chunks = changed_replies(before, [Splice(10, 13, b"longer")], None, ends=True)
    views = [chunk.body for chunk in chunks if isinstance(chunk, ReplyChunk) and isinstance(chunk.body, memoryview)]
    assert len(views) == len(chunks) - 1
    assert all(view.obj is before for view in views)


def test_a_body_that_becomes_empty_still_ends() -> None:
    (chunk,) = changed_replies(b"x", [Splice(0, 1, b"")], None, ends=True)
    assert isinstance(chunk, ReplyChunk)
    assert (chunk.body, chunk.end_of_stream) == (b"", True)


class TestFullDuplex:
    def test_the_body_goes_on_changed(self) -> None:
        peer = Peer(outcome=RENAMED)
        said = peer.send(headers(), body(BODY[:1]), body(BODY[1:]), body(end=True))
        assert said[1:] == ["request headers with decision", "request chunk 'abnewdef' end"]

    def test_trailers(self) -> None:
        peer = Peer(outcome=RENAMED)
        said = peer.send(headers(), body(BODY), TRAILERS)
        assert said[1:] == ["request headers with decision", "request chunk 'abnewdef'", "request trailers without digests"]

    def test_what_comes_while_deciding_follows_unchanged(self) -> None:
        """The director takes its time only in STREAMED and in early mode; elsewhere the body has ended."""
        peer = Peer(StreamLimits(scanner_of=lambda head: FakeScanner()), outcome=RENAMED)
        said = peer.send(headers(), body(BODY), body(b"ghi"), body(b"jkl", end=True))
        assert said[1:] == [
            "request headers with decision",
            "request chunk 'abnewdef'",
            "request chunk 'ghi'",
            "request chunk 'jkl' end",
        ]

    @pytest.mark.parametrize(("outcome", "sealed"), [(RENAMED, True), (DECISION, False)])
    def test_a_scanner_is_told_that_its_beginning_changed(self, outcome: object, sealed: bool) -> None:
        scanner = FakeScanner()
        peer = Peer(StreamLimits(scanner_of=lambda head: scanner), outcome=outcome)  # type: ignore[arg-type]
        peer.send(headers(), body(BODY))
        assert scanner.sealed == sealed


class TestOtherModes:
    @pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
    def test_buffered_headers_and_body_change_in_one_reply(self, mode: BodyMode) -> None:
        peer = Peer(fallback(mode), outcome=RENAMED)
        peer.send(headers())
        _, reply = peer.actions([body(BODY, end=True)])
        assert isinstance(reply, ReplyBody)
        assert (reply.decision, reply.replaced) == (RENAMED, b"abnewdef")

    def test_streamed_each_piece_has_its_answer(self) -> None:
        peer = Peer(fallback(STREAMED, early=True), outcome=RENAMED)
        said = peer.send(headers(), body(b"a"), body(b""), body(b"b!"), body(b"def", end=True))
        assert said[1:] == [
            "request headers with decision",
            "request body",
            "request body",
            "request body becomes 'bnew'",
            "request body",
        ]

    def test_streamed_a_change_over_several_pieces_stands_in_the_first(self) -> None:
        outcome = DECISION._replace(splices=(Splice(1, 5, b"NEW"),))
        peer = Peer(fallback(STREAMED, early=True), outcome=outcome)
        said = peer.send(headers(), body(b"ab"), body(b"!d"), body(b"ef", end=True))
        assert said[2:] == ["request body becomes 'aNEW'", "request body becomes ''", "request body becomes 'f'"]

    def test_full_duplex_is_the_fallback(self) -> None:
        assert Peer(fallback(FDS), outcome=RENAMED).send(headers(), body(BODY, end=True))[-1] == "request chunk 'abnewdef' end"
