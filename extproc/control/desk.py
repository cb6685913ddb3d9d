"""The desk: the one place where serving endpoints are changed, whoever asks.

    apply: read ─▶ plan ─▶ compile ─▶ verify ─▶ commit ─▶ swap ─▶ Applied
                    ▲                              │ Superseded: another replica was first
                    ╰────── learn what is new ◀────╯
    follow: the store says that others committed ─▶ learn ─▶ swap

One change at a time in this process; between replicas the store's number decides, and who comes second plans anew on what is
there then. What is acknowledged is on disk. A crash between commit and swap loses nothing: what is stored is what is learnt.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from extproc.control.changes import Create, Declare, DeskChange, Origin, Revert, UpdateConfig
from extproc.control.desired import Desired, Learnt
from extproc.control.effects import Effect, LoadOf, effect_of, with_loads
from extproc.control.errors import Conflict, DeskError, DoesNotExist, InvalidParameter, Unavailable
from extproc.control.following import NoVersions, Versions
from extproc.control.guarding import LOOKED_AT, Policy, against, guard_of, share_moved
from extproc.control.histories import Entry, entries, version
from extproc.control.plans import Step, existing, planned
from extproc.control.recording import Said
from extproc.control.records import EndpointRecord
from extproc.control.referring import references_in
from extproc.control.replica import MANY, Replica, aside
from extproc.control.rules import Asked
from extproc.control.sealing import NoSeal, Seal, SealError
from extproc.control.specs import spec_of
from extproc.control.store import RevisionStore, Superseded
from extproc.credentials import Secret
from extproc.live import LiveWriter
from extproc.observability.control import ControlMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.base import few
from extproc.settings.serving import MOST_ENTITIES
from extproc.traffic import Catalog, EndpointSpec, ServingEndpoint, TrafficTable
from extproc.traffic.segments import NO_SEGMENTS, Segments

_log = logger(__name__)

_USUAL_PARTS: Final = 25
"""Objects, lists and values in the document of an endpoint with two entities."""
_TURNS: Final = 1000
"""How often a change is planned anew because somebody else was first. Each time somebody was, so nobody stands still."""
_TOLD: Final = 10
"""Endpoints that a log line names."""
_MAX_ACTOR: Final = 256
_MAX_REASON: Final = 1024


class Problem(NamedTuple):
    """What `verify` has against a served entity."""

    entity: str
    field: str
    """Below `external_model`, such as `openai_config.openai_api_key`; '' for the entity itself."""
    words: str
    """`got …; expected …`, without a secret."""


Verify = Callable[[EndpointSpec], Awaitable[Sequence[Problem]]]


class Applied(NamedTuple):
    """A change that was made; or, after a dry run, one that could be."""

    record: EndpointRecord | None
    """The endpoint afterwards; None when it is gone, and for what a feeder declares."""
    revision: int
    """The state's number afterwards; after a dry run, what it is now."""
    effects: tuple[Effect, ...]
    """One for each endpoint that is changed."""
    against: tuple[str, ...] = ()
    """What its guards say against it, which was forced or only tried."""

    @property
    def effect(self) -> Effect | None:
        """Of a change of one endpoint; None when nothing changed."""
        return self.effects[0] if self.effects else None


class _Prepared(NamedTuple):
    """A change that may be committed: from what to what, and what that does."""

    steps: tuple[Step, ...]
    to_be: Learnt
    effects: tuple[Effect, ...]


async def _content(_: EndpointSpec) -> Sequence[Problem]:
    return ()


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _random_id() -> str:
    return uuid.uuid4().hex


