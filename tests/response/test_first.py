"""When an answer begins."""

from __future__ import annotations

import pytest

from extproc.domain import BodyPath
from extproc.response import AnswerReader, FirstPiece

FREE, PIECEWISE, UNSEEN, EMPTY = BodyPath.FREE, BodyPath.PIECEWISE, BodyPath.UNSEEN, BodyPath.EMPTY
SSE = b"text/event-stream; charset=utf-8"
JSON = b"application/json"


class Bench:
    def __init__(self) -> None:
        self.begun = 0
        self.first = FirstPiece(self._begins)
        self.reader = AnswerReader(first=self.first)

    def _begins(self) -> None:
        self.begun += 1

    def headers(self, path: BodyPath, kind: bytes = SSE, status: int = 200, encoding: bytes = b"") -> None:
        self.reader.headers(status, {"content-type": kind, "content-encoding": encoding}, path)


@pytest.mark.parametrize("path", [FREE, PIECEWISE])
@pytest.mark.parametrize("kind", [SSE, JSON, b"image/png"])
def test_with_the_first_piece_that_is_not_empty(path: BodyPath, kind: bytes) -> None:
    bench = Bench()
    bench.headers(path, kind, encoding=b"gzip")
    assert (bench.first.comes, bench.first.at_headers) == (True, False)
    assert bench.reader.wants_body
    assert bench.reader.only_listens
    seen = []
    for piece in (b"", b"x", b"y"):
        assert bench.reader.body(piece, False) is piece
        seen.append(bench.begun)
    bench.reader.body(b"", True)
    assert seen == [0, 1, 1]
    assert bench.begun == 1


def test_with_the_end_of_a_body_that_has_nothing() -> None:
    bench = Bench()
    bench.headers(FREE)
    bench.reader.body(b"", True)
    assert bench.begun == 1


@pytest.mark.parametrize(
    ("path", "kind", "status", "at_headers"),
    [
        (UNSEEN, SSE, 200, False),
        (UNSEEN, b"application/x-ndjson", 200, False),
        (UNSEEN, JSON, 200, True),
        (UNSEEN, b"", 200, True),
        (UNSEEN, SSE, 503, True),
        (EMPTY, SSE, 200, True),
    ],
)
def test_of_a_body_that_does_not_come_by(path: BodyPath, kind: bytes, status: int, at_headers: bool) -> None:
    bench = Bench()
    bench.headers(path, kind, status)
    assert (bench.first.comes, bench.first.at_headers) == (False, at_headers)
    assert not bench.reader.wants_body
    assert not bench.begun, "who heard the headers says so itself"
