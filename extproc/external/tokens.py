"""Usage and the reasons of an end, from one dialect to the other.

OpenAI's `prompt_tokens` are all of the prompt; Anthropic counts those that it read from its cache, or wrote there, beside
`input_tokens`. (https://platform.claude.com/docs/en/build-with-claude/prompt-caching)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's `stop_reason` as OpenAI's `finish_reason`."""
STOP: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""And back."""


def count(value: object) -> int:
    """A number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def openai_usage(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's usage as OpenAI's."""
    cached, fresh = count(stated.get("cache_read_input_tokens")), count(stated.get("cache_creation_input_tokens"))
    prompt = count(stated.get("input_tokens")) + cached + fresh
    completion = count(stated.get("output_tokens"))
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return usage


def anthropic_usage(stated: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's usage as Anthropic's."""
    details = stated.get("prompt_tokens_details")
    prompt = count(stated.get("prompt_tokens"))
    cached = min(count(details.get("cached_tokens")) if isinstance(details, dict) else 0, prompt)
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": count(stated.get("completion_tokens")),
    }


def openai_id(identity: object) -> str:
    """The id of an Anthropic message as that of a chat completion."""
    return "chatcmpl-" + (identity.removeprefix("msg_") if isinstance(identity, str) else "")


def anthropic_id(identity: object) -> str:
    """And back."""
    return "msg_" + (identity.removeprefix("chatcmpl-") if isinstance(identity, str) else "")
