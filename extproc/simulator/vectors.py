"""What stands in for an embedding model: texts that share tokens point in similar directions, and twins agree.

Each token is a direction by its hash, a text the sum of its tokens', made one long. So a document that says what a query says
scores higher than one that does not, which is all that a test of a reranker needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray

from extproc.simulator import tokens

Vector = NDArray[np.float32]

_MIDDLE = 127.5


def embed(ids: Sequence[int], dimensions: int) -> Vector:
    """The direction of a text that has at least one token."""
    total = np.zeros(dimensions)
    for token in ids:
        digest = shake_128(token.to_bytes(8, "big")).digest(dimensions)
        total += np.frombuffer(digest, dtype=np.uint8) - _MIDDLE
    length = float(np.linalg.norm(total)) or 1.0
    return (total / length).astype(np.float32)


def words(text: str) -> list[int]:
    """A text as the tokens of its words, so that a word counts wherever it stands."""
    return [token for word in text.lower().split() for token in tokens.encode([word.strip(".,;:!?\"'()").encode()])]


def similarity(one: str, other: str, dimensions: int) -> float:
    """From 0 to 1."""
    first, second = words(one), words(other)
    if not first or not second:
        return 0.0
    cosine = float(embed(first, dimensions) @ embed(second, dimensions))
    return min(1.0, max(0.0, (cosine + 1) / 2))
