"""Users in threads of their own, beside what a test does."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Final

PAUSE_S: Final = 0.2


@contextlib.contextmanager
def users(number: int, ask: Callable[[int], bool]) -> Iterator[None]:
    """So many, each of whom asks one thing after the other until the end; `ask` gets a number of its own each time. Where it
    is false or nobody is there, the user waits a little: who comes back needs the processor."""
    over = threading.Event()
    numbers = itertools.count()

    def user() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(next(numbers)):
                    continue
            over.wait(PAUSE_S)

    threads = [threading.Thread(target=user) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
