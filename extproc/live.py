"""What is replaced while we run: read without a lock, replaced whole, by one writer.

Routes, adapters, rewrites and objectives are such values, and everything that people change on a running server is to be one.
Who holds a `Live` reads; who holds the `LiveWriter` replaces. Both belong to one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Live(Generic[T]):
    """The readers' side. What was read stays as it is: a change is another value, never a change of this one."""

    __slots__ = ("name", "replaced_at_s", "revision", "value")

    def __init__(self, value: T, name: str = "") -> None:
        """By itself a value that nobody replaces. `name` is for people: `adapters`, `rewrites of pool llama`."""
        self.value: T = value
        """To read only; a LiveWriter alone assigns it."""
        self.name = name
        self.revision = 0
        """Grows by one with each replacement."""
        self.replaced_at_s: float | None = None
        """When it was replaced last, by the writer's clock; None before that."""

    def __repr__(self) -> str:
        return f"<Live {self.name or 'value'} revision={self.revision} {self.value!r}>"


class LiveWriter(Generic[T]):
    """The one writer of a `Live`."""

    __slots__ = ("_clock", "live")

    def __init__(self, value: T, name: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        self.live = Live(value, name)
        self._clock = clock

    def replace(self, value: T) -> None:
        """From now on it is this one, for whoever reads next."""
        live = self.live
        live.value = value
        live.revision += 1
        live.replaced_at_s = self._clock()

    def age_s(self) -> float | None:
        """Seconds since it was replaced last, None when it never was."""
        since_s = self.live.replaced_at_s
        return None if since_s is None else self._clock() - since_s

    def __repr__(self) -> str:
        return f"<LiveWriter of {self.live!r}>"
