"""What an answer says: its text, why it ended, its tokens, its numbers; out of a JSON document or an event stream.

| API | text | why it ended |
|---|---|---|
| chat completions, completions (OpenAI) | `choices[].message`, `.text`; in streams `.delta` | `finish_reason` |
| responses (OpenAI) | `output[].content[].text`; in streams `response.output_text.delta` | `status` |
| messages (Anthropic) | `content[].text`; in streams `content_block_delta` | `stop_reason` |
| invocations (MLflow), embeddings | none: the numbers in `predictions`, `data[].embedding`, `outputs[].data` (KServe v2) | |

Calls of tools and reasoning are text too. An answer that is in none of these shapes says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.media import is_json, media_type
from extproc.response import EventStream
from extproc.response.usage import NO_USAGE, Usage, usage_of
from extproc.shadow.numeric import numbers_in

MOST_COMPARED_BYTES: Final = 256 * 2**10
"""Of a document, of one event, of the text of a stream: what is longer is measured, and not compared."""
_MOST_CHOICES: Final = 64
_MANY: Final = 512
"""Pieces of text that are joined when so many came, as each has its overhead."""
_USAGE: Final = b'"usage"'
_EVENT_STREAM: Final = b"text/event-stream"
_WITHOUT_NUMBERS: Final[tuple[tuple[float, ...], int]] = ((), 0)


class Said(NamedTuple):
    """What an answer says. Each is None, or empty, when it does not."""

    text: str | None = None
    finish_reason: str | None = None
    usage: Usage = NO_USAGE
    numbers: tuple[tuple[float, ...], int] = _WITHOUT_NUMBERS
    """As `numbers_in` gives them."""
    unread: str = ""
    """Why it could not be read: 'too long', 'content-encoding', 'content-type', 'malformed'; '' when it could."""


NOTHING_SAID: Final = Said()


class AnswerText:
    """Feed it the pieces of one answer in order, then ask what it `said`. Raises nothing."""

    def __init__(self, content_type: bytes, content_encoding: bytes = b"") -> None:
        kind = media_type(content_type)
        self._unread = ""
        self._events: EventStream | None = None
        if content_encoding.strip().lower() not in (b"", b"identity"):
            self._unread = "content-encoding"
        elif kind == _EVENT_STREAM:
            self._events = EventStream(MOST_COMPARED_BYTES)
        elif not is_json(kind):
            self._unread = "content-type"
        self._document = bytearray()
        self._text: dict[int, list[str]] = {}
        """By choice."""
        self._length = 0
        self._finish_reason: str | None = None
        self.usage = NO_USAGE
        """Of a stream, as far as it came."""

    def feed(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._events is not None:
            for event in self._events.feed(piece):
                self._event(event.data)
        elif not self._unread:
            self._document += piece
            if len(self._document) > MOST_COMPARED_BYTES:
                self._too_long()

    def said(self) -> Said:
        """Everything, once the body is over."""
        if self._events is None and not self._unread:
            return _of_document(bytes(self._document))
        text = None
        if self._text:
            text = "\n".join(["".join(self._text[index]) for index in sorted(self._text)])
        return Said(text, self._finish_reason, self.usage, unread=self._unread)

    def _event(self, data: bytes) -> None:
        try:
            event = orjson.loads(data)
        except ValueError:
            return  # `[DONE]`, and what is broken
        if not isinstance(event, dict):
            return
        if _USAGE in data:
            self.usage = self.usage.then(usage_of(event))
        reason = _reason_of_event(event)
        if reason is not None:
            self._finish_reason = reason
        if not self._unread:
            for index, text in _deltas(event):
                self._add(index, text)

    def _add(self, index: int, text: str) -> None:
        self._length += len(text)
        parts = self._text.setdefault(index, [])
        if self._length > MOST_COMPARED_BYTES or len(self._text) > _MOST_CHOICES:
            self._too_long()
            return
        parts.append(text)
        if len(parts) == _MANY:
            parts[:] = ["".join(parts)]

    def _too_long(self) -> None:
        self._unread = "too long"
        self._document = bytearray()
        self._text = {}


def _of_document(body: bytes) -> Said:
    try:
        document = orjson.loads(body)
    except ValueError:
        return Said(unread="malformed") if body else NOTHING_SAID
    if not isinstance(document, dict):
        return Said(numbers=numbers_in(document)) if isinstance(document, list) else NOTHING_SAID
    usage = usage_of(document)
    parts = [text for text in _texts(document) if text]
    reason = _reason_of_document(document)
    return Said("\n".join(parts) if parts else None, reason, usage, _numbers(document))


def _numbers(document: Mapping[str, Any]) -> tuple[tuple[float, ...], int]:
    if "predictions" in document:
        return numbers_in(document["predictions"])
    for key, inner in (("data", "embedding"), ("outputs", "data")):
        items = _dicts(document.get(key))
        found = [item[inner] for item in items if inner in item]
        if found:
            return numbers_in(found)
    return _WITHOUT_NUMBERS


def _texts(document: Mapping[str, Any]) -> Iterator[str]:
    for choice in _dicts(document.get("choices")):
        yield _text_of(choice.get("text"))
        message = choice.get("message")
        if isinstance(message, dict):
            yield "".join(_message(message))
    for item in _dicts(document.get("output")):  # responses
        yield _text_of(item.get("content"))
        yield f"{item.get('name', '')}{_text_of(item.get('arguments'))}"
    yield _text_of(document.get("content"))  # messages


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    """Of a message, or what comes to it: reasoning, content, calls."""
    yield _text_of(message.get("reasoning_content") or message.get("reasoning"))
    yield _text_of(message.get("content"))
    for call in _dicts(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            yield f"{_text_of(function.get('name'))}{_text_of(function.get('arguments'))}"


def _text_of(value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    parts = []
    for part in _dicts(value):
        parts.append(_text_of(part.get("text")))
        if "input" in part:  # a call of a tool, in Anthropic's words
            parts.append(f"{_text_of(part.get('name'))}{orjson.dumps(part['input']).decode()}")
    return "".join(parts)


def _deltas(event: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """What an event adds to which choice."""
    for choice in _dicts(event.get("choices")):
        index = choice.get("index")
        delta = choice.get("delta")
        text = _text_of(choice.get("text")) + ("".join(_message(delta)) if isinstance(delta, dict) else "")
        if text:
            yield index if isinstance(index, int) else 0, text
    kind, delta = event.get("type"), event.get("delta")
    if kind == "content_block_delta" and isinstance(delta, dict):
        yield 0, _text_of(delta.get("text") or delta.get("thinking") or delta.get("partial_json"))
    elif isinstance(kind, str) and kind.startswith("response.") and isinstance(delta, str):
        yield 0, delta


def _reason_of_event(event: Mapping[str, Any]) -> str | None:
    delta, response = event.get("delta"), event.get("response")
    if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
        return str(delta["stop_reason"])
    if isinstance(response, dict) and event.get("type") in _ENDS:
        return _reason_of_document(response)
    return _reason_of_document(event) if "choices" in event else None


_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _reason_of_document(document: Mapping[str, Any]) -> str | None:
    """Of the first choice that says."""
    candidates: Iterable[object] = [choice.get("finish_reason") for choice in _dicts(document.get("choices"))]
    for reason in (*candidates, document.get("stop_reason"), document.get("status")):
        if isinstance(reason, str):
            return reason[:64]
    return None


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
