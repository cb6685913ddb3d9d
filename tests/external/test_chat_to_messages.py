from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from extproc.errors import Untranslatable
from extproc.external.chat_to_messages import messages_request
from tests.external.parts import chat
from tests.external.typed import checked
from tests.fakes.fuzz import examples

SHAPE: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
_ELSEWHERE = {"temperature", "top_p", "top_k", "stream"}
"""Of API version 2023-06-01, which is the one that translations speak; newer libraries no longer name them. Streams have a type
of their own."""

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
CALLS: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "call.2/x", "type": "function", "function": {"name": "time", "arguments": ""}},
    ],
}
RESULT_1 = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
RESULT_2 = {
    "role": "tool",
    "tool_call_id": "call.2/x",
    "content": [{"type": "text", "text": "12"}, {"type": "text", "text": "00"}],
}
USER = {"role": "user", "content": "hi"}


def translated(**fields: Any) -> dict[str, Any]:
    out = messages_request(chat(**fields), "claude", 4096)
    checked(SHAPE, {field: value for field, value in out.items() if field not in _ELSEWHERE})
    return out


def conversation(*turns: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = translated(messages=list(turns))["messages"]
    return messages


def refusal(**fields: Any) -> str:
    with pytest.raises(Untranslatable) as error:
        messages_request(chat(**fields), "claude", 4096)
    assert error.value.param is not None
    assert error.value.param.split("[")[0].split(".")[0] in error.value.message
    return error.value.param


def test_the_least() -> None:
    assert translated() == {"model": "claude", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 10}, {"max_tokens": 10}),
        ({"max_tokens": 10, "max_completion_tokens": 20.0}, {"max_tokens": 20}),
        ({"temperature": 0.3}, {"temperature": 0.3}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.5, "top_k": 5}, {"top_p": 0.5, "top_k": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"stream": False}, {}),
        ({"user": "u-1"}, {"metadata": {"user_id": "u-1"}}),
        ({"safety_identifier": "u-1"}, {"metadata": {"user_id": "u-1"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"tools": []}, {}),
        ({"tool_choice": "none"}, {}),
        ({"n": 1, "seed": None, "logprobs": False, "presence_penalty": 0.0, "logit_bias": {}, "store": False}, {}),
        ({"prompt_cache_key": "x", "usage_context": {"a": "b"}, "client_request_id": "x"}, {}),
    ],
)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(**fields) == {**translated(), **expected}


def test_a_schema_for_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    out = translated(response_format=asked, reasoning_effort="high")
    assert out["output_config"] == {"format": {"type": "json_schema", "schema": schema}, "effort": "high"}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, None, {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_how_they_are_chosen(choice: object, parallel: bool | None, expected: object) -> None:
    bare = {"type": "function", "function": {"name": "time"}}
    out = translated(tools=[TOOL, bare], tool_choice=choice, parallel_tool_calls=parallel)
    assert out["tools"] == [
        {
            "name": "weather",
            "description": "The weather.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": True,
        },
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert out.get("tool_choice") == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"audio": {}}, "audio"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"something_new": 0}, "something_new"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": "x"}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"stop": [1]}, "stop"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning_effort": "immense"}, "reasoning_effort"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "and"}]}, "messages"),
        ({"messages": [{"role": "function", "name": "x", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
            "messages[0].content[0].file.file_data",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [RESULT_1]}, "messages[0].tool_call_id"),
        ({"messages": [USER, CALLS, RESULT_1, USER]}, "messages[3]"),
        ({"messages": [USER, CALLS, RESULT_1]}, "messages"),
        ({"messages": [USER, CALLS, RESULT_1, RESULT_1]}, "messages[3].tool_call_id"),
        (
            {"messages": [USER, {**CALLS, "tool_calls": [CALLS["tool_calls"][0]] * 2}, RESULT_1]},
            "messages[1].tool_calls[1].id",
        ),
        (
            {"messages": [{**CALLS, "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": "[1]"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "x", "arguments": ""}}]}, "messages[0].function_call"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields) == param


def test_a_refusal_quotes_no_prompt() -> None:
    with pytest.raises(Untranslatable) as error:
        messages_request(chat(stop=[{"a": "the prompt itself"}], messages=[USER]), "claude", 1)
    assert "prompt" not in error.value.message
    assert error.value.message == "'stop': expected a string, not an object"


def test_system_messages_come_first_wherever_they_stand() -> None:
    turns = [
        {"role": "developer", "content": "A"},
        USER,
        {"role": "assistant", "content": "yes"},
        {"role": "system", "content": [{"type": "text", "text": "B"}, {"type": "text", "text": "C"}]},
        {"role": "user", "content": "more"},
    ]
    out = translated(messages=turns)
    assert out["system"] == "A\nB\nC"
    assert [turn["role"] for turn in out["messages"]] == ["user", "assistant", "user"]


def test_turns_of_one_role_become_one_and_empty_text_goes() -> None:
    blank = {"role": "assistant", "content": ""}
    out = conversation(USER, {"role": "user", "content": " "}, {"role": "user", "content": "there"}, blank, USER, blank)
    assert out == [{"role": "user", "content": [{"type": "text", "text": text} for text in ("hi", "there", "hi")]}]


def test_tool_calls_and_results() -> None:
    out = conversation(USER, CALLS, RESULT_2, RESULT_1, {"role": "user", "content": "so?"})
    assert out[1] == {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "call_2_x", "name": "time", "input": {}},
        ],
    }
    assert out[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_2_x", "content": "12\n00"},
            {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
            {"type": "text", "text": "so?"},
        ],
    }


def test_a_result_may_be_empty() -> None:
    calls = {**CALLS, "content": "Let me look.", "tool_calls": CALLS["tool_calls"][:1]}
    out = conversation(USER, calls, {**RESULT_1, "content": ""})
    assert out[1]["content"][0] == {"type": "text", "text": "Let me look."}
    assert out[2]["content"] == [{"type": "tool_result", "tool_use_id": "call_1"}]


def test_images_and_documents() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,aGk="}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
    ]
    (turn,) = conversation({"role": "user", "content": parts})
    assert turn["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
    ]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), WORDS), max_size=6), WORDS)
@examples(200)
def test_all_text_is_kept_in_its_order(turns: list[tuple[str, str]], last: str) -> None:
    said = [*turns, ("user", last)]
    out = translated(messages=[{"role": role, "content": text} for role, text in said])
    assert out.get("system", "") == "\n".join([text for role, text in said if role == "system"])
    kept: list[tuple[str, str]] = []
    for turn in out["messages"]:
        content = turn["content"]
        texts = [content] if isinstance(content, str) else [block["text"] for block in content]
        kept += [(turn["role"], text) for text in texts]
    assert kept == [(role, text) for role, text in said if role != "system"]
    roles = [turn["role"] for turn in out["messages"]]
    assert all(one != other for one, other in pairwise(roles))
