"""Anthropic's API, as vLLM serves it: POST /v1/messages, with events, and /v1/messages/count_tokens."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import Field

from extproc.simulator import api, tokens
from extproc.simulator.answers import Answer
from extproc.simulator.engine import Emission
from extproc.simulator.generation import Generation, Run
from extproc.simulator.replies import Usage
from extproc.simulator.shapes import LooseBody, ask_of_chat, sse

PATH = "/v1/messages"
_KINDS = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}


class CountBody(LooseBody):
    """POST /v1/messages/count_tokens."""

    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None

    def chat(self) -> list[dict[str, Any]]:
        """The messages with the system prompt in front."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]


class MessagesBody(CountBody):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: list[str] | None = None
    stream: bool | None = False


class Messages:
    """The handlers."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/messages."""
        generation = self._generation
        body = api.parse(MessagesBody, request.headers.get("content-type", ""), await request.read())
        ask = ask_of_chat(
            generation.served,
            body.model,
            body.chat(),
            max_tokens=body.max_tokens,
            stream=bool(body.stream),
            tools=body.tools,
            stop=body.stop_sequences,
        )
        return await generation.answer(request, ask, _Message(generation.id_of(request, "msg"), generation.model_of(ask)))

    async def count(self, request: web.Request) -> web.Response:
        """POST /v1/messages/count_tokens."""
        body = api.parse(CountBody, request.headers.get("content-type", ""), await request.read())
        api.adapter(body.model, self._generation.served)
        counted = tokens.length(tokens.chat_segments(body.chat(), body.tools))
        return web.Response(body=orjson.dumps({"input_tokens": counted}), content_type="application/json")


def error_body(error: api.ApiError) -> bytes:
    """An error as this API words it."""
    kind = _KINDS.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": error.message}})


class _Message:
    """An answer."""

    def __init__(self, id: str, model: str) -> None:
        self._id, self._model = id, model

    def _head(self, content: list[dict[str, Any]], answer: Answer | None, usage: dict[str, int]) -> dict[str, Any]:
        reason, stop = (None, None) if answer is None else _stop(answer)
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._model,
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": usage,
        }

    def document(self, run: Run) -> bytes:
        (choice,) = run.choices
        return orjson.dumps(self._head([{"type": "text", "text": choice.text}], choice.answer, _usage(run.usage())))

    def opening(self, run: Run) -> bytes:
        (choice,) = run.choices
        usage = _usage(Usage(choice.sequence.prompt_tokens, 0, choice.sequence.cached_tokens))
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        start = {"type": "message_start", "message": self._head([], None, usage)}
        return sse("message_start", start) + sse("content_block_start", block)

    def token(self, run: Run, emission: Emission) -> bytes:
        text = run.choices[0].answer.piece(emission.number, emission.number)
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return sse("content_block_delta", delta) if text else b""

    def closing(self, run: Run) -> bytes:
        reason, stop = _stop(run.choices[0].answer)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        return (
            sse("content_block_stop", {"type": "content_block_stop", "index": 0})
            + sse("message_delta", {"type": "message_delta", "delta": delta, "usage": _usage(run.usage())})
            + sse("message_stop", {"type": "message_stop"})
        )


def _stop(answer: Answer) -> tuple[str, str | None]:
    if answer.stop_reason is not None:
        return "stop_sequence", answer.stop_reason
    return "max_tokens" if answer.finish_reason == "length" else "end_turn", None


def _usage(usage: Usage) -> dict[str, int]:
    """Anthropic counts cached tokens beside the others."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "output_tokens": usage.completion,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
    }
