"""Answers read by hand, against httptools: whatever the server sends, and however it is cut, both give the same page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scraping.answer import AnswerReader
from extproc.scraping.odd import OddAnswer
from extproc.scraping.reasons import FetchError, Reason
from tests.fakes.fuzz import examples

from .servers import reply

PAGE = b"vllm:num_requests_waiting 3\n"
MAX_BYTES = 1000


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def read(answer: bytes, *cuts: int) -> tuple[bytes | None, AnswerReader]:
    """The page of the answer, which comes in pieces."""
    reader = AnswerReader(MAX_BYTES)
    reader.begin()
    at = 0
    for cut in (*sorted({cut for cut in cuts if 0 < cut < len(answer)}), len(answer)):
        page = reader.feed(answer[at:cut])
        if page is not None:
            return page, reader
        at = cut
    return None, reader


def outcome(answer: bytes, *cuts: int) -> bytes | str | None:
    try:
        return read(answer, *cuts)[0]
    except FetchError as error:
        return error.reason


GOOD = [
    reply(PAGE),
    reply(b""),
    chunked(PAGE),
    chunked(PAGE[:5], PAGE[5:6], PAGE[6:]),
    chunked(PAGE, trailers=b"x: y\r\nz: a\r\n"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding:  Chunked \r\nConnection: Keep-Alive\r\n\r\n1C;a=b\r\n" + PAGE + b"\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:28\r\n\r\n" + PAGE,
]
ODD = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 28\r\nconnection: close\r\n\r\n" + PAGE,
    b"HTTP/1.0 200 OK\r\ncontent-length: 28\r\n\r\n" + PAGE,
    b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 28\r\n\r\n" + PAGE,
]


@pytest.mark.parametrize("answer", [*GOOD, *ODD], ids=range(len(GOOD) + len(ODD)))
def test_pages_however_they_are_cut(answer: bytes) -> None:
    page, _ = read(answer)

    assert page == (b"" if answer == GOOD[1] else PAGE)
    for cut in range(len(answer)):
        assert outcome(answer, cut) == page
    assert outcome(answer, *range(len(answer))) == page


@pytest.mark.parametrize("answer", GOOD, ids=range(len(GOOD)))
def test_the_connection_is_kept_and_read_again(answer: bytes) -> None:
    page, reader = read(answer)
    kept = [reader.reusable]
    reader.begin()
    kept.append(reader.reusable)
    assert kept == [True, False]
    assert reader.feed(answer) == page


@pytest.mark.parametrize("answer", [*ODD[:2], GOOD[0] + b"x", GOOD[2] + b"HTTP/1.1 200 OK\r\n"], ids=range(4))
def test_the_connection_is_not_kept(answer: bytes) -> None:
    page, reader = read(answer)
    assert page == PAGE
    assert not reader.reusable


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Reason.HTTP_STATUS),
        (b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", Reason.NOT_HTTP),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Reason.NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", Reason.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n", Reason.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", Reason.NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", Reason.NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * 70_000, Reason.NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, Reason.NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx", Reason.ENCODED),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", Reason.NOT_HTTP),
    ],
    ids=range(11),
)
def test_answers_that_are_no_page(answer: bytes, reason: Reason) -> None:
    assert outcome(answer) == reason


def test_what_nobody_asked_for() -> None:
    reader = AnswerReader(MAX_BYTES)
    with pytest.raises(FetchError):
        reader.feed(reply(PAGE))


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (b"", Reason.CLOSED),
        (b"HTTP/1.1 2", Reason.TRUNCATED),
        (reply(PAGE)[:-1], Reason.TRUNCATED),
        (chunked(PAGE)[:-4], Reason.TRUNCATED),
    ],
    ids=range(4),
)
def test_connections_that_end_early(begin: bytes, reason: Reason) -> None:
    _, reader = read(begin) if begin else (None, AnswerReader(MAX_BYTES))
    if not begin:
        reader.begin()
    with pytest.raises(FetchError) as caught:
        reader.ended()
    assert caught.value.reason is reason


def test_a_page_that_ends_with_its_connection() -> None:
    _, reader = read(b"HTTP/1.0 200 OK\r\n\r\n" + PAGE)
    assert reader.ended() == PAGE
    assert not reader.reusable


HEADERS = st.sampled_from(
    [
        b"content-length: 28",
        b"Content-Length: 5",
        b"content-length: -1",
        b"transfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
        b"connection: close",
        b"connection: keep-alive",
        b"content-encoding: gzip",
        b"content-encoding: identity",
        b"date: Thu, 01 Jan 2026 00:00:00 GMT",
        b" folded",
        b"content-type: text/plain",
    ]
)
BODIES = st.sampled_from([PAGE, chunked(PAGE).partition(b"\r\n\r\n")[2], b"", b"5\r\nabcde\r\n0\r\n\r\n", b"zz\r\n", PAGE * 50])
STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 4 + [b"HTTP/1.0 200 OK", b"HTTP/1.1 503 x", b"HTTP/1.1 200", b"HTTP/1.1 204 No Content"]
)


@examples(300)
@given(STATUS, st.lists(HEADERS, max_size=4), BODIES, st.lists(st.integers(1, 200), max_size=4))
def test_both_ways_of_reading_give_the_same_page(status: bytes, headers: list[bytes], body: bytes, cuts: list[int]) -> None:
    """httptools is stricter with what can't matter here; where it gives a page, it is ours too, and never another one."""
    answer = b"\r\n".join([status, *headers, b"", body])
    odd = OddAnswer(MAX_BYTES)
    try:
        theirs = odd.feed(answer)
    except FetchError:
        return
    ours = outcome(answer, *cuts)
    assert ours == theirs
