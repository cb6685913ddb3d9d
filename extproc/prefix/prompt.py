"""What a request's prompt is: the bytes whose beginnings are compared, of every kind of body that engines take.

The whole conversation counts, in the order in which chat templates write it: system texts, tools, then the messages, with
their reasoning, tool calls and tool results. Neither the model nor the tenant is part of it; those are the seed of the
hashes. Nothing is raised, whatever JSON stands where: what is not known is taken as its JSON.

An image, audio or video counts as one block, a hash of what it says of itself (URL or data): the engine's tokens for it are
not its bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import orjson
import xxhash

from extproc.document import MARK, Document, LongTexts, Span, joined

BYTES_PER_TOKEN: Final = 4.0
"""Of text, as upstream's picker estimates it."""
TOKEN_ID_BYTES: Final = 4
"""Of a token id, where a prompt is given as those: exact."""
MOST_BYTES: Final = 131_072 * 4
"""What is kept of a prompt unless somebody says otherwise: upstream's `maxPrefixTokensToMatch`."""
MEDIA_BYTES: Final = 256
"""What stands for an image: a block of 64 tokens."""
MOST_PROMPTS: Final = 2048
"""Of a batch that are looked at, the most that OpenAI's API takes."""
_PADDED: Final = 64
"""Images of a request that count as a block; more are 16 bytes each, or a body full of tiny ones would be a prompt many
times as long."""
_ITEMS: Final = 16_384
"""Messages, parts and prompts of one request that are looked at: what comes after them counts for nothing. They take 10 ms."""
_DEPTH: Final = 8
"""Of parts in parts that are looked into; what is deeper is taken as its JSON."""
_TEXTS: Final = 4096
"""Texts and numbers of one image's part that are hashed."""
_BILLING: Final = "x-anthropic-billing-header"

_KINDS: Final = (("image", "image"), ("screenshot", "image"), ("audio", "audio"), ("video", "video"))
"""A word in a part's type, or in a key of a part without one, and what it is then."""
_FILES: Final = ("file", "input_file", "document")
_FIELDS: Final = (
    "name",
    "reasoning_content",
    "reasoning",
    "thinking",
    "summary",
    "encrypted_content",
    "data",
    "text",
    "content",
    "refusal",
    "function",
    "tool_calls",
    "function_call",
    "arguments",
    "input",
    "output",
)
"""Of a message, a part or a call: what a template may write of it, in this order. Not `id`, `cache_control`, `signature`."""
_PLAIN: Final = ("text", "input_text", "output_text", "summary_text", "function", "message", "")
"""Types that say nothing more than the fields do: a text is the same prompt as a list of it."""


class Media(NamedTuple):
    """An image, audio, video or file in a prompt."""

    kind: str
    """image, audio, video or file."""
    digest: int
    """64 bits of what the request says of it."""


