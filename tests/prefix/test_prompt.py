"""What the prompt of a body is."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from extproc.document import Document, Span, as_dict
from extproc.prefix import prompt as module
from extproc.prefix.prompt import MEDIA_BYTES, MOST_PROMPTS, Prompt, prompts_of, salt_of
from extproc.request.long_texts import loads
from tests.fakes.documents import cut_out

ANSWER = {"role": "assistant", "content": "yes"}


def only(payload: dict[str, Any], **options: Any) -> Prompt:
    (prompt,) = prompts_of(payload, **options)
    return prompt


def data(payload: dict[str, Any]) -> bytes:
    return only(payload).data


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_conversation_that_goes_on_begins_as_it_began() -> None:
    first = chat({"role": "system", "content": "Be brief."}, user("Is it?"))
    second = chat(*first["messages"], ANSWER, user("Why?"))
    assert data(second).startswith(data(first))
    assert data(first) == b"\x01system\x02Be brief.\x01user\x02Is it?"


@pytest.mark.parametrize(
    "changed",
    [
        chat(user("Is it not?")),
        chat({"role": "assistant", "content": "Is it?"}),
        chat(user("Is it?"), tools=[{"type": "function", "function": {"name": "f"}}]),
        chat(user("Is it?"), system="Be brief."),
        chat(user("Is it?"), instructions="Be brief."),
        chat(user("Is it?"), {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
        chat(user("Is it?"), {"role": "assistant", "reasoning_content": "Hm."}),
        chat(user("Is it?"), {"role": "assistant", "reasoning": "Hm."}),
        chat(user("Is it?"), {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}),
        chat(user("Is it?"), {"role": "tool", "tool_call_id": "1", "content": "42"}),
        chat(user([{"type": "text", "text": "Is it?"}, {"type": "tool_result", "tool_use_id": "1", "content": "42"}])),
        chat(user("Is it?"), user([{"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}])),
        chat(user("Is it?"), user([{"type": "thinking", "thinking": "Hm.", "signature": "x"}])),
        chat(user([{"type": "text", "text": "Is it?"}, {"type": "image_url", "image_url": {"url": "http://a/b.png"}}])),
        chat(user([{"type": "text", "text": "Is it?"}, {"type": "what_comes_next", "quantum": 1}])),
    ],
)
def test_whatever_an_engine_reads_counts(changed: dict[str, Any]) -> None:
    assert data(changed) != data(chat(user("Is it?")))


def test_what_a_template_does_not_write_does_not_count() -> None:
    def with_id(name: str) -> dict[str, Any]:
        call = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return chat(user("Go"), {"role": "assistant", "content": None, "tool_calls": [call]}, temperature=len(name))

    assert data(with_id("a")) == data(with_id("bb"))
    cached = user([{"type": "text", "text": "Is it?", "cache_control": {"type": "ephemeral"}}])
    assert data(chat(cached)) == data(chat(user("Is it?")))


def test_system_and_tools_come_before_the_messages() -> None:
    tools = [{"type": "function", "function": {"name": "find"}}]
    written = data(chat({"role": "system", "content": "Be brief."}, user("Is it?"), tools=tools))
    assert written.index(b"Be brief.") < written.index(b"find") < written.index(b"Is it?")
    anthropic = data(chat(user("Is it?"), tools=tools, system=[{"type": "text", "text": "Be brief."}]))
    assert anthropic == written


@pytest.mark.parametrize("form", [str, lambda text: [{"type": "text", "text": text}, {"type": "text", "text": "Be brief."}]])
def test_the_billing_line_is_left_out(form: Any) -> None:
    first = chat(user("Is it?"), system=form("x-anthropic-billing-header: cc_version=2.1; cch=00001;"))
    second = chat(user("Is it?"), system=form("x-anthropic-billing-header: cc_version=2.1; cch=ffffe;"))
    assert data(first) == data(second)
    assert b"billing" not in data(first)


def test_an_image_is_a_block_whatever_its_size() -> None:
    def seen(url: str) -> Prompt:
        return only(chat(user([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}])))

    small, large = seen("http://a/b.png"), seen("data:image/png;base64," + "A" * 1_000_000)
    assert len(small.data) == len(large.data) == len(b"\x01user\x02What is it?") + MEDIA_BYTES
    assert small.data != large.data
    assert [media.kind for media in large.media] == ["image"]
    assert small.media[0].digest != large.media[0].digest
    assert large.multimodal


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, "image"),
        ({"type": "input_image", "image_url": "http://a/b.png"}, "image"),
        ({"image_url": "http://a/b.png"}, "image"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "audio"),
        ({"type": "audio_url", "audio_url": {"url": "http://a"}}, "audio"),
        ({"type": "video_url", "video_url": {"url": "http://a"}}, "video"),
        ({"type": "document", "source": {"type": "base64", "data": "AAAA"}}, "file"),
        ({"type": "input_file", "file_id": "f-1"}, "file"),
    ],
)
def test_kinds_of_media(part: dict[str, Any], kind: str) -> None:
    prompt = only(chat(user([part])))
    assert [media.kind for media in prompt.media] == [kind]
    assert prompt.multimodal == (kind != "file")


def test_images_in_tool_results_are_seen() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "http://a"}}
    assert only(chat(user([{"type": "tool_result", "tool_use_id": "1", "content": [image]}]))).multimodal


def test_many_images_are_not_many_times_their_body() -> None:
    payload = chat(user([{"type": "image"}] * 10_000))
    assert only(payload).length_bytes < 2 * len(orjson.dumps(payload))
    assert len(only(payload).media) == 10_000


def test_prompts_of_completions() -> None:
    assert data({"prompt": "Once"}) == b"Once"
    assert [prompt.data for prompt in prompts_of({"prompt": ["Once", "upon"]})] == [b"Once", b"upon"]
    (ids,) = prompts_of({"prompt": [1, 2, 70_000]}, bytes_per_token=3.5)
    assert (ids.tokens, ids.bytes_per_token, len(ids.data)) == (3, 4, 12)
    assert [prompt.tokens for prompt in prompts_of({"prompt": [[1, 2], [3]]})] == [2, 1]
    assert data({"token_ids": [1, 2]}) == data({"input_ids": [1, 2]}) == data({"prompt": [1, 2]})
    assert data({"text": "Once"}) == data({"inputs": "Once"}) == b"Once"


def test_inputs_of_responses_and_embeddings() -> None:
    assert data({"input": "Once", "instructions": "Be brief."}) == b"\x01system\x02Be brief.Once"
    assert [prompt.data for prompt in prompts_of({"input": ["a", "b"]})] == [b"a", b"b"]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Is it?"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "42"},
    ]
    written = data({"input": items})
    assert written == b"\x01user\x02Is it?\x01reasoning\x02Hm.\x01function_call\x02f{}\x01function_call_output\x0242"


@pytest.mark.parametrize("payload", [None, {}, {"model": "m"}, {"prompt": []}, {"messages": None}, {"input": None}])
def test_no_prompt(payload: dict[str, Any] | None) -> None:
    assert prompts_of(payload) == []


def test_length_and_what_is_kept() -> None:
    long = only({"prompt": "x" * 1000}, most_bytes=100)
    assert (len(long.data), long.length_bytes, long.tokens) == (100, 1000, 250)
    assert only({"prompt": "x" * 1000}, bytes_per_token=3.0).tokens == 334
    assert only({"prompt": "x" * 1000}, most_bytes=0).length_bytes == 1000
    (ids,) = prompts_of({"prompt": list(range(1000))}, most_bytes=100)
    assert (len(ids.data), ids.tokens) == (100, 1000)


def test_salt() -> None:
    assert salt_of({"cache_salt": "tenant-1"}) == "tenant-1"
    assert salt_of({"extra_key": ["a", 1]}) == '["a",1]'
    assert salt_of({}) == salt_of(None) == salt_of({"cache_salt": ""}) == ""


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", math.nan, 10**400])
words = st.sampled_from(
    ["messages", "role", "content", "type", "text", "image_url", "tools", "system", "prompt", "input", "user", "function"]
)
anything = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
TOP = [
    "messages",
    "prompt",
    "input",
    "input_ids",
    "token_ids",
    "text",
    "inputs",
    "system",
    "instructions",
    "tools",
    "cache_salt",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=st.dictionaries(st.sampled_from(TOP), anything, max_size=4), most=st.integers(0, 300))
def test_nothing_is_raised(payload: dict[str, Any], most: int) -> None:
    salt_of(payload)
    for prompt in prompts_of(payload, most_bytes=most):
        assert prompt.length_bytes >= len(prompt.data)
        assert prompt.tokens >= 0
    assert prompts_of(payload, most_bytes=most) == prompts_of(payload, most_bytes=most)


@given(
    payload=st.dictionaries(st.sampled_from(TOP), anything, max_size=4), most=st.integers(0, 300), seed=st.integers(0, 2**32)
)
def test_texts_that_stay_in_the_body(payload: dict[str, Any], most: int, seed: int) -> None:
    """Whichever texts they are, prompts and salt are the same, and so are all fields, before and after."""
    for first in (prompts_of, salt_of, dict):
        document = cut_out(copy.deepcopy(payload), random.Random(seed))
        first(document)
        assert [seen(each) for each in prompts_of(document, most_bytes=most)] == [
            seen(each) for each in prompts_of(payload, most_bytes=most)
        ]
        assert salt_of(document) == salt_of(payload)
        assert repr(as_dict(document)) == repr(payload)


def seen(prompt: Prompt) -> Prompt:
    return prompt._replace(pieces=(prompt.data,))


def test_a_long_text_is_not_copied() -> None:
    body = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"word " * 20_000)
    payload = loads(body)
    assert isinstance(payload, Document)
    (prompt,) = prompts_of(payload)
    span = prompt.pieces[-1]
    assert isinstance(span, Span)
    assert span.data is body
    assert prompt.data == only(orjson.loads(body)).data


def test_a_number_that_python_will_not_write() -> None:
    assert data({"prompt": [10**5000]}) == b"?"


def test_what_is_nested_deeply() -> None:
    nested: Any = "x"
    for _ in range(900):
        nested = [{"content": nested}]
    assert only(chat(nested), most_bytes=100).length_bytes


@pytest.mark.parametrize("payload", [chat(*[{}] * 100_000), {"prompt": [0.5] * 100_000}, {"prompt": [[0.5]] * 100_000}])
def test_work_is_bounded(payload: dict[str, Any]) -> None:
    """A body of 64 MiB may hold twenty million empty messages."""
    small = prompts_of(payload)
    assert len(small) <= MOST_PROMPTS
    assert sum(prompt.length_bytes for prompt in small) <= 2 * module._ITEMS * len("\x01\x02{}")
