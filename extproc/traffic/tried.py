"""Which pools the attempts at a request were sent to, so that none after them goes where one has failed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MOST: Final = 10_000
"""Requests that are remembered at once. One that is forgotten is served as if nobody remembered any."""


class Tried:
    """By what the proxy drew for a request, which is the same in all its attempts.

    That there is another attempt says that those before it failed. So a pool is noted when a request is sent there, and nobody
    has to find out in time how that ended. Of requests whose end nobody sees the oldest are forgotten.
    """

    __slots__ = ("_most", "_pools")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._pools: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pools)

    def of(self, draw: bytes) -> tuple[str, ...]:
        """The pools that the request was sent to so far, each once."""
        return self._pools.get(draw, ())

    def sent(self, draw: bytes, pool: str) -> None:
        """An attempt at the request goes to this pool, and another may follow."""
        before = self._pools.pop(draw, ())
        self._pools[draw] = before if pool in before else (*before, pool)
        if len(self._pools) > self._most:
            self._pools.popitem(last=False)

    def over(self, draw: bytes) -> None:
        """No attempt at the request follows."""
        self._pools.pop(draw, None)

    def __repr__(self) -> str:
        return f"<Tried {len(self._pools)}>"
