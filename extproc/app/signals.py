"""What a server does on signals. The ones that would end it without a drain are taken and do something useful, or nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from extproc.observability.logs import logger

_log = logger(__name__)

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""By default they end a process, and people send them to servers that rotate logs or print statistics by them."""


class Signals:
    """SIGTERM and SIGINT stop, at once when it is the second; SIGHUP reloads; SIGUSR1 and SIGUSR2 do nothing."""

    def __init__(
        self, *, stop: Callable[[], object], abort: Callable[[], object], reload: Callable[[], Awaitable[Sequence[str]]]
    ) -> None:
        """`reload` looks again at what is not watched anyway, and returns the files that it looked at."""
        self._stop = stop
        self._abort = abort
        self._reload = reload
        self._stopping = False
        self._reloading: asyncio.Task[None] | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on this loop hears the signals."""
        for number in _STOP:
            loop.add_signal_handler(number, self.told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self.told_to_reload)
        for number in _IGNORED:
            loop.add_signal_handler(number, _say_nothing_is_done, number)

    @staticmethod
    def leave(loop: asyncio.AbstractEventLoop) -> None:
        """The loop is about to end, and everything is done: a stop that comes now has nothing to stop. By default it would kill
        what is left of the process, and its exit code with it."""
        for number in _STOP:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def told_to_stop(self) -> None:
        """Drain; the second time end."""
        if self._stopping:
            self._abort()
        self._stopping = True
        self._stop()

    def told_to_reload(self) -> None:
        """One at a time: who asks again meanwhile gets what the one under way finds."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_now(), name="reload")

    async def _reload_now(self) -> None:
        try:
            files = list(await self._reload())
        except Exception:
            _log.exception("SIGHUP: could not reload")
            return
        rest = "other files are watched, and looked at by themselves; flags and --config-file are read at start only"
        if files:
            _log.info("SIGHUP: looked at the TLS files", files=files, note=rest)
        else:
            _log.info("SIGHUP does nothing here", note=rest)


def _say_nothing_is_done(number: signal.Signals) -> None:
    _log.info(f"{number.name} does nothing")
