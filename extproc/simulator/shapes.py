"""What the bodies and answers of newer APIs have in common: validated loosely, as most of their fields mean nothing here."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from extproc.simulator import api
from extproc.simulator.api import Ask, ChatBody, ServedModel


class LooseBody(BaseModel):
    """A body of which only some fields matter."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None


def sse(kind: str, document: object) -> bytes:
    """An event with its name, which OpenAI's responses and Anthropic's messages have."""
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(document) + b"\n\n"


def ask_of_chat(
    served: ServedModel,
    model: str | None,
    messages: list[dict[str, Any]],
    *,
    max_tokens: int | None,
    stream: bool,
    tools: list[dict[str, Any]] | None = None,
    stop: list[str] | None = None,
    ignore_eos: bool = False,
    cache_salt: str | None = None,
) -> Ask:
    """A chat of another API, as the chat that it is. Raises ApiError when it can't be answered."""
    body = ChatBody.model_construct(
        model=model,
        messages=messages,
        tools=tools,
        max_completion_tokens=max_tokens,
        stream=stream,
        stop=stop,
        ignore_eos=ignore_eos,
        cache_salt=cache_salt,
    )
    return api.chat_ask(body, served)