class Desk:
    """One per process. All methods belong to its event loop."""

    def __init__(
        self,
        store: RevisionStore,
        catalog: Callable[[], Catalog],
        writer: LiveWriter[TrafficTable],
        *,
        metrics: ControlMetrics | None = None,
        clock: Callable[[], int] = _unix_ms,
        new_id: Callable[[], str] = _random_id,
        seal: Seal = NoSeal(),
        verify: Verify = _content,
        load_of: Callable[[str], LoadOf] | None = None,
        most_entities: int = MOST_ENTITIES,
        guarded: Policy = "plans",
        segments: Callable[[], Segments] = lambda: NO_SEGMENTS,
        versions: Versions = NoVersions(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`catalog` gives what pools serve now, `segments` the gateway's; `clock` is in Unix milliseconds; `verify` looks at
        entities that are new or changed, where rules need to ask somebody (secrets, providers); `load_of` says how busy a pool
        is, for effects and guards; `guarded`: which endpoints are, where a call says nothing of it; `versions`: a registry's.
        """
        self._catalog = catalog
        self._segments = segments
        self._desired = Desired(catalog, writer, segments)
        self._metrics = ControlMetrics(Instruments()) if metrics is None else metrics
        self._replica = Replica(store, self._desired, self._metrics, sleep)
        self._clock = clock
        self._new_id = new_id
        self._seal = seal
        self._verify = verify
        self._load_of = load_of
        self._most_entities = most_entities
        self._guarded = guarded
        self._versions = versions
        self._under_way: set[asyncio.Task[Applied]] = set()

    def __repr__(self) -> str:
        return f"<Desk of {self._replica!r}>"

    # -- reading ---------------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Of the state that is served."""
        return self._desired.number

    @property
    def opened(self) -> bool:
        """Whether the store was read once."""
        return self._replica.opened

    @property
    def lost(self) -> str:
        """Why the store can't be asked now; '' while it can."""
        return self._replica.lost

    def get(self, name: str) -> EndpointRecord:
        """Raises DoesNotExist."""
        return existing(self._desired.records, name)

    def by_id(self, record_id: str) -> EndpointRecord:
        """Raises DoesNotExist."""
        for record in self._desired.records.values():
            if record.id == record_id:
                return record
        raise DoesNotExist("There is no serving endpoint of that id")

    def list(self) -> tuple[EndpointRecord, ...]:
        """By name."""
        return tuple(sorted(self._desired.records.values(), key=lambda record: record.name))

    def problems(self) -> Mapping[str, Sequence[str]]:
        """By endpoint: what can't be served of it, and why."""
        return self._desired.problems()

    def secret(self, handle: str) -> Secret | None:
        """A secret that was given as text, by the handle in its reference; None when nobody has it, or it can't be opened."""
        for record in self._desired.records.values():
            if handle in record.sealed:
                try:
                    return self._seal.unseal(record.sealed[handle])
                except SealError as error:
                    _log.warning("a secret of a serving endpoint can't be opened", endpoint=record.name, error=str(error))
                    return None
        return None

    async def history(self, name: str, before: int | None = None, limit: int = 50) -> tuple[Entry, ...]:
        """The endpoint's last changes, newest first, also of one that was deleted. Raises DoesNotExist, Unavailable."""
        found = await self._replica.asking(entries(self._replica.store, name, before, limit))
        if not found and before is None:
            existing(self._desired.records, name)
        return found

    # -- changing --------------------------------------------------------------------------------------------------------

    async def apply(
        self,
        change: DeskChange,
        actor: str,
        expected: int | None = None,
        reason: str = "",
        *,
        origin: Origin = Origin(),
        dry_run: bool = False,
    ) -> Applied:
        """Make a change. When this returns it is on disk, and in force in this process.

        `expected` is the config version that the actor has seen, None for any; `origin` is for the record. Raises DeskError;
        then nothing is changed, but for Unavailable: then it may have been, and will be seen if it was. Who stops waiting for
        it does not stop it.
        """
        if len(reason) > _MAX_REASON or "\0" in reason:
            raise InvalidParameter([f"reason: got {len(reason)} characters; expected at most {_MAX_REASON}, without NUL"])
        said = Said(_short(actor), reason, 0, Origin(*map(_short, origin)))
        task = asyncio.ensure_future(self._applied(change, said, expected, dry_run))
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Applied]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # who asked may be gone

    async def _applied(self, change: DeskChange, said: Said, expected: int | None, dry_run: bool) -> Applied:
        kind = type(change).__name__
        outcome = "made"
        try:
            if references := references_in(change):
                await self._versions.learn(references)
            async with self._replica.lock:
                return await self._made(change, said, expected, dry_run)
        except DeskError as error:
            outcome = error.code
            raise
        except BaseException:
            outcome = "failed"
            raise
        finally:
            if not dry_run:
                self._metrics.changes.child(kind, outcome).value += 1

    async def _made(self, change: DeskChange, said: Said, expected: int | None, dry_run: bool) -> Applied:
        if not self._replica.opened:
            raise Unavailable("The serving endpoints are not loaded yet: their store can't be asked")
        await self._replica.learn()  # so that nobody is told what was true a moment ago, at another replica
        for _ in range(_TURNS):
            known = self._segments().names
            now_ms, most = self._clock(), self._most_entities
            asked = Asked(said.actor, now_ms, self._new_id, self._seal, self._catalog(), most, known, self._versions)
            steps, to_be, effects = await self._prepared(change, asked, expected)
            await self._check(change, steps)
            why = await self._against(change, steps, effects, asked.now_ms)
            if why and not dry_run and isinstance(change, UpdateConfig) and not (change.wish and change.wish.forced):
                raise Conflict(f"{'; '.join(why)}; or say force")
            record = None if isinstance(change, Declare) or not steps else steps[0].after
            applied = Applied(record, self.number, effects, tuple(why))
            if dry_run or not steps:
                return applied
            try:
                kinds = {step.name: step.kind for step in steps}
                number = await self._replica.commit(to_be, kinds, said._replace(at_ms=asked.now_ms))
            except Superseded as error:
                await self._replica.learn(error.current)
                continue
            _tell(steps, number, said.reason)
            return applied._replace(revision=number)
        raise Conflict("Others change serving endpoints all the time, and this change never came first: try again")

    async def _prepared(self, change: DeskChange, asked: Asked, expected: int | None) -> _Prepared:
        old = None
        if isinstance(change, Revert):
            record = existing(self._desired.records, change.name)
            old = await self._replica.asking(version(self._replica.store, record, change.config_version))

        def prepare() -> _Prepared:
            steps = planned(change, self._desired.records, asked, expected, old)
            records = {step.name: step.after for step in steps}
            compiled = {name: None if record is None else self._desired.compiled(record) for name, record in records.items()}
            effects = [self._effect(step, compiled[step.name]) for step in steps]
            return _Prepared(steps, Learnt(records, compiled, {}), tuple(effects))

        prepared = await aside(_weight(change), prepare)
        for step in prepared.steps:
            if step.name in self._desired.unreadable:
                why = self._desired.unreadable[step.name]
                raise Conflict(f"The endpoint {step.name!r} can't be changed here, its record can't be read: {why}")
        if self._load_of is None:
            return prepared
        load_of = self._load_of
        return prepared._replace(effects=tuple([with_loads(effect, load_of) for effect in prepared.effects]))

    def _effect(self, step: Step, compiled: ServingEndpoint | None) -> Effect:
        before = None if step.before is None else (step.before, self._desired.serving(step.name))
        return effect_of(before, None if step.after is None else (step.after, compiled))

    async def _check(self, change: DeskChange, steps: Sequence[Step]) -> None:
        """Ask `verify` about entities that are new or changed."""
        problems = []
        for step in steps:
            if step.after is None:
                continue
            before = {} if step.before is None else {each["name"]: each for each in step.before.entities}
            places = {each["name"]: index for index, each in enumerate(step.after.entities) if before.get(each["name"]) != each}
            if not places:
                continue
            where = f"{step.name}: config." if isinstance(change, Declare) else "config." if isinstance(change, Create) else ""
            for found in await self._verify(spec_of(step.after)):
                if found.entity in places:
                    field = f".external_model.{found.field}" if found.field else ""
                    problems.append(f"{where}served_entities[{places[found.entity]}]{field}: {found.words}")
        if problems:
            raise InvalidParameter(few(problems))

    async def _against(
        self, change: DeskChange, steps: Sequence[Step], effects: Sequence[Effect], now_ms: int
    ) -> Sequence[str]:
        """What guards say against it."""
        if not isinstance(change, UpdateConfig) or change.wish is None or not steps:
            return ()
        before, after = steps[0].before, steps[0].after
        if before is None or after is None or (guard := guard_of(before, change.wish, self._guarded)) is None:
            return ()
        percent = share_moved(before, after)
        large = percent >= guard.large
        history = await self._replica.asking(entries(self._replica.store, change.name, None, LOOKED_AT)) if large else ()
        return against(guard, effects, percent, history, now_ms / 1000)

    # -- with others -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store, serve what is in it. Raises Unavailable, and SchemaTooNew; `follow` tries again after the former."""
        await self._replica.open()

    async def follow(self) -> None:
        """Runs until cancelled: serves what others commit, and what is stored once the store is back. Raises SchemaTooNew."""
        await self._replica.follow()

    def recompile(self) -> None:
        """What entities stand for has changed: pools, routes or adapters."""
        self._desired.recompile()
        self._replica.seen()

    async def close(self) -> None:
        """Wait for changes that are under way, and close the store."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._replica.store.close()


def _short(who: str) -> str:
    """As records take it; half a surrogate pair, which no database holds, is told as such."""
    return who[:_MAX_ACTOR].replace("\0", "").encode("utf-8", "backslashreplace").decode()


def _weight(change: DeskChange) -> int:
    """How much work it is, in endpoints of the usual size."""
    if isinstance(change, Declare):
        return len(change.documents)
    level: list[object] = [getattr(change, "document", None)]
    parts = 0
    while level and parts < MANY * _USUAL_PARTS:
        parts += len(level)
        maps = [list(each.values()) for each in level if isinstance(each, dict)]
        level = [inner for each in (*maps, *(each for each in level if isinstance(each, list))) for inner in each]
    return max(1, parts // _USUAL_PARTS)


def _tell(steps: Sequence[Step], number: int, reason: str) -> None:
    told = [f"{step.kind} {step.name}" for step in steps[:_TOLD]]
    _log.info("serving endpoints changed", changes=told, changed=len(steps), revision=number, reason=reason)
