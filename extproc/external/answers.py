"""Whole answers, from one dialect to the other. None for a document that is no such answer."""

from __future__ import annotations

from typing import Any

import orjson

from extproc.external.tokens import FINISH, STOP, anthropic_id, anthropic_usage, openai_id, openai_usage
from extproc.external.turns import call_id


def chat_answer(document: object, model: str, created_s: int) -> dict[str, Any] | None:
    """Anthropic's message as OpenAI's chat completion. `model` is the client's name for the model, `created_s` Unix time.

    Thinking becomes `reasoning_content`, as engines of OpenAI's dialect have it.
    """
    if not isinstance(document, dict) or not isinstance(document.get("content"), list):
        return None
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in document["content"]:
        if not isinstance(block, dict):
            return None
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            thoughts.append(block["thinking"])
        elif kind == "tool_use" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            arguments = orjson.dumps(block.get("input") or {}).decode()
            calls.append({"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}})
    text = "".join(texts)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    reason = document.get("stop_reason")
    finish = FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"
    stated = document.get("usage")
    return {
        "id": openai_id(document.get("id")),
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": openai_usage(stated if isinstance(stated, dict) else {}),
    }


def messages_answer(document: object, model: str) -> dict[str, Any] | None:
    """OpenAI's chat completion as Anthropic's message; its first choice, for none was asked for but one."""
    choice = _first_choice(document)
    if choice is None or not isinstance(document, dict):
        return None
    message = choice["message"]
    content: list[dict[str, Any]] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    for field in ("content", "refusal"):
        text = message.get(field)
        if isinstance(text, str) and text:
            content.append({"type": "text", "text": text})
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        block = _use(call)
        if block is None:
            return None
        content.append(block)
    reason = "refusal" if message.get("refusal") else STOP.get(str(choice.get("finish_reason")), "end_turn")
    stated = document.get("usage")
    return {
        "id": anthropic_id(document.get("id")),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": anthropic_usage(stated if isinstance(stated, dict) else {}),
    }


def _first_choice(document: object) -> dict[str, Any] | None:
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) and isinstance(choice.get("message"), dict) else None


def _use(call: object) -> dict[str, Any] | None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    return {
        "type": "tool_use",
        "id": call_id(str(call.get("id") or "")),
        "name": function["name"],
        "input": _input(function.get("arguments")),
    }


def _input(arguments: object) -> dict[str, Any]:
    """What a model wrote as arguments. It may write what is no JSON: then the text, for the client to see."""
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        read = orjson.loads(arguments)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"arguments": arguments}
