"""Randomness that a test knows beforehand."""

from __future__ import annotations

from collections.abc import Callable

from extproc.testing import seeded
from extproc.traffic import RewriteTable

__all__ = ["Draws", "seeded", "target_of"]


class Draws:
    """Gives these numbers, in turn; a draw more than there are fails the test."""

    def __init__(self, *numbers: float) -> None:
        self.left = list(numbers)

    def __call__(self) -> float:
        assert self.left, "one more draw than the test expects"
        return self.left.pop(0)


def target_of(table: RewriteTable, model: str, draw: Callable[[], float]) -> str | None:
    """The model that serves a request for `model`, None when it stays as it is."""
    split = table.split_of(model)
    return None if split is None else split.draw(draw)
