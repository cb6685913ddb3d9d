"""External models: a request for a provider, and a chunk of its streamed answer. All in memory, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from extproc.domain import BodyPath
from extproc.external import ProviderReader, asked, payload_of, provider_call
from tests.bench.core import measure_us
from tests.bench.table import Row
from tests.external.parts import CREATED_S, KEY, chat, messages, model, request
from tests.external.recorded import START, chunk, sse

_REQUEST_BAR_US: Final = 30.0
_CHUNK_BAR_US: Final = 5.0
_BYTES: Final = 4096

_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
_CHAT_TOOL: Final = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": _SCHEMA}}
_TOOL: Final = {"name": "weather", "description": "The weather.", "input_schema": _SCHEMA}


def _turns() -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": f"turn {at}: {'some words ' * 32}"} for at in range(9)]


def _filled(payload: dict[str, Any]) -> dict[str, Any]:
    """Of 4 KB, by its last turn."""
    last = payload["messages"][-1]
    last["content"] = "x" * max(0, _BYTES - len(orjson.dumps(payload)))
    return payload


def _chat_payload() -> dict[str, Any]:
    system = {"role": "system", "content": "Be brief."}
    return _filled(chat(messages=[system, *_turns()], tools=[_CHAT_TOOL], temperature=0.7, max_tokens=256, stream=True))


def _messages_payload() -> dict[str, Any]:
    return _filled(messages(messages=_turns(), system="Be brief.", tools=[_TOOL], temperature=0.7, stream=True))


def _caller(provider: str, payload: dict[str, Any], path: str) -> Callable[[], None]:
    """Translates one request that was parsed already, as every request is."""
    wanted = model(provider)
    parsed, body = request(payload, path)

    def run() -> None:
        read = payload_of(parsed, body)
        provider_call(wanted, KEY, parsed, body, read, asked(parsed.path, read))

    return run


def _reader(provider: str, path: str) -> ProviderReader:
    parsed, body = request(chat() if path != "/v1/messages" else messages(), path)
    read = payload_of(parsed, body)
    asks = asked(parsed.path, read)
    reader = ProviderReader(provider_call(model(provider), KEY, parsed, body, read, asks), asks, "chat", CREATED_S)
    reader.headers(200, {"content-type": b"text/event-stream"}, BodyPath.FREE)
    return reader


def _chunks(provider: str, path: str, first: bytes, one: bytes) -> Callable[[], None]:
    """Reads one more chunk of a stream that goes on for ever."""
    reader = _reader(provider, path)
    reader.body(first + one, False)
    assert reader.body(one, False)

    def run() -> None:
        reader.body(one, False)

    return run


def external_rows() -> list[Row]:
    """CPU of a request of 4 KB and of one streamed chunk, each way."""
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " token"}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    claude, one = sse(START, block, named=True), sse(delta, named=True)
    gpt, other = sse(chunk({"role": "assistant", "content": ""}), named=False), sse(chunk({"content": " token"}), named=False)
    requests = (
        ("OpenAI's request to Anthropic, 4 KB", _caller("anthropic", _chat_payload(), "/v1/chat/completions")),
        ("Anthropic's request to OpenAI, 4 KB", _caller("openai", _messages_payload(), "/v1/messages")),
        ("OpenAI's request to OpenAI, 4 KB", _caller("openai", _chat_payload(), "/v1/chat/completions")),
    )
    streams = (
        ("a chunk of Anthropic's for an OpenAI client", _chunks("anthropic", "/v1/chat/completions", claude, one)),
        ("a chunk of OpenAI's for an Anthropic client", _chunks("openai", "/v1/messages", gpt, other)),
        ("a chunk of OpenAI's for an OpenAI client", _chunks("openai", "/v1/chat/completions", gpt, other)),
    )
    return [
        *[Row(name, measure_us(run, 2000), "µs", _REQUEST_BAR_US) for name, run in requests],
        *[Row(name, measure_us(run, 10_000), "µs", _CHUNK_BAR_US) for name, run in streams],
    ]
