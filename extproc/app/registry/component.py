"""Serving endpoints follow a registry: one replica's work, while every replica knows what the registry says.

    run: ask ─▶ known ─▶ (the replica that leads) next_step ─▶ desk.apply(Follow) | rollouts.start | rollouts.command("abort")
                  ╰─▶ store, for who starts while the registry is away

A registry that is away changes nothing: what entities stand for is in their records. It is said once in the log, and shown.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from extproc.app.component import Component
from extproc.app.registry.asking import Asking
from extproc.app.registry.follower import Follower
from extproc.backoff import Backoff
from extproc.control.desk import Desk
from extproc.control.following import wanted_reference
from extproc.control.records import EndpointRecord
from extproc.control.referring import MOST_ASKED
from extproc.control.store import KeepingStore, StoreUnavailable, Superseded
from extproc.observability.logs import logger
from extproc.registry.known import Unresolved, of_document, to_document
from extproc.registry.moves import Block
from extproc.registry.placing import Placing
from extproc.registry.references import Reference
from extproc.traffic import Catalog

_log = logger(__name__)

KEY: Final = "registry/mlflow"
"""Of what is kept in the store."""
_HELD_S: Final = 60.0
"""For how long what a change has named is asked on, although no endpoint has it: one that is about to be stored has it soon."""
_MOST_BACKOFF_S: Final = 60.0


class FollowedRegistry(Component):
    """The desk's `Versions`, and who moves endpoints. One event loop."""

    def __init__(
        self,
        asking: Asking,
        placing: Placing,
        catalog: Catalog,
        *,
        interval_s: float,
        credentials: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`credentials` reads them before a round, and raises nothing."""
        super().__init__("registry of models")
        self._asking = asking
        self._placing = placing
        self._catalog = catalog
        self._interval_s = interval_s
        self._credentials = credentials
        self._clock = clock
        self._draw = draw
        self._sleep = sleep
        self._backoff = Backoff(draw, first_s=min(1.0, interval_s), most_s=max(interval_s, _MOST_BACKOFF_S))
        self._again_s = 0.0
        """After a failure: when a change may ask again."""
        self._asked: dict[Reference, float] = {}
        """For changes, until when they are asked on."""
        self._told = ""
        self._read: dict[str, tuple[EndpointRecord, tuple[Reference, ...]]] = {}
        self._stored: tuple[int, bytes] | None = None
        """What is in the store, with its version; None: it was not read yet."""
        self._desk: Desk | None = None
        self._store: KeepingStore | None = None
        self._follower: Follower | None = None

    def attach(self, desk: Desk, store: KeepingStore, follower: Follower) -> None:
        """Whose endpoints follow, where what is known is kept, and who changes them. Before `start`."""
        self._desk, self._store, self._follower = desk, store, follower

    # -- as the desk wants it --------------------------------------------------------------------------------------------

    async def learn(self, references: Collection[Reference]) -> None:
        """Ask about those that can't be resolved by what is known."""
        until_s = self._clock() + _HELD_S
        self._asked.update(dict.fromkeys(list(references)[:MOST_ASKED], until_s))
        unknown = [reference for reference in references if self._open(reference)]
        if unknown and self._clock() >= self._again_s:
            await self._ask(unknown, [*self._wanted(), *self._asked])

    def block(self, reference: Reference) -> Block:
        """Raises Unresolved, Unplaced."""
        try:
            version = self._asking.known.version(reference)
        except Unresolved as error:
            if self._asking.trouble:
                raise Unresolved(f"{error}; the registry can't be asked now: {self._asking.trouble}", away=True) from None
            raise
        return self._placing.block(reference.name, version)

    def _open(self, reference: Reference) -> bool:
        try:
            self._asking.known.version(reference)
        except Unresolved:
            return True
        return False

    # -- for people ------------------------------------------------------------------------------------------------------

    def held(self, endpoint: str) -> Mapping[str, str]:
        """Why entities of the endpoint stay where they are, although what they follow has moved."""
        return {} if self._follower is None else self._follower.held(endpoint)

    def shape(self) -> dict[str, Any]:
        """What is known, for a page: nothing in it is secret."""
        models = {
            name: {"aliases": dict(model.aliases), "there": model.there} for name, model in self._asking.known.models.items()
        }
        return {"trouble": self._asking.trouble, "answer_age_s": self._asking.age_s(), "models": models}

    # -- while we run ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read what is kept. A store that is away is read later."""
        await self._read_kept()

    async def run(self, ready: asyncio.Event) -> None:
        while True:
            await self._round()
            pause_s = self._interval_s * (0.9 + self._draw() / 5)
            if self._asking.trouble:
                pause_s = self._backoff.next()
                self._again_s = self._clock() + pause_s
            await self._sleep(pause_s)

    async def close(self) -> None:
        await self._asking.close()

    async def _round(self) -> None:
        """Ask, keep what is new, and let endpoints follow."""
        if self._desk is None or self._follower is None or not self._desk.opened:
            return
        if self._stored is None:
            await self._read_kept()
        now_s = self._clock()
        self._asked = {reference: until_s for reference, until_s in self._asked.items() if until_s > now_s}
        wanted = {*self._wanted(), *self._asked}
        if wanted:
            await self._ask(wanted)
        # What a change has named meanwhile stays known.
        self._asking.known = self._asking.known.only({reference.name for reference in (*self._wanted(), *self._asked)})
        await self._follower.follow(self, [record for record in self._desk.list() if self._references(record)])
        if self._follower.leads():
            await self._keep()

    def _wanted(self) -> set[Reference]:
        if self._desk is None:
            return set()
        records = self._desk.list()
        if len(self._read) > 2 * len(records):
            self._read.clear()  # of endpoints that are gone
        return {reference for record in records for reference in self._references(record)}

    def _references(self, record: EndpointRecord) -> tuple[Reference, ...]:
        """What the record's entities refer to; looked at once, as there may be thousands, of which few change."""
        kept = self._read.get(record.name)
        if kept is not None and kept[0] is record:
            return kept[1]
        found = tuple([each for entity in record.entities if (each := wanted_reference(entity, self._catalog)) is not None])
        self._read[record.name] = (record, found)
        return found

    async def _ask(self, references: Collection[Reference], beside: Collection[Reference] = ()) -> None:
        if self._credentials is not None:
            await self._credentials()
        await self._asking.ask(references, beside)
        trouble = self._asking.trouble
        if not trouble:
            self._backoff.reset()
            self._again_s = 0.0
        if bool(trouble) != bool(self._told):
            if trouble:
                _log.warning("the registry of models can't be asked: the last known versions stay", error=trouble)
            else:
                _log.info("the registry of models can be asked again")
        self._told = trouble

    # -- what is kept ----------------------------------------------------------------------------------------------------

    async def _read_kept(self) -> None:
        if self._store is None or self._desk is None or not self._desk.opened:
            return
        try:
            kept = (await self._store.kept()).get(KEY)
        except StoreUnavailable:
            return
        self._stored = (0, b"") if kept is None else (kept.version, kept.document)
        if kept is None or self._asking.known.models:
            return
        try:
            self._asking.known = of_document(kept.document)
        except ValueError as error:
            _log.warning("what is kept of the registry of models can't be read, and is asked for", why=str(error))

    async def _keep(self) -> None:
        if self._store is None or self._stored is None:
            return
        document = to_document(self._asking.known)
        if document == self._stored[1]:
            return
        try:
            self._stored = (await self._store.keep(KEY, self._stored[0], document), document)
        except Superseded:
            self._stored = None  # another replica led meanwhile
        except StoreUnavailable:
            return
