"""What requests and answers share of HTTP: media types, the digests of a body, and what a header's value may hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

NDJSON: Final = b"application/x-ndjson"
DIGEST_HEADERS: Final = ("content-digest", "content-md5", "digest", "repr-digest")
"""Headers that no longer hold when a body changes (RFC 9530, RFC 3230, RFC 1864)."""
CHANGED_TRAILERS: Final = (*DIGEST_HEADERS, "etag")
"""What must not stand in the trailers behind a body that was changed; whether a tag there is a weak one, nobody tells us."""


def has_strong_tag(headers: Mapping[str, bytes]) -> bool:
    """Whether an answer's `etag` is for exactly these bytes (RFC 9110, section 8.8.1); a weak one outlives a changed name."""
    return not headers.get("etag", b"W/").startswith(b"W/")


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
