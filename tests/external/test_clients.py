"""The providers' own libraries, unchanged, against a provider that speaks the other dialect: all in memory.

The library's request is translated, a recorded answer comes back, and the library reads what it is made into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest

from tests.external.parts import Answer, Called
from tests.external.recorded import (
    CHAT,
    CHAT_STREAM,
    CHAT_TOOLS,
    CHAT_TOOLS_STREAM,
    MESSAGE,
    MESSAGE_STREAM,
    MESSAGE_TOOLS,
    MESSAGE_TOOLS_STREAM,
    OPENAI_401,
    OVERLOADED_EVENT,
)

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Pieces(httpx2.SyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


class Gateway:
    """Answers a library's requests as a provider would through us."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.answer: tuple[int, str, bytes] = (200, "application/json", b"{}")
        self.called: list[Called] = []

    def says(self, document: dict[str, Any] | bytes, status: int = 200) -> None:
        if isinstance(document, bytes):
            self.answer = (status, "text/event-stream", document)
        else:
            self.answer = (status, "application/json", orjson.dumps(document))

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        ours = {
            name: value for name, value in request.headers.items() if name not in ("content-length", "content-type", "host")
        }
        called = Called(self.provider, request.read(), request.url.path, headers=ours)
        assert "from-the-client" not in repr(called.call.headers())
        self.called.append(called)
        status, kind, body = self.answer
        cut = [body[at : at + 61] for at in range(0, len(body), 61)]
        answer = Answer(called.reader(), body, status=status, kind=kind, cut=lambda _: cut)
        return httpx2.Response(answer.status, headers=answer.headers, stream=Pieces(answer.pieces))

    @property
    def sent(self) -> Any:
        return self.called[-1].sent


@pytest.fixture
def to_anthropic() -> Gateway:
    return Gateway("anthropic")


@pytest.fixture
def to_openai() -> Gateway:
    return Gateway("openai")


