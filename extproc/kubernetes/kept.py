"""Answers that hold for a while, a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

MOST: Final = 1024


class Kept(Generic[Value]):
    """Answers with their time, by their question. The oldest goes when there are too many."""

    def __init__(self, clock: Callable[[], float], most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._answers: dict[object, tuple[float, Value]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __repr__(self) -> str:
        return f"<Kept {self._answers!r}>"

    def get(self, key: object, holds_s: Callable[[Value], float]) -> Value | None:
        """The answer, if it is younger than `holds_s` says of it."""
        answer = self._answers.get(key)
        if answer is None or self._clock() - answer[0] >= holds_s(answer[1]):
            return None
        return answer[1]

    def forget(self, key: object) -> None:
        """There is no answer, if there was one."""
        self._answers.pop(key, None)

    def put(self, key: object, value: Value) -> None:
        self._answers.pop(key, None)
        while len(self._answers) >= self._most:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (self._clock(), value)
