"""The reader of an answer as a stream uses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import NO_MUTATION, BodyPath, HeaderMutation
from extproc.response import AnswerReader, Measurement, Usage
from extproc.response.usage import NO_USAGE
from tests.fakes.clock import FakeClock
from tests.fakes.fuzz import examples
from tests.response.pieces import cut
from tests.response.test_usage import ALL, CHAT_STREAM, MESSAGES_STREAM

FREE, PIECEWISE, UNSEEN, EMPTY = BodyPath.FREE, BodyPath.PIECEWISE, BodyPath.UNSEEN, BodyPath.EMPTY
SSE = {"content-type": b"Text/Event-Stream; charset=utf-8"}
JSON = {"content-type": b"application/json", "content-length": b"30"}
DOCUMENT = b'{"model":"served","usage":{"prompt_tokens":7,"completion_tokens":5}}'


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.gaps: list[float] = []
        self.measurement = Measurement(100.0, self.clock, self.gaps.append)


def test_a_stream_is_measured() -> None:
    bench = Bench()
    reader = AnswerReader(bench.measurement)
    assert reader.headers(200, SSE, FREE) is NO_MUTATION
    for piece in (b"", b"data: 1\n\n", CHAT_STREAM, b""):
        bench.clock.advance(0.5)
        assert reader.body(piece, False) is piece
    assert reader.body(b"", True) == b""
    told = bench.measurement
    assert (told.streaming, told.unread, told.size_bytes) == (True, "", 9 + len(CHAT_STREAM))
    assert told.usage == ALL
    assert told.times.ttft_s() == 1.0
    assert bench.gaps == [0.5]


@pytest.mark.parametrize("by_trailers", [False, True])
def test_a_document_is_measured(by_trailers: bool) -> None:
    bench = Bench()
    reader = AnswerReader(bench.measurement)
    reader.headers(200, JSON, FREE)
    bench.clock.advance(2)
    reader.body(DOCUMENT[:20], False)
    reader.body(DOCUMENT[20:], not by_trailers)
    assert reader.rest() == b""
    assert bench.measurement.usage == Usage(7, 5)
    assert bench.measurement.times.ttft_s() == 2
    assert (bench.gaps, bench.measurement.streaming) == ([], False)


@pytest.mark.parametrize(
    ("status", "headers", "path", "unread", "size"),
    [
        (200, {"content-type": b"audio/wav"}, FREE, "content-type", 68),
        (200, {}, FREE, "content-type", 68),
        (200, {**JSON, "content-encoding": b"gzip"}, FREE, "content-encoding", 68),
        (200, JSON, UNSEEN, "body not sent", 0),
        (200, JSON, EMPTY, "", 0),
        (500, JSON, FREE, "", 0),
        (404, JSON, PIECEWISE, "", 0),
    ],
)
def test_what_is_not_read(status: int, headers: dict[str, bytes], path: BodyPath, unread: str, size: int) -> None:
    bench = Bench()
    reader = AnswerReader(bench.measurement, ("served", "client"))
    reader.headers(status, headers, path)
    if path in (FREE, PIECEWISE):
        reader.body(DOCUMENT, True)
    told = bench.measurement
    assert (told.unread, told.usage, told.size_bytes) == (unread, NO_USAGE, size)
    assert (told.times.ttft_s() is None) is (size == 0)


def test_identity_is_no_encoding() -> None:
    bench = Bench()
    reader = AnswerReader(bench.measurement, ("served", "client"))
    reader.headers(200, {**JSON, "content-encoding": b"identity"}, FREE)
    assert b"client" in reader.body(DOCUMENT, True)
    assert bench.measurement.usage == Usage(7, 5)


class TestTheModelsName:
    @pytest.mark.parametrize("kind", [b"application/json", b"application/problem+json; charset=utf-8", b"text/event-stream"])
    @pytest.mark.parametrize("status", [200, 404])
    def test_is_put_back(self, kind: bytes, status: int) -> None:
        reader = AnswerReader(None, ("served", "client"))
        reader.headers(status, {"content-type": kind}, PIECEWISE)
        assert reader.body(DOCUMENT, True) == DOCUMENT.replace(b"served", b"client")

    @pytest.mark.parametrize(
        ("status", "headers", "path"),
        [
            (200, {**JSON, "content-encoding": b"br"}, FREE),
            (200, {"content-type": b"text/plain"}, FREE),
            (206, JSON, FREE),
            (200, JSON, UNSEEN),
            (200, JSON, EMPTY),
        ],
    )
    def test_is_left(self, status: int, headers: dict[str, bytes], path: BodyPath) -> None:
        reader = AnswerReader(None, ("served", "client-model"))
        assert reader.headers(status, headers, path) is NO_MUTATION
        assert reader.body(DOCUMENT, True) is DOCUMENT

    def test_what_no_longer_holds_is_removed(self) -> None:
        headers = {**JSON, "content-digest": b"sha-256=:x:", "etag": b'"1"'}
        longer, same = AnswerReader(None, ("served", "client-model")), AnswerReader(None, ("served", "client"))
        assert longer.headers(200, headers, FREE) == HeaderMutation(("content-length", "content-digest", "etag"))
        assert same.headers(200, headers, FREE) == HeaderMutation(("content-digest", "etag"))
        weak = {**JSON, "etag": b'W/"1"'}
        assert AnswerReader(None, ("served", "client")).headers(200, weak, FREE) is NO_MUTATION, "it is no other answer"
        assert same.headers(200, SSE, FREE) is NO_MUTATION

    def test_trailers_set_free_what_is_held(self) -> None:
        reader = AnswerReader(None, ("served", "client"))
        reader.headers(200, SSE, FREE)
        assert reader.body(b'{"mod', False) == b"{"
        assert reader.rest() == b'"mod'
        assert reader.rest() == b""

    def test_nothing_is_held_where_nothing_may_be(self) -> None:
        reader = AnswerReader(None, ("served", "client"))
        reader.headers(200, SSE, PIECEWISE)
        assert reader.body(b'{"mod', False) == b'{"mod'


@examples(60)
@given(st.sampled_from([CHAT_STREAM, MESSAGES_STREAM]), st.data())
def test_measuring_and_restoring_at_once(stream: bytes, data: st.DataObject) -> None:
    stream = b'data: {"model": "served"}\n\n' + stream
    bench = Bench()
    reader = AnswerReader(bench.measurement, ("served", "client-model"))
    reader.headers(200, SSE, FREE)
    out = b"".join(reader.body(piece, False) for piece in data.draw(cut(stream))) + reader.rest()
    assert out == stream.replace(b"served", b"client-model")
    assert bench.measurement.usage == ALL


@pytest.mark.parametrize(
    ("headers", "path", "reason"),
    [
        (JSON, UNSEEN, "body not sent"),
        (SSE, UNSEEN, "body not sent"),
        ({**JSON, "content-encoding": b"gzip"}, FREE, "content-encoding"),
        (JSON, FREE, ""),
        (JSON, EMPTY, ""),
        ({"content-type": b"audio/wav"}, UNSEEN, ""),
    ],
)
def test_tells_why_a_name_was_not_put_back(headers: dict[str, bytes], path: BodyPath, reason: str) -> None:
    reader = AnswerReader(None, ("served", "client"))
    reader.headers(200, headers, path)
    assert reader.unrestored == reason
    other = AnswerReader(Bench().measurement)
    other.headers(200, headers, path)
    assert other.unrestored == ""


@pytest.mark.parametrize(
    ("status", "headers", "path", "wanted"),
    [
        (200, JSON, FREE, True),
        (200, SSE, FREE, True),
        (200, {"content-type": b"audio/wav"}, FREE, False),
        (200, {**JSON, "content-encoding": b"gzip"}, FREE, False),
        (404, JSON, FREE, False),
        (200, JSON, BodyPath.UNSEEN, False),
    ],
)
def test_what_nobody_reads_is_not_wanted(status: int, headers: dict[str, bytes], path: BodyPath, wanted: bool) -> None:
    told = Measurement(100.0, FakeClock(100.0), lambda gap_s: None, only_readable=True)
    reader = AnswerReader(told)
    reader.headers(status, headers, path)
    assert (reader.wants_body, reader.only_listens) == (wanted, True)
    assert told.size_bytes == 0


def test_who_puts_a_name_back_does_more_than_listen() -> None:
    reader = AnswerReader(None, ("served", "client"))
    reader.headers(200, SSE, FREE)
    assert (reader.wants_body, reader.only_listens) == (True, False)
