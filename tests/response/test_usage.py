from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.response.usage import NO_USAGE, WHOLE_BYTES, DocumentUsage, StreamUsage, Usage, usage_of
from tests.fakes.fuzz import examples
from tests.response.pieces import cut

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": 'say "usage": {"prompt_tokens": 9}'}}],
    "usage": {
        "prompt_tokens": 7,
        "total_tokens": 12,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
    "kv_transfer_params": None,
}
RESPONSES: dict[str, Any] = {
    "object": "response",
    "output": [],
    "usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5, "total_tokens": 12},
    "user": None,
}
MESSAGES = {"type": "message", "usage": {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 5}}
ALL = Usage(7, 5, 4)


def event(data: object, kind: str = "") -> bytes:
    name = f"event: {kind}\n".encode() if kind else b""
    return name + b"data: " + (data if isinstance(data, bytes) else orjson.dumps(data)) + b"\n\n"


CHAT_STREAM = b"".join(
    [
        event({"choices": [{"delta": {"content": ""}}], "usage": None}),
        event({"choices": [{"delta": {"content": 'the "usage": {"prompt_tokens": 1}'}}], "usage": None}),
        b": ping\n\n",
        event({"choices": [], "usage": CHAT["usage"]}),
        event(b"[DONE]"),
    ]
)
CONTINUOUS = b"".join(
    event({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 7, "completion_tokens": n}}) for n in range(6)
)
RESPONSES_STREAM = b"".join(
    [
        event({"type": "response.created", "response": {"id": "r", "usage": None}}, "response.created"),
        event({"type": "response.output_text.delta", "delta": "hi"}, "response.output_text.delta"),
        event({"type": "response.completed", "response": RESPONSES}, "response.completed"),
    ]
)
MESSAGES_STREAM = b"".join(
    [
        event(
            {
                "type": "message_start",
                "message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 1}},
            },
            "message_start",
        ),
        event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}, "content_block_delta"),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]
)


def read(reader: StreamUsage | DocumentUsage, pieces: list[bytes]) -> Usage:
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    reader.end()
    return reader.usage


@pytest.mark.parametrize("document", [CHAT, RESPONSES, MESSAGES])
def test_documents(document: dict[str, Any]) -> None:
    assert usage_of(document) == ALL
    assert read(DocumentUsage(), [orjson.dumps(document)]) == ALL


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (CHAT_STREAM, ALL),
        (CONTINUOUS, Usage(7, 5, None)),
        (RESPONSES_STREAM, ALL),
        (MESSAGES_STREAM, ALL),
        (event({"choices": []}) + event(b"[DONE]"), NO_USAGE),
        (event(b'{"usage": {"prompt_tokens": 1}'), NO_USAGE),
        (b"", NO_USAGE),
    ],
    ids=["chat", "continuous", "responses", "messages", "none", "broken", "empty"],
)
@examples(40)
@given(data=st.data())
def test_streams_cut_anywhere(stream: bytes, told: Usage, data: st.DataObject) -> None:
    assert read(StreamUsage(), data.draw(cut(stream))) == told
    assert read(StreamUsage(), data.draw(cut(stream.replace(b"\n", b"\r\n")))) == told


@examples(40)
@given(st.sampled_from([0, 100, WHOLE_BYTES - 500, WHOLE_BYTES, 3 * WHOLE_BYTES]), st.data())
def test_documents_of_any_length_cut_anywhere(padding: int, data: st.DataObject) -> None:
    document = orjson.dumps({"data": "x" * padding, **CHAT})
    places = sorted(data.draw(st.lists(st.integers(0, len(document)), max_size=5)))
    pieces = [document[a:b] for a, b in zip([0, *places], [*places, len(document)], strict=True)]
    reader = DocumentUsage()
    for piece in pieces:
        reader.feed(piece)
        assert len(reader._kept) <= 2 * WHOLE_BYTES
    assert read(reader, []) == ALL


def test_a_long_document_without_usage() -> None:
    assert read(DocumentUsage(), [orjson.dumps({"data": "x" * 2 * WHOLE_BYTES, "usage": None})]) == NO_USAGE
    assert read(DocumentUsage(), [b'{"usage": {"prompt_tokens": 1', b" " * 2 * WHOLE_BYTES]) == NO_USAGE


def test_the_last_object_that_states_tokens_counts() -> None:
    tail = b'"usage": {"prompt_tokens": 3}, "metadata": {"usage": {"note": "none"}}}'
    assert read(DocumentUsage(), [b'{"x": "' + b"x" * 2 * WHOLE_BYTES + b'", ' + tail]) == Usage(3, None, None)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**60), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["usage", "response", "message", "prompt_tokens", "prompt_tokens_details", "cached_tokens"]), inner
        ),
    ),
    max_leaves=8,
)


@examples(200)
@given(json_values)
def test_any_document_is_survived(document: object) -> None:
    for number in usage_of(document):
        assert number is None or (type(number) is int and 0 <= number <= 2**53)


@examples(100)
@given(st.binary(max_size=200), st.data())
def test_any_bytes_are_survived(body: bytes, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([b"", b'data: {"usage":{', b'{"usage": {'])) + body
    read(StreamUsage(), data.draw(cut(body)))
    read(DocumentUsage(), data.draw(cut(body)))
