from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from extproc.errors import Untranslatable
from extproc.external.chat_to_messages import messages_request
from extproc.external.messages_to_chat import chat_request
from tests.external.parts import messages
from tests.external.typed import checked
from tests.fakes.fuzz import examples

SHAPE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {}}, "strict": True}
USES: dict[str, Any] = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
    ],
}
RESULTS: dict[str, Any] = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "no clock"}], "is_error": True},
        {"type": "text", "text": "so?"},
    ],
}
USER = {"role": "user", "content": "hi"}


def translated(**fields: Any) -> dict[str, Any]:
    out = chat_request(messages(**fields), "gpt", "max_completion_tokens")
    checked(SHAPE, {field: value for field, value in out.items() if field != "stream"})
    return out


def conversation(*turns: dict[str, Any]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = translated(messages=list(turns))["messages"]
    return said


def test_the_least() -> None:
    assert translated() == {"model": "gpt", "max_completion_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
    assert chat_request(messages(), "x", "max_tokens")["max_tokens"] == 64


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.3, "top_p": 1}, {"temperature": 0.3, "top_p": 1}),
        ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
        ({"stop_sequences": []}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {"user_id": None}}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"output_config": {"effort": "max", "format": None}}, {"reasoning_effort": "xhigh"}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"cache_control": {"type": "ephemeral"}, "usage_context": {}, "client_request_id": "x"}, {}),
        ({"tools": []}, {}),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, {}),
    ],
)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(**fields) == {**translated(), **expected}


def test_a_schema_for_the_answer() -> None:
    out = translated(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}})
    assert out["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", None),
        ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}, None),
    ],
)
def test_tools_and_how_they_are_chosen(choice: dict[str, Any], expected: object, parallel: bool | None) -> None:
    out = translated(tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}], tool_choice=choice)
    function = {"name": "weather", "description": "The weather.", "parameters": TOOL["input_schema"], "strict": True}
    assert out["tools"] == [{"type": "function", "function": function}]
    assert (out["tool_choice"], out.get("parallel_tool_calls")) == (expected, parallel)


def test_system_as_text_and_as_blocks() -> None:
    blocks = [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "B"}]
    assert translated(system="A")["messages"][0] == {"role": "system", "content": "A"}
    assert translated(system=blocks)["messages"][0] == {"role": "system", "content": "A\nB"}
    assert conversation(USER, {"role": "system", "content": "C"}, USER)[1] == {"role": "system", "content": "C"}


def test_tool_calls_and_results() -> None:
    out = conversation(USER, USES, RESULTS)
    assert out[1]["content"] == "Let me look."
    calls = [
        (call["id"], call["function"]["name"], orjson.loads(call["function"]["arguments"])) for call in out[1]["tool_calls"]
    ]
    assert calls == [("toolu_1", "weather", {"city": "Oslo"}), ("toolu_2", "time", {})]
    assert out[2:] == [
        {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: no clock"},
        {"role": "user", "content": "so?"},
    ]


def test_images_and_documents_and_those_of_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    parts = [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        image,
        {"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    ]
    (turn,) = conversation({"role": "user", "content": parts})
    assert turn["content"] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"type": "text", "text": "words"},
    ]
    use = {"role": "assistant", "content": USES["content"][-1:]}
    result = {"type": "tool_result", "tool_use_id": "toolu_2", "content": [image]}
    out = conversation(USER, use, {"role": "user", "content": [result]})
    assert out[2:] == [
        {"role": "tool", "tool_call_id": "toolu_2", "content": ""},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"top_k": 3}, "top_k"),
        ({"container": "x"}, "container"),
        ({"something_new": False}, "something_new"),
        ({"temperature": 1.5}, "temperature"),
        ({"metadata": {"other": "x"}}, "metadata.other"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"other": 1}}, "output_config.other"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "{"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}]}]},
            "messages[0].content[0].source.type",
        ),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}, USER]}, "messages[0].content[0].type"),
        ({"messages": [RESULTS]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [USER, USES, USER]}, "messages[2].content"),
        ({"messages": [USER, USES]}, "messages"),
        ({"messages": [USER, USES, {**RESULTS, "content": RESULTS["content"][:1] * 2}]}, "messages[2].content[1].tool_use_id"),
        (
            {"messages": [USER, {"role": "assistant", "content": USES["content"][-1:] * 2}, RESULTS]},
            "messages[1].content[1].id",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Untranslatable) as error:
        chat_request(messages(**fields), "gpt", "max_tokens")
    assert error.value.param == param
    assert f"'{param}'" in error.value.message


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
TURNS = st.lists(
    st.one_of(
        st.tuples(st.just("user"), WORDS),
        st.tuples(st.just("assistant"), WORDS),
        st.tuples(st.just("call"), WORDS),
    ),
    max_size=5,
)


@given(TURNS, WORDS)
@examples(200)
def test_there_and_back_keeps_every_word(turns: list[tuple[str, str]], last: str) -> None:
    said: list[dict[str, Any]] = []
    for at, (kind, text) in enumerate(turns):
        if kind == "call":
            function = {"name": f"f{at}", "arguments": orjson.dumps({"q": text}).decode()}
            said.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": f"c{at}", "type": "function", "function": function}],
                }
            )
            said.append({"role": "tool", "tool_call_id": f"c{at}", "content": text})
        else:
            said.append({"role": kind, "content": text})
    said.append({"role": "user", "content": last})
    there = messages_request({"model": "a", "messages": said}, "b", 5)
    back = chat_request(there, "c", "max_tokens")
    assert words(back["messages"]) == words(said)
    assert back["max_tokens"] == 5


def words(said: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Who says what, whatever the turns are joined to."""
    out: list[tuple[str, str]] = []
    for message in said:
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [part["text"] for part in content or ()]
        functions = [call["function"] for call in message.get("tool_calls") or ()]
        texts += [f"{function['name']} {orjson.loads(function['arguments'])}" for function in functions]
        for text in texts:
            if out and out[-1][0] == message["role"]:
                out[-1] = (message["role"], out[-1][1] + text)
            else:
                out.append((message["role"], text))
    return out
