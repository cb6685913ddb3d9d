"""A connection of PostgreSQL that waits for NOTIFY, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg

from extproc.control.store import StoreUnavailable

CHANNEL: Final = "extproc_state"
BEAT_S: Final = 0.5
"""The number is looked at this often also when nobody notifies. So a connection that died is found, and behind a pooler that
doesn't pass notifications on, replicas still converge within a second."""


class Listener:
    """Of use for one `numbers`."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        cut: Callable[[psycopg.Connection[Any]], None],
        silence_s: float,
    ) -> None:
        """Without an answer for `silence_s` the database is given up. `cut` makes a connection fail, whatever it waits for."""
        self._connect = connect
        self._cut = cut
        self._silence_s = silence_s
        self._connection: psycopg.Connection[Any] | None = None
        self._ended = False

    async def numbers(self) -> AsyncGenerator[int, None]:
        """The state's number once connected, at each notification and each beat.

        Raises what the driver raises, StoreUnavailable when there is silence.
        """
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[int | None] = asyncio.Queue()
        threads = ThreadPoolExecutor(1, thread_name_prefix="extproc-watch")
        listening = loop.run_in_executor(
            threads, self._listen, lambda number: loop.call_soon_threadsafe(heard.put_nowait, number)
        )
        listening.add_done_callback(lambda done: done.cancelled() or done.exception())
        listening.add_done_callback(lambda done: heard.put_nowait(None))
        try:
            while True:
                try:
                    async with asyncio.timeout(self._silence_s):
                        number = await heard.get()
                except TimeoutError:
                    raise StoreUnavailable(f"no answer in {self._silence_s:g} s") from None
                if number is None:
                    break
                yield number
            await listening
        finally:
            self._ended = True
            if self._connection is not None:
                self._cut(self._connection)
            threads.shutdown(wait=False)

    def _listen(self, heard: Callable[[int], object]) -> None:
        """In the thread; ends by what the connection raises."""
        with self._connect() as connection:
            self._connection = connection
            connection.autocommit = True
            connection.execute(f"LISTEN {CHANNEL}")  # before the number is read, so that no commit is between the two
            while not self._ended:
                for (number,) in connection.execute("SELECT number FROM extproc_state"):
                    heard(number)
                for _ in connection.notifies(timeout=BEAT_S, stop_after=1):
                    pass
