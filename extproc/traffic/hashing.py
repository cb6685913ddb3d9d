"""Keys into buckets, the same on every replica."""

from __future__ import annotations

from hashlib import blake2b

from extproc.traffic.layout import BUCKETS

_MOST: int = 64
"""Bytes of a key of BLAKE2b (RFC 7693, 2.9)."""


class Hashed:
    """A hash with a salt of its own: by another one the same keys fall into buckets that the first says nothing of."""

    __slots__ = ("_salted",)

    def __init__(self, salt: str) -> None:
        encoded = salt.encode()
        self._salted = blake2b(key=encoded if len(encoded) <= _MOST else blake2b(encoded).digest(), digest_size=8)

    def bucket_of(self, key: bytes) -> int:
        """0 to 9,999."""
        hashed = self._salted.copy()
        hashed.update(key)
        return int.from_bytes(hashed.digest(), "big") % BUCKETS