class Prompt(NamedTuple):
    """One prompt of a request."""

    pieces: tuple[bytes | Span, ...]
    """To be hashed (`hashing.chain_of`), one behind the other; of a prompt longer than asked for, the beginning. A `Span` keeps
    the whole body."""
    bytes_per_token: float
    """Of the pieces: as it was given for text, `TOKEN_ID_BYTES` for token ids."""
    length_bytes: int
    """Of the whole prompt, as if it had not been cut."""
    media: tuple[Media, ...] = ()
    ids: bool = False
    """It was given as token ids."""

    @property
    def data(self) -> bytes:
        """The pieces as one."""
        return joined(self.pieces)

    @property
    def tokens(self) -> int:
        """About how many tokens the whole prompt has; exact when it was given as token ids."""
        return -int(-self.length_bytes // self.bytes_per_token)

    @property
    def multimodal(self) -> bool:
        """Whether there are images, audio or video in it."""
        return any(media.kind != "file" for media in self.media)


def prompts_of(
    payload: Mapping[str, object] | None, *, bytes_per_token: float = BYTES_PER_TOKEN, most_bytes: int = MOST_BYTES
) -> list[Prompt]:
    """The prompts of a body, each for itself: several in a batch, none in a body that has none.

    `payload` is `InferenceRequest.payload`. `most_bytes` bounds what is kept of each. What is asked for is read from
    `messages` (OpenAI, Anthropic), `prompt` (completions), `input` (Responses, embeddings), `input_ids` and `text`
    (SGLang), `token_ids` (vLLM) and `inputs`, the first of them that is there.
    """
    if not payload:
        return []
    if isinstance(payload, Document):
        return _prompts(payload.fields, _Writer(most_bytes, bytes_per_token, payload.texts))
    return _prompts(payload, _Writer(most_bytes, bytes_per_token))


def _prompts(payload: Mapping[str, object], writer: _Writer) -> list[Prompt]:
    messages = payload.get("messages")
    if isinstance(messages, list):
        return [_conversation(payload, messages, writer)]
    for name in ("prompt", "input", "input_ids", "token_ids", "text", "inputs"):
        value = payload.get(name)
        if value is not None:
            return _given(payload, value, writer)
    if payload.get("system") or payload.get("instructions"):
        return [_conversation(payload, [], writer)]
    return []


def salt_of(payload: Mapping[str, object] | None) -> str:
    """The tenant's salt in a body: `cache_salt` (vLLM), or `extra_key` (SGLang); '' without one."""
    if not payload:
        return ""
    for name in ("cache_salt", "extra_key"):
        value = payload.get(name)
        if value:
            return value if isinstance(value, str) else _json(value).decode("utf-8", "replace")
    return ""


def _given(payload: Mapping[str, object], value: object, writer: _Writer) -> list[Prompt]:
    """A text, token ids, a batch of either, or the items of a conversation."""
    if not isinstance(value, list):
        return [_conversation(payload, [value], writer)]
    if value and isinstance(value[0], dict):
        return [_conversation(payload, value, writer)]
    if value and isinstance(value[0], (str, list)):
        return [_alone(writer, each) for each in value[:MOST_PROMPTS]]
    return [_alone(writer, value)] if value else []


def _alone(writer: _Writer, value: object) -> Prompt:
    """A prompt of a batch."""
    if isinstance(value, list):
        ids = _token_ids(value[: writer.most_bytes // TOKEN_ID_BYTES])
        if ids is not None:
            return Prompt((ids,), TOKEN_ID_BYTES, len(value) * TOKEN_ID_BYTES, ids=True)
    writer.content(value, 0)
    return writer.prompt()


def _token_ids(value: list[object]) -> bytes | None:
    try:
        return array("I", cast(Any, value)).tobytes()
    except (TypeError, OverflowError):
        return None


def _conversation(payload: Mapping[str, object], items: Sequence[object], writer: _Writer) -> Prompt:
    _system(writer, payload)
    first = 0
    while first < len(items) and _role(items[first]) in ("system", "developer"):
        writer.content(items[first], 0)
        first += 1
    for name in ("tools", "functions"):
        tools = payload.get(name)
        if tools:
            writer.raw(b"\x01" + _json(writer.filled(tools)) + b"\x02")
    for item in items[first:]:
        writer.content(item, 0)
    return writer.prompt()


def _system(writer: _Writer, payload: Mapping[str, object]) -> None:
    """Anthropic's `system` and the Responses API's `instructions`."""
    for name in ("system", "instructions"):
        value = payload.get(name)
        if value:
            writer.raw(b"\x01system\x02")
            for part in value if isinstance(value, list) else [value]:
                if not _is_billing(part, writer):
                    writer.content(part, 0)


def _is_billing(part: object, writer: _Writer) -> bool:
    """Whether it is the line that Claude Code sets before its system prompt: another in each request, and engines leave it
    out."""
    text = part.get("text") if isinstance(part, dict) else part
    return isinstance(text, str) and writer.begins_with(text, _BILLING)


def _role(item: object) -> str:
    role = item.get("role") if isinstance(item, dict) else None
    return role if isinstance(role, str) else ""


def _json(value: object) -> bytes:
    """JSON, or what comes nearest to it for what JSON can't say."""
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        try:
            return repr(value).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return b"?"


class _Writer:
    """Writes prompts, one after the other."""

    def __init__(self, most_bytes: int, bytes_per_token: float, texts: LongTexts | None = None) -> None:
        """`texts` are those of which values have marks."""
        self.most_bytes = most_bytes
        self._texts = texts
        self._bytes_per_token = bytes_per_token
        self._items_left = _ITEMS
        self._pieces: list[bytes | Span] = []
        self._room = most_bytes
        self._length = 0
        self._media: list[Media] = []

    def prompt(self) -> Prompt:
        """What was written; the next one begins."""
        written = Prompt(tuple(self._pieces), self._bytes_per_token, self._length, tuple(self._media))
        self._pieces, self._media = [], []
        self._room, self._length = self.most_bytes, 0
        return written

    def raw(self, piece: bytes | Span) -> None:
        size, room = len(piece), self._room
        self._length += size
        if room > 0:
            if size > room:
                piece = piece[:room] if isinstance(piece, bytes) else piece.upto(room)
            self._pieces.append(piece)
            self._room = room - size

    def filled(self, value: object) -> object:
        """The value without marks."""
        return value if self._texts is None else self._texts.filled(value)

    def begins_with(self, text: str, words: str) -> bool:
        """Whether a text does, of which there may be a mark; the words are ASCII."""
        if self._texts is not None and text.startswith(MARK):
            return self._texts.span(text).view()[: len(words)] == words.encode()
        return text.startswith(words)

    def text(self, text: str) -> None:
        """What is beyond the bound is not made into bytes; a character counts as one there."""
        if self._texts is not None and text.startswith(MARK):
            self.raw(self._texts.span(text))
            return
        room = self._room
        if len(text) <= room:
            self.raw(text.encode("utf-8", "surrogatepass"))
        else:
            self.raw(text[: max(0, room)].encode("utf-8", "surrogatepass"))
            self._length += len(text) - max(0, room)

    def content(self, value: object, depth: int) -> None:
        """A text, a part, a message, or a list of those."""
        if isinstance(value, str):
            self.text(value)
        elif value is None or self._items_left <= 0:
            return
        elif isinstance(value, list) and depth < _DEPTH:
            for each in value:
                self.content(each, depth + 1)
        elif isinstance(value, dict) and depth < _DEPTH:
            self._item(value, depth)
        else:
            self._items_left -= 1
            self.raw(_json(self.filled(value)))

    def _item(self, item: dict[str, object], depth: int) -> None:
        self._items_left -= 1
        role, kind = self.filled(item.get("role")), self.filled(item.get("type"))
        if role is None:
            media = _media_kind(item, kind)
            if media:
                self._add_media(media, item)
                return
        named = role if isinstance(role, str) else kind if isinstance(kind, str) else ""
        if named not in _PLAIN:
            self.text("\x01" + named + "\x02")
        if len(item) == 2 and role is not None and "content" in item:  # as most are
            self.content(item["content"], depth + 1)
            return
        known = False
        for field in _FIELDS:
            value = item.get(field)
            if value is not None:
                known = True
                if isinstance(value, dict) and field in ("arguments", "input"):
                    self.raw(_json(self.filled(value)))
                else:
                    self.content(value, depth + 1)
        if not known:
            self.raw(_json(self.filled(item)))

    def _add_media(self, kind: str, item: dict[str, object]) -> None:
        digest = _digest(item, self._texts)
        self._media.append(Media(kind, int.from_bytes(digest[:8], "big")))
        self.raw(digest * (MEDIA_BYTES // len(digest)) if len(self._media) <= _PADDED else digest)


def _media_kind(item: dict[str, object], kind: object) -> str:
    """What a part is that is no text, '' when it is one."""
    if isinstance(kind, str):
        if kind == "text":
            return ""
        for word, found in _KINDS:
            if word in kind:
                return found
        return "file" if kind in _FILES else ""
    for key in item:
        for word, found in _KINDS:
            if word in key:
                return found
    return ""


def _digest(item: dict[str, object], texts: LongTexts | None) -> bytes:
    """16 bytes of all texts and numbers in a part, however they are nested; a megabyte of base64 costs one pass."""
    hasher = xxhash.xxh3_128()
    left: list[object] = [item]
    read = 0
    while left and read < _TEXTS:
        value = left.pop()
        read += 1
        if isinstance(value, str):
            if texts is not None and value.startswith(MARK):
                hasher.update(texts.span(value).view())
            else:
                hasher.update(value.encode("utf-8", "surrogatepass"))
            hasher.update(b"\x00")
        elif isinstance(value, dict):
            left.extend([each for key, each in value.items() if key != "cache_control"])
        elif isinstance(value, list):
            left.extend(value)
        else:
            hasher.update(_json(value))
    return hasher.digest()
