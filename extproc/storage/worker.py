"""A thread for what would block the event loop, and an end to its patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from extproc.control.store import StoreUnavailable

T = TypeVar("T")


class Turn:
    """Of one piece of work, from the event loop's side."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False
        """Nobody waits for it any more, and whoever did was told that it failed."""


class Worker(Generic[T]):
    """Does one piece of work after the other, in the order that they came, in a thread of its own.

    A caller that is cancelled leaves its piece to be done: a commit that has begun is not torn.
    """

    def __init__(self, name: str, interrupt: Callable[[], None]) -> None:
        """`interrupt` makes a piece that hangs fail; it is called on the event loop and must not block."""
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._interrupt = interrupt
        self._closed = False

    async def do(self, work: Callable[[Turn], T], limit_s: float) -> T:
        """What `work` returns or raises.

        StoreUnavailable when there is no answer after `limit_s`, the time in which it waited its turn included. A piece whose
        turn had not come is not done then; one that is under way is interrupted, and is to end without effect if it still can.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        turn = Turn()
        piece = self._threads.submit(work, turn)
        answer = asyncio.wrap_future(piece)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there any more to ask
        done, _ = await asyncio.wait({answer}, timeout=limit_s)
        if done:
            return answer.result()
        if piece.cancel():
            raise StoreUnavailable(f"others are waited for since {limit_s:g} s; nothing was done")
        turn.given_up = True
        self._interrupt()
        raise StoreUnavailable(f"no answer in {limit_s:g} s")

    async def close(self, last: Callable[[], T], limit_s: float) -> None:
        """Wait for what was asked for, do `last`, and be of no use from then on. Does nothing the second time.

        What hangs for longer than `limit_s` is not waited for, and `last` is not done then.
        """
        if not self._closed:
            try:
                with suppress(StoreUnavailable):
                    await self.do(lambda turn: last(), limit_s)
            finally:
                self._closed = True
                self._threads.shutdown(wait=False, cancel_futures=True)
