"""Which requests are copied."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_SPACE: Final = 2**48
"""A float holds it exactly."""


def sampled(salt: bytes, key: bytes, share: float) -> bool:
    """Whether the request with this key is among the share, 0 to 1, of those that are copied.

    The same key gives the same answer everywhere, keys are spread evenly, and two salts choose independently. Raising the share
    keeps who was in.
    """
    if share >= 1.0:
        return True
    drawn = int.from_bytes(blake2b(key, key=salt[:64], digest_size=6).digest(), "big")
    return drawn < share * _SPACE
