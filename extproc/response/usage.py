"""The tokens that an answer says it cost.

| API | where | fields |
|---|---|---|
| chat completions, completions, embeddings (OpenAI) | `usage`; in streams the last event, when the client asked for it | `prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens` |
| responses (OpenAI) | `usage`; in streams `response.usage` | `input_tokens`, `output_tokens`, `input_tokens_details.cached_tokens` |
| messages (Anthropic) | `usage`; in streams `message.usage` of `message_start`, then `usage` of `message_delta` | `input_tokens`, `output_tokens`, `cache_read_input_tokens` |

Numbers are the server's own, added to nothing: Anthropic counts cached tokens beside `input_tokens`, OpenAI within.
"""  # noqa: E501

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.response.sse import EventStream

WHOLE_BYTES: Final = 64 * 1024
"""A document up to this size is parsed; of a longer one the last such bytes are searched, because usage stands behind what
makes a document long (choices, embeddings)."""

_MOST_TOKENS: Final = 2**53
_KEY: Final = b'"usage"'
_OBJECT: Final = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*(?=\{)')
"""A quote inside a JSON string has a backslash before it, so this is a key, and its value an object (not null)."""
_decode_first: Final = json.JSONDecoder().raw_decode


class Usage(NamedTuple):
    """Tokens, each None when the answer does not say."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    """Prompt tokens found in the server's prefix cache."""

    def then(self, later: Usage) -> Usage:
        """Both, field by field; what is said later goes first."""
        return Usage(
            self.prompt if later.prompt is None else later.prompt,
            self.completion if later.completion is None else later.completion,
            self.cached if later.cached is None else later.cached,
        )


NO_USAGE: Final = Usage()


def usage_of(document: object) -> Usage:
    """The usage that a whole answer or one event of a stream states; NO_USAGE when it states none."""
    if not isinstance(document, dict):
        return NO_USAGE
    stated = document.get("usage")
    if stated is None:
        inner = document.get("response") or document.get("message")
        stated = inner.get("usage") if isinstance(inner, dict) else None
    return _read(stated) if isinstance(stated, dict) else NO_USAGE


def _read(stated: Mapping[str, Any]) -> Usage:
    details = stated.get("prompt_tokens_details") or stated.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(
        _first(stated.get("prompt_tokens"), stated.get("input_tokens")),
        _first(stated.get("completion_tokens"), stated.get("output_tokens")),
        _first(cached, stated.get("cache_read_input_tokens")),
    )


def _first(*values: object) -> int | None:
    for value in values:
        if type(value) is int and 0 <= value <= _MOST_TOKENS:
            return value
    return None


class StreamUsage:
    """Usage out of an event stream, as it passes. `usage` is what was said so far."""

    __slots__ = ("_events", "usage")

    def __init__(self) -> None:
        self._events = EventStream()
        self.usage = NO_USAGE

    def feed(self, piece: bytes) -> None:
        for event in self._events.feed(piece, _KEY):
            if _OBJECT.search(event.data):
                try:
                    usage = usage_of(orjson.loads(event.data))
                except ValueError:
                    continue
                self.usage = self.usage.then(usage)

    def end(self) -> None:
        """Nothing follows."""


class DocumentUsage:
    """Usage out of a JSON document. `usage` is known at the end."""

    __slots__ = ("_cut", "_kept", "usage")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False
        self.usage = NO_USAGE

    def feed(self, piece: bytes) -> None:
        kept = self._kept
        kept += piece
        # Trimmed when twice too long, so that each byte is moved once at most.
        if len(kept) > 2 * WHOLE_BYTES:
            del kept[:-WHOLE_BYTES]
            self._cut = True

    def end(self) -> None:
        """Nothing follows."""
        kept = self._kept
        if not kept:
            return
        if self._cut or len(kept) > WHOLE_BYTES:
            self.usage = _last_usage(bytes(kept[-WHOLE_BYTES:]))
        elif _KEY in kept:
            try:
                self.usage = usage_of(orjson.loads(kept))
            except ValueError:
                self.usage = NO_USAGE
        self._kept = bytearray()


def _last_usage(text: bytes) -> Usage:
    """The last object with the key `usage` that states tokens."""
    for match in reversed(list(_OBJECT.finditer(text))):
        try:
            stated, _ = _decode_first(text[match.end() :].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
        usage = _read(stated)
        if usage != NO_USAGE:
            return usage
    return NO_USAGE
