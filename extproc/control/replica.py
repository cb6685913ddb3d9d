"""This process beside the store: what is served follows what is stored, whoever stores it, and outlives the store's absence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from extproc.control.desired import Desired, Learnt
from extproc.control.errors import Unavailable
from extproc.control.recording import Said, recorded
from extproc.control.store import Change, Forgotten, Revision, RevisionStore, StoreUnavailable
from extproc.observability.control import ControlMetrics
from extproc.observability.logs import logger

_log = logger(__name__)

_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0)
"""Before a store that is away is asked again; the last one from then on."""

MANY: Final = 20
"""Endpoints from which on they are read and compiled in a thread: 20 take 5 ms, and requests wait meanwhile."""

Result = TypeVar("Result")


async def aside(endpoints: int, work: Callable[[], Result]) -> Result:
    """Do it here; in a thread when it is about many endpoints, for requests are decided on this one."""
    return work() if endpoints < MANY else await asyncio.to_thread(work)


class Replica:
    """Store and `Desired`, kept together. Who changes either holds `lock`."""

    def __init__(
        self,
        store: RevisionStore,
        desired: Desired,
        metrics: ControlMetrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.store = store
        self.desired = desired
        self.lock = asyncio.Lock()
        self.opened = False
        self.lost = ""
        """Why the store can't be asked; '' while it can."""
        self._metrics = metrics
        self._sleep = sleep
        self._news = asyncio.Event()
        self._heard: int | None = None
        """The number that the store told last."""
        self._fresh = False
        """The next number is the first since the store was lost sight of: it counts also when it is lower."""

    def __repr__(self) -> str:
        return f"<Replica {self.desired!r} {self.lost or ('open' if self.opened else 'not open')}>"

    async def open(self) -> None:
        """Open the store and serve what is in it. Raises Unavailable, which may be tried again, and SchemaTooNew."""
        async with self.lock:
            await self.asking(self.store.open())
            await self._load()
            self.opened = True
            self.seen()

    async def commit(self, to_be: Learnt, kinds: Mapping[str, str], said: Said) -> int:
        """Store records with the kind of their change, serve them, and give the new number. The lock is held.

        Raises Superseded when others were first, and Unavailable; then nothing that is served has changed.
        """
        desired = self.desired

        def written() -> list[Change]:
            return [
                recorded(number, name, desired.records.get(name), record, kinds[name], said)
                for number, (name, record) in enumerate(to_be.records.items(), desired.number + 1)
            ]

        changes = await aside(len(to_be.records), written)
        number = await self.asking(self.store.commit(desired.number, changes, said.actor, said.reason, said.at_ms))
        self.desired.take(to_be, number)
        self.seen()
        return number

    async def learn(self, current: int | None = None) -> None:
        """Serve what others have committed. The lock is held. Raises Unavailable.

        `current` is the store's number of just now, where that is known; it may be lower than ours.
        """
        number = self.desired.number
        revisions: Sequence[Revision] = ()
        if current is None or current >= number:
            with contextlib.suppress(Forgotten):
                revisions = await self.asking(self.store.since(number))
                if not revisions and current in (None, number):
                    return
        if revisions and [each.number for each in revisions] == list(range(number + 1, number + 1 + len(revisions))):
            await self._take({each.change.endpoint: each.change.document for each in revisions}, revisions[-1].number)
        else:  # the store was put back to what it was before, or has forgotten what lies between
            await self._load()

    async def _load(self) -> None:
        state = await self.asking(self.store.load())
        await self._take(self.desired.whole(state), state.number)

    async def _take(self, documents: Mapping[str, bytes | None], number: int) -> None:
        learnt = await aside(len(documents), lambda: self.desired.read(documents))
        for name, why in learnt.unreadable.items():
            _log.error("the record of a serving endpoint can't be read: it stays as it was here", endpoint=name, why=why)
        self.desired.take(learnt, number)
        self.seen()

    # -- following -------------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Runs until cancelled, and serves what others commit. Raises SchemaTooNew."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="endpoints: watch the store")
            group.create_task(self._keep_up(), name="endpoints: keep up")

    async def _watch(self) -> None:
        pauses = _Pauses(self._sleep)
        while True:
            try:
                if not self.opened:
                    await self.open()
                self._heard, self._fresh = None, True
                await self.asking(self.store.watch(self._hear))
            except Unavailable:
                if self._heard is not None:
                    pauses.reset()
                await pauses.wait()

    def _hear(self, number: int) -> None:
        self._back()
        self._heard = number
        known = self.desired.number
        if number > known or (self._fresh and number < known):
            self._news.set()

    async def _keep_up(self) -> None:
        pauses = _Pauses(self._sleep)
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                async with self.lock:
                    heard = self._heard
                    if heard is not None and (heard > self.desired.number or self._fresh):
                        self._fresh = False
                        await self.learn(heard)
                pauses.reset()
            except Unavailable:
                self._news.set()
                await pauses.wait()

    # -- health ----------------------------------------------------------------------------------------------------------

    async def asking(self, answer: Awaitable[Result]) -> Result:
        """Wait for the store. Raises Unavailable when it is away, and says so once."""
        try:
            found = await answer
        except StoreUnavailable as error:
            if not self.lost:
                _log.warning("the store of serving endpoints is away: what is known is served on", error=str(error))
            self.lost = str(error) or "the store is away"
            self._metrics.store_up.value = 0.0
            raise Unavailable(f"The store of serving endpoints can't be asked now: {error}") from None
        self._back()
        return found

    def _back(self) -> None:
        if self.lost:
            _log.info("the store of serving endpoints is back")
        self.lost = ""
        self._metrics.store_up.value = 1.0

    def seen(self) -> None:
        """What is served may be different."""
        self._metrics.number.value = float(self.desired.number)
        self._metrics.unserved.value = float(len(self.desired.problems()))


class _Pauses:
    """Longer from failure to failure."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    async def wait(self) -> None:
        pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1
        await self._sleep(pause_s)
