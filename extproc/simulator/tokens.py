"""A tokenizer that needs no vocabulary: four bytes are a token, and any token can be turned back into its bytes.

Real tokenizers make about four bytes of English a token too. What matters to a prefix cache holds here as well: equal
beginnings have equal tokens, a chat message keeps its tokens when a turn is added behind it, and what the engine
generated has the same tokens when it comes back as history.

A prompt is first a list of segments, so that its length is known before anything is encoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

BEGIN, END, SYSTEM, USER, ASSISTANT, TOOL, OTHER = range(7)
"""Control tokens: a chat begins with BEGIN, a turn is its role, its content and END; END also ends an answer."""

BYTES_PER_TOKEN = 4

Segment = int | bytes
"""One control or given token, or text still to be encoded."""

_ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}
_CONTROL = {BEGIN: "<|begin|>", END: "<|end|>", OTHER: "<|other|>"} | {v: f"<|{k}|>" for k, v in _ROLES.items()}
_OFFSETS = (0, 16, 16 + 2**8, 16 + 2**8 + 2**16, 16 + 2**8 + 2**16 + 2**24)
"""First token id of the texts of 1, 2, 3 and 4 bytes (index 0 is unused); the ids below 16 are control tokens."""
_END_OF_VOCABULARY = _OFFSETS[4] + 2**32


def chat_segments(messages: Sequence[Mapping[str, Any]], tools: object = None, *, generate: bool = True) -> list[Segment]:
    """The prompt of a chat; with `generate` it ends where the assistant is to speak."""
    segments: list[Segment] = [BEGIN]
    if tools:
        segments += [SYSTEM, orjson.dumps(tools), END]
    for message in messages:
        segments.append(_ROLES.get(str(message.get("role")), OTHER))
        segments += _content(message.get("content"))
        segments += [orjson.dumps(message[key]) for key in ("tool_calls", "tool_call_id") if message.get(key)]
        segments.append(END)
    if generate:
        segments.append(ASSISTANT)
    return segments


def _content(content: object) -> list[Segment]:
    """Text is itself; a part that is no text (an image, say) counts as the JSON it came as."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content.encode(errors="replace")]
    parts = content if isinstance(content, list) else [content]
    texts = [part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else None for part in parts]
    return [
        text.encode(errors="replace") if text is not None else orjson.dumps(part)
        for text, part in zip(texts, parts, strict=True)
    ]


def last_said(messages: Sequence[Mapping[str, Any]]) -> str:
    """The last message's text."""
    parts = _content(messages[-1].get("content")) if messages else []
    return b"".join(part for part in parts if isinstance(part, bytes)).decode(errors="replace")


def length(segments: Iterable[Segment]) -> int:
    """How many tokens `encode` would return."""
    return sum(1 if isinstance(s, int) else -(-len(s) // BYTES_PER_TOKEN) for s in segments)


def encode(segments: Iterable[Segment]) -> list[int]:
    """Token ids; each stretch of text begins a new token."""
    tokens: list[int] = []
    for segment in segments:
        if isinstance(segment, int):
            tokens.append(segment)
            continue
        whole, rest = divmod(len(segment), BYTES_PER_TOKEN)
        offset = _OFFSETS[4]
        tokens += [offset + value for value in struct.unpack_from(f">{whole}I", segment)]
        if rest:
            tokens.append(_OFFSETS[rest] + int.from_bytes(segment[-rest:], "big"))
    return tokens


def token_text(token: int) -> str:
    """What one token stands for. Ids that `encode` never makes (a client may send any) stand for nothing."""
    if token in _CONTROL:
        return _CONTROL[token]
    return _bytes(token).decode(errors="replace")


def decode(tokens: Iterable[int]) -> str:
    """The text of `tokens`, control tokens left out."""
    return b"".join(map(_bytes, tokens)).decode(errors="replace")


def _bytes(token: int) -> bytes:
    if not _OFFSETS[1] <= token < _END_OF_VOCABULARY:
        return b""
    size = max(n for n in (1, 2, 3, 4) if token >= _OFFSETS[n])
    return (token - _OFFSETS[size]).to_bytes(size, "big")


def block_hashes(tokens: Sequence[int], block_size: int, salt: str = "") -> list[int]:
    """One hash for each full block; it stands for the block and everything before it.

    `salt` keeps caches apart: adapters change what a block holds, and `cache_salt` asks for it. The hashes are the same
    in every process, so simulated twins agree.
    """
    parent = int.from_bytes(blake2b(salt.encode(), digest_size=8).digest(), "big") if salt else 0
    hashes = []
    for start in range(0, len(tokens) - block_size + 1, block_size):
        parent = hash((parent, *tokens[start : start + block_size]))
        hashes.append(parent)
    return hashes