@pytest.fixture
def chat(to_anthropic: Gateway) -> Iterator[openai.OpenAI]:
    http = httpx2.Client(transport=httpx2.MockTransport(to_anthropic))
    with openai.OpenAI(api_key="from-the-client", base_url="http://gateway/v1", http_client=http, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(to_openai: Gateway) -> Iterator[anthropic.Anthropic]:
    http = httpx2.Client(transport=httpx2.MockTransport(to_openai))
    with anthropic.Anthropic(api_key="from-the-client", base_url="http://gateway", http_client=http, max_retries=0) as client:
        yield client


def test_openai_asks_anthropic(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says(MESSAGE)
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    answer = chat.chat.completions.create(model="chat", messages=said, max_tokens=9)  # type: ignore[arg-type]
    assert to_anthropic.sent == {
        "model": "served",
        "max_tokens": 9,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert answer.choices[0].message.content == 'Grüße, "world" 🌍'
    assert answer.usage is not None
    assert (answer.model, answer.usage.total_tokens) == ("chat", 1163)


def test_openai_goes_on_after_a_tool_call(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says(MESSAGE_TOOLS)
    said: list[Any] = [{"role": "user", "content": "hi"}]
    answer = chat.chat.completions.create(model="chat", messages=said, tools=[TOOL])  # type: ignore[list-item]
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    said += [message, *[{"role": "tool", "tool_call_id": call.id, "content": "x"} for call in message.tool_calls]]
    chat.chat.completions.create(model="chat", messages=said, tools=[TOOL])  # type: ignore[list-item]
    assert [turn["role"] for turn in to_anthropic.sent["messages"]] == ["user", "assistant", "user"]
    assert to_anthropic.sent["messages"][1]["content"] == MESSAGE_TOOLS["content"][1:]


def test_openai_streams_from_anthropic(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says(MESSAGE_STREAM)
    options: Any = {"include_usage": True}
    stream = chat.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options=options
    )
    chunks = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == 'Grüße, "world" 🌍'
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 46
    assert to_anthropic.sent["stream"] is True


def test_openais_own_reader_of_streams_finds_the_tools(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says(MESSAGE_TOOLS_STREAM)
    with chat.chat.completions.stream(model="chat", messages=[{"role": "user", "content": "hi"}]) as stream:
        message = stream.get_final_completion().choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    assert (message.content, calls) == ("Let me look.", [("weather", '{"city":"Oslo"}'), ("time", "")])


def test_an_error_in_a_stream_is_openais(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says(MESSAGE_STREAM[:500] + b"\n\n" + OVERLOADED_EVENT)
    stream = chat.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}], stream=True)
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(stream)


def test_errors_are_openais(chat: openai.OpenAI, to_anthropic: Gateway) -> None:
    to_anthropic.says({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}, 429)
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        chat.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
    to_anthropic.says({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}, 401)
    with pytest.raises(openai.InternalServerError, match="refused the gateway's credential") as error:
        chat.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
    assert error.value.status_code == 502


def test_anthropic_asks_openai(claude: anthropic.Anthropic, to_openai: Gateway) -> None:
    to_openai.says(CHAT)
    answer = claude.messages.create(
        model="chat", max_tokens=9, system="Be brief.", messages=[{"role": "user", "content": "hi"}]
    )
    assert to_openai.sent == {
        "model": "served",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 9,
    }
    (block,) = answer.content
    assert block.type == "text"
    assert (block.text, answer.model, answer.stop_reason) == ('Grüße, "world" 🌍', "chat", "end_turn")
    assert answer.usage.input_tokens == 93


def test_anthropic_goes_on_after_a_tool_call(claude: anthropic.Anthropic, to_openai: Gateway) -> None:
    to_openai.says(CHAT_TOOLS)
    said: list[Any] = [{"role": "user", "content": "hi"}]
    tools: Any = [{"name": "weather", "input_schema": {"type": "object"}}]
    answer = claude.messages.create(model="chat", max_tokens=9, messages=said, tools=tools)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "x"} for block in answer.content if block.type == "tool_use"
    ]
    said += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    claude.messages.create(model="chat", max_tokens=9, messages=said, tools=tools)
    assert [message["role"] for message in to_openai.sent["messages"]] == ["user", "assistant", "tool", "tool"]
    assert to_openai.sent["messages"][1]["tool_calls"] == CHAT_TOOLS["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (CHAT_STREAM, [("text", 'Grüße, "world" 🌍')]),
        (CHAT_TOOLS_STREAM, [("text", "Let me look."), ("tool_use", {"city": "Oslo"}), ("tool_use", {})]),
    ],
)
def test_anthropic_streams_from_openai(
    claude: anthropic.Anthropic, to_openai: Gateway, stream: bytes, expected: list[tuple[str, object]]
) -> None:
    to_openai.says(stream)
    with claude.messages.stream(model="chat", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as events:
        message = events.get_final_message()
    found = [(block.type, block.text if block.type == "text" else getattr(block, "input", None)) for block in message.content]
    assert found == expected
    assert (message.usage.output_tokens, message.usage.cache_read_input_tokens) == (46, 1024)
    assert to_openai.sent["stream_options"] == {"include_usage": True}


def test_errors_are_anthropics(claude: anthropic.Anthropic, to_openai: Gateway) -> None:
    to_openai.says({"error": {"message": "Too long", "type": "invalid_request_error", "code": None}}, 400)
    with pytest.raises(anthropic.BadRequestError, match="Too long"):
        claude.messages.create(model="chat", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    to_openai.says(OPENAI_401, 401)
    with pytest.raises(anthropic.InternalServerError, match="refused the gateway's credential") as error:
        claude.messages.create(model="chat", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    assert error.value.status_code == 502


def test_an_error_in_a_stream_is_anthropics(claude: anthropic.Anthropic, to_openai: Gateway) -> None:
    to_openai.says(CHAT_STREAM[:700])
    stream = claude.messages.create(model="chat", max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=True)
    with pytest.raises(anthropic.APIStatusError, match="ended the stream before"):
        list(stream)
