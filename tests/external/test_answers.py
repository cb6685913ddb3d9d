from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion

from extproc.external.answers import chat_answer, messages_answer
from tests.external.recorded import CHAT, CHAT_TOOLS, MESSAGE, MESSAGE_TOOLS


def to_chat(document: Any) -> dict[str, Any]:
    answer = chat_answer(document, "chat", 7)
    assert answer is not None
    ChatCompletion.model_validate(answer, strict=True)
    return answer


def to_message(document: Any) -> dict[str, Any]:
    answer = messages_answer(document, "chat")
    assert answer is not None
    Message.model_validate(answer, strict=True)
    return answer


def test_text_for_an_openai_client() -> None:
    answer = to_chat(MESSAGE)
    assert answer["id"] == "chatcmpl-013Zva2CMHLNnXjNJJKqJ2EF"
    assert (answer["model"], answer["created"]) == ("chat", 7)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": 'Grüße, "world" 🌍', "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 93 + 100 + 924
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 924}


def test_tools_for_an_openai_client() -> None:
    message = to_chat(MESSAGE_TOOLS)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Let me look.", "Two things to ask.")
    assert message["tool_calls"] == [
        {
            "id": "toolu_01A09q90qw90lq917835lq9",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
        },
        {"id": "toolu_02A09q90qw90lq917835lq9", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    only = {**MESSAGE_TOOLS, "content": MESSAGE_TOOLS["content"][2:]}
    assert to_chat(only)["choices"][0]["message"]["content"] is None


def test_text_for_an_anthropic_client() -> None:
    answer = to_message(CHAT)
    assert answer["id"] == "msg_B9MHDbslfkBeAs8l4bebGdFOJ6PeG"
    assert answer["content"] == [{"type": "text", "text": 'Grüße, "world" 🌍'}]
    assert (answer["stop_reason"], answer["model"]) == ("end_turn", "chat")
    assert answer["usage"] == {
        "input_tokens": 93,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1024,
        "output_tokens": 46,
    }


def test_tools_for_an_anthropic_client() -> None:
    answer = to_message(CHAT_TOOLS)
    assert answer["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
    ]
    assert answer["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "expected"), [("", {}), (None, {}), ("[1]", {"arguments": "[1]"}), ("{", {"arguments": "{"})]
)
def test_arguments_that_a_model_wrote_badly(arguments: object, expected: object) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    assert to_message({**CHAT, "choices": [choice]})["content"][0]["input"] == expected


def test_a_refusal() -> None:
    message = {"role": "assistant", "content": None, "refusal": "No."}
    answer = to_message({**CHAT, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert (answer["content"], answer["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")
    assert to_chat({**MESSAGE, "content": [], "stop_reason": "refusal"})["choices"][0]["finish_reason"] == "content_filter"


def test_there_and_back() -> None:
    back = to_message(to_chat(MESSAGE))
    assert (back["id"], back["content"][0]["text"]) == (MESSAGE["id"], MESSAGE["content"][0]["text"])
    again = to_chat(to_message(CHAT_TOOLS))
    assert again["id"] == CHAT_TOOLS["id"]
    assert again["choices"][0]["message"]["tool_calls"] == CHAT_TOOLS["choices"][0]["message"]["tool_calls"]
    assert again["usage"]["total_tokens"] == 1163


@pytest.mark.parametrize("document", [None, [], "x", {}, {"content": "x"}, {"content": ["x"]}, {"error": {}}])
def test_what_is_no_message(document: object) -> None:
    assert chat_answer(document, "chat", 7) is None


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], {}, {"choices": []}, {"choices": [None]}, {"choices": [{"text": "x"}]}, {"choices": {"a": 1}}),
        *({"choices": [{"message": {"tool_calls": [1]}}]}, {"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}),
    ],
)
def test_what_is_no_completion(document: object) -> None:
    assert messages_answer(document, "chat") is None


def test_the_least() -> None:
    assert to_chat({"content": []})["choices"][0]["message"]["content"] == ""
    assert to_message({"choices": [{"message": {"role": "assistant"}}]})["content"] == []
