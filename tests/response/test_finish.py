"""The reason for which an answer ended, wherever it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import BodyPath
from extproc.response import Measurement
from extproc.response.finish import KEPT_BYTES, FinishReason
from tests.fakes.clock import FakeClock
from tests.fakes.fuzz import examples
from tests.response.pieces import cut

STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"stop"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length","stop_reason":null}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    b"data: [DONE]\n\n"
)
DOCUMENT = b'{"choices":[{"message":{"content":"\\"finish_reason\\":\\"made up\\""},"finish_reason": "stop"}],"usage":{}}'
MESSAGES = (
    b'event: message_start\ndata: {"message":{"stop_reason":null}}\n\n'
    b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def found(*pieces: bytes) -> str:
    reason = FinishReason()
    for piece in pieces:
        reason.feed(piece)
    return reason.found()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (STREAM, "length"),
        (DOCUMENT, "stop"),
        (MESSAGES, "end_turn"),
        (b'{"choices":[{"finish_reason":"stop","stop_reason":"end"}]}', "stop"),
        (b'{"text":"\\"finish_reason\\":\\"stop\\""}', ""),
        (b"", ""),
    ],
)
@given(data=st.data())
@examples(50)
def test_wherever_it_is_cut(answer: bytes, expected: str, data: st.DataObject) -> None:
    assert found(*data.draw(cut(answer))) == expected


def test_the_end_of_a_long_answer_is_enough() -> None:
    event = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    assert found(*[event] * 1000, STREAM) == "length"
    assert found(b"x" * 200_000 + DOCUMENT) == "stop"
    assert found(DOCUMENT, b"x" * 3 * KEPT_BYTES) == "", "it is forgotten what is too far from the end"


def test_only_what_is_asked_for_is_kept() -> None:
    told = Measurement(0.0, FakeClock(), lambda gap_s: None)
    told.headers(200, {"content-type": b"application/json"}, BodyPath.FREE)
    told.piece(DOCUMENT)
    assert told.finish_reason == ""
    told.read_finish_reason()
    told.piece(DOCUMENT)
    assert told.finish_reason == "stop"
