"""What an answer says, in the shapes of the APIs, whole and in pieces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.response import Usage
from extproc.shadow import AnswerText, Said, numbers_in
from extproc.shadow.answer import MOST_COMPARED_BYTES

JSON, EVENTS = b"application/json", b"text/event-stream"


def said(body: bytes, kind: bytes = JSON, *, encoding: bytes = b"", size: int = 7) -> Said:
    reader = AnswerText(kind, encoding)
    for begin in range(0, len(body), size):
        reader.feed(body[begin : begin + size])
    return reader.said()


def document(**fields: Any) -> Said:
    return said(orjson.dumps(fields))


def events(*data: Any) -> Said:
    return said(
        b"".join(b"data: " + (each if isinstance(each, bytes) else orjson.dumps(each)) + b"\n\n" for each in data), EVENTS
    )


class TestDocuments:
    def test_chat(self) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        assert document(choices=[choice], usage=usage) == Said("Hello", "stop", Usage(3, 1))

    def test_calls_of_tools_and_reasoning_are_text(self) -> None:
        call = {"function": {"name": "add", "arguments": '{"a":1}'}}
        message = {"reasoning_content": "Hm.", "content": None, "tool_calls": [call]}
        found = document(choices=[{"message": message, "finish_reason": "tool_calls"}])
        assert (found.text, found.finish_reason) == ('Hm.add{"a":1}', "tool_calls")

    def test_completions_with_several_choices(self) -> None:
        found = document(choices=[{"text": "one", "finish_reason": None}, {"text": "two", "finish_reason": "length"}])
        assert (found.text, found.finish_reason) == ("one\ntwo", "length")

    def test_responses(self) -> None:
        output = [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]
        assert document(status="completed", output=output)[:2] == ("Hello", "completed")

    def test_messages(self) -> None:
        content = [{"type": "text", "text": "Hi "}, {"type": "tool_use", "name": "f", "input": {"x": 1}}]
        found = document(type="message", content=content, stop_reason="end_turn", usage={"input_tokens": 2, "output_tokens": 5})
        assert found == Said('Hi f{"x":1}', "end_turn", Usage(2, 5))

    @pytest.mark.parametrize(
        ("fields", "numbers"),
        [
            ({"predictions": [0.5, {"p": 1}]}, [0.5, {"p": 1}]),
            ({"data": [{"embedding": [0.1, 0.2]}, {"embedding": [0.3]}]}, [[0.1, 0.2], [0.3]]),
            ({"outputs": [{"name": "y", "data": [1, 2]}]}, [[1, 2]]),
        ],
    )
    def test_numbers(self, fields: dict[str, Any], numbers: Any) -> None:
        assert document(**fields).numbers == numbers_in(numbers)

    @pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 2000])
    def test_malformed(self, body: bytes) -> None:
        assert said(body) == Said(unread="malformed")

    @pytest.mark.parametrize("body", [b"", b"null", b"1", b'"text"', b"{}", b'{"choices": 1, "content": {}, "data": [1]}'])
    def test_says_nothing(self, body: bytes) -> None:
        assert said(body)[:4] == Said()[:4]

    def test_a_list_is_numbers(self) -> None:
        assert said(b"[1, 2]").numbers[0] == (1.0, 2.0)

    @pytest.mark.parametrize(
        ("kind", "encoding", "why"),
        [(JSON, b"gzip", "content-encoding"), (b"text/html", b"", "content-type"), (b"", b"", "content-type")],
    )
    def test_what_cant_be_read(self, kind: bytes, encoding: bytes, why: str) -> None:
        assert said(b"{}", kind, encoding=encoding).unread == why

    def test_too_long(self) -> None:
        long = orjson.dumps({"choices": [{"text": "x" * MOST_COMPARED_BYTES}]})
        assert said(long, size=4096) == Said(unread="too long")


class TestStreams:
    def test_chat(self) -> None:
        found = events(
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            b"[DONE]",
        )
        assert found == Said("Hello", "stop", Usage(3, 2))

    def test_choices_are_kept_apart(self) -> None:
        found = events(*[{"choices": [{"index": n % 2, "text": str(n)}]} for n in range(1200)])
        assert found.text == "".join(map(str, range(0, 1200, 2))) + "\n" + "".join(map(str, range(1, 1200, 2)))

    def test_messages(self) -> None:
        found = events(
            {"type": "message_start", "message": {"usage": {"input_tokens": 4, "output_tokens": 1}}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        )
        assert found == Said("Hi", "end_turn", Usage(4, 9))

    def test_responses(self) -> None:
        found = events(
            {"type": "response.output_text.delta", "delta": "Hel"},
            {"type": "response.output_text.delta", "delta": "lo"},
            {"type": "response.completed", "response": {"status": "completed", "usage": {"output_tokens": 2}}},
        )
        assert found == Said("Hello", "completed", Usage(None, 2))

    def test_broken_events_are_passed_over(self) -> None:
        assert events(b"{", b"1", {"choices": [1, {"delta": 1}, {"text": "x", "index": "0"}]}).text == "x"

    def test_a_long_text_is_not_compared_and_its_tokens_are_counted(self) -> None:
        many = [{"choices": [{"text": "x" * 10_000}]} for _ in range(40)]
        found = events(*many, {"choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 7}})
        assert found == Said(None, "stop", Usage(None, 7), unread="too long")

    def test_very_many_choices_are_not_compared(self) -> None:
        assert events({"choices": [{"index": n, "text": "x"} for n in range(100)]}).unread == "too long"


@given(st.binary(max_size=300), st.sampled_from([JSON, EVENTS]), st.integers(1, 50))
def test_raises_nothing_and_does_not_care_how_it_is_cut(body: bytes, kind: bytes, size: int) -> None:
    assert said(body, kind, size=size) == said(body, kind, size=1000)
