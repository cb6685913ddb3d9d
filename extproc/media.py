"""What requests and answers share of HTTP: media types, the digests of a body, and what a header's value may hold."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

NDJSON: Final = b"application/x-ndjson"
DIGEST_HEADERS: Final = ("content-digest", "content-md5", "digest", "repr-digest")
"""Headers that no longer hold when a body changes (RFC 9530, RFC 3230, RFC 1864)."""


@lru_cache(maxsize=256)
def media_type(content_type: bytes) -> bytes:
    """The type of a `content-type` without its parameters, in lower case; b'' when there is none."""
    return content_type.partition(b";")[0].strip().lower()


def is_json(kind: bytes) -> bool:
    """Whether a media type is of a JSON document (RFC 6839, section 3.1)."""
    return kind == b"application/json" or kind.endswith(b"+json")


def has_controls(text: str) -> bool:
    """Whether text holds a control character, which a header's value, a form or a path must not (RFC 9110, section 5.5)."""
    return not text.isprintable() and any(ord(char) < 32 or ord(char) == 127 for char in text)
