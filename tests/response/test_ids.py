"""The id of a response, from the beginning of its answer."""

from __future__ import annotations

import pytest

from extproc.domain import NO_MUTATION, BodyPath
from extproc.response import AnswerReader, ResponseId
from extproc.response.ids import MAX_SEARCHED_BYTES

DOCUMENT = b'{"id": "resp_0123-abc", "object": "response", "output": [{"id": "msg_1"}]}'
EVENTS = (
    b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_0123-abc"}}\n\n'
    b'event: response.output_item.added\ndata: {"item":{"id":"msg_1"}}\n\n'
)


@pytest.mark.parametrize("whole", [DOCUMENT, EVENTS, b'{"output":[{"id":"msg_1"}],"id":"resp_0123-abc"}'])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_is_found_however_the_answer_is_cut(whole: bytes, size: int) -> None:
    found: list[str] = []
    reader = ResponseId(found.append)
    for at in range(0, len(whole), size):
        if reader.searches:
            reader.piece(whole[at : at + size])
    assert found == ["resp_0123-abc"]


@pytest.mark.parametrize("whole", [b"", b'{"id":"msg_1"}', b'{"id":"resp\n"}', b"x" * MAX_SEARCHED_BYTES + DOCUMENT])
def test_is_not_searched_for_ever(whole: bytes) -> None:
    found: list[str] = []
    reader = ResponseId(found.append)
    for at in range(0, len(whole), 1000):
        if reader.searches:
            reader.piece(whole[at : at + 1000])
    assert not found
    assert reader.searches is (len(whole) < MAX_SEARCHED_BYTES)


@pytest.mark.parametrize(
    ("status", "encoding", "path", "learned"),
    [
        (200, b"", BodyPath.FREE, True),
        (202, b"identity", BodyPath.PIECEWISE, True),
        (400, b"", BodyPath.FREE, False),
        (200, b"gzip", BodyPath.FREE, False),
        (200, b"", BodyPath.UNSEEN, False),
    ],
)
def test_only_of_answers_that_can_be_read(status: int, encoding: bytes, path: BodyPath, learned: bool) -> None:
    found: list[str] = []
    reader = AnswerReader(response_id=ResponseId(found.append))
    assert reader.headers(status, {"content-encoding": encoding}, path) is NO_MUTATION
    assert reader.body(DOCUMENT, False) is DOCUMENT
    assert reader.body(b"", True) == b""
    assert found == (["resp_0123-abc"] if learned else [])
