"""Rollouts as they are kept and driven: what people ask for, and what time brings.

    start, promote, pause … ─▶ state ─▶ store (a version decides between replicas)
    round: store ─▶ machine.tick ─▶ store ─▶ desk.apply, until the endpoint is what the state wants

The state is stored before it is made true, and making it true is asked for again until it is: so who is killed in between goes
on where it was.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from extproc.control.changes import UpdateConfig
from extproc.control.desk import Desk
from extproc.control.errors import Conflict, DeskError, DoesNotExist, InvalidParameter, Unavailable
from extproc.control.guarding import LOOKED_AT, loads, moves
from extproc.control.records import API, EndpointRecord
from extproc.control.store import KeepingStore, Kept, StoreUnavailable, Superseded
from extproc.observability.logs import logger
from extproc.rollouts import machine
from extproc.rollouts.documents import Rollout, Unreadable, of_document, to_document
from extproc.rollouts.guards import too_much, too_soon
from extproc.rollouts.judge import Look
from extproc.rollouts.machine import Refused, State
from extproc.rollouts.plan import Plan, SetShadow, SetWeight, Webhook, check_entities, read_plan
from extproc.rollouts.wanted import Served, change, impossible, remembered, signature
from extproc.settings.base import SettingsError
from extproc.settings.serving.delivery import FIELDS

_log = logger(__name__)

_KEY: Final = "rollout/"
_TURNS: Final = 20
"""How often a command is tried again because the driver was first."""

LookAt = Callable[[str, Plan], Look]
"""What is known of both arms of an endpoint's rollout now."""
Tell = Callable[[Webhook, Mapping[str, Any]], Awaitable[bool]]
"""Ask a webhook, or tell it; whether it said yes. Raises nothing."""


class Standing(NamedTuple):
    """A rollout, with the version of its document."""

    version: int
    rollout: Rollout


def _unix_s() -> float:
    return time.time()


def _random_id() -> str:
    return uuid.uuid4().hex


class Rollouts:
    """One per process. All methods belong to its event loop."""

    def __init__(
        self,
        desk: Desk,
        store: KeepingStore,
        look: LookAt,
        tell: Tell,
        *,
        clock: Callable[[], float] = _unix_s,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        """`clock` gives Unix seconds: what it says is kept, and read by another process."""
        self._desk = desk
        self._store = store
        self._look = look
        self._tell = tell
        self._clock = clock
        self._new_id = new_id
        self._read: dict[str, tuple[Kept, Rollout | None]] = {}
        """What was read last: most of it is over, and never changes again."""
        self._known: set[str] = set()
        """Ids of rollouts whose samples this process has counted from."""

    # -- reading ----------------------------------------------------------------------------------------------------------

    async def get(self, name: str) -> Rollout:
        """The endpoint's rollout, or its last one. Raises DoesNotExist, Unavailable."""
        return (await self._standing(name)).rollout

    async def all(self) -> dict[str, Standing]:
        """By endpoint. What can't be read is left out, and said in the log. Raises Unavailable."""
        read: dict[str, tuple[Kept, Rollout | None]] = {}
        for key, kept in (await self._kept()).items():
            if key.startswith(_KEY):
                name = key.removeprefix(_KEY)
                before = self._read.get(name)
                read[name] = before if before is not None and before[0] == kept else (kept, _readable(name, kept))
        self._read = read
        return {name: Standing(kept.version, rollout) for name, (kept, rollout) in read.items() if rollout is not None}

    async def _kept(self) -> Mapping[str, Kept]:
        try:
            return await self._store.kept()
        except StoreUnavailable as error:
            raise Unavailable(f"The store of rollouts can't be asked: {error}") from None

    async def _standing(self, name: str) -> Standing:
        self._desk.get(name)
        kept = (await self._kept()).get(f"{_KEY}{name}")
        if kept is None:
            raise DoesNotExist(f"The endpoint {name!r} has no rollout")
        try:
            return Standing(kept.version, of_document(kept.document))
        except Unreadable as error:
            raise Conflict(f"The rollout of {name!r} can't be read here: {error}") from None

    # -- what people ask for ------------------------------------------------------------------------------------------------

    async def start(self, name: str, document: object, actor: str, *, force: bool = False, dry_run: bool = False) -> Rollout:
        """Begin one by this plan. Raises InvalidParameter, Conflict (one goes on, guards), DoesNotExist, Unavailable."""
        record = self._desk.get(name)
        if record.owner != API:
            raise Conflict(
                f"The endpoint {name!r} belongs to {record.owner}, which would change back what a rollout does: "
                "change the split there, or move the endpoint to the API (docs/serving-endpoints.md, From a file to the API)"
            )
        served = served_by(record)
        try:
            plan = read_plan(document)
        except SettingsError as error:
            raise InvalidParameter(error.problems) from None
        problems = check_entities(plan, list(served.percentages))
        if problems := problems or impossible(plan, served) or _unknown_here(plan):
            raise InvalidParameter(problems)
        now_s = self._clock()
        before = (await self._kept()).get(f"{_KEY}{name}")
        if before is not None and not _over(before):
            raise Conflict(f"A rollout of {name!r} goes on: abort it, or wait for its end")
        if not force:
            await self._check_start(name, plan, served, now_s)
        state = machine.started(plan, name, self._new_id(), remembered(plan, served), now_s, actor, forced=force)
        rollout = Rollout(plan, state)
        if not dry_run:
            await self._write(name, 0 if before is None else before.version, rollout)
        return rollout

    async def _check_start(self, name: str, plan: Plan, served: Served, now_s: float) -> None:
        first = next(step.weight for step in plan.steps if isinstance(step, SetWeight) and step.weight)
        percent = first - served.percentages[plan.canary]
        history = await self._desk.history(name, limit=LOOKED_AT)
        if why := too_soon(moves(history), percent, plan.large, plan.bake_s, now_s):
            raise Conflict(f"{why}; or say force")

    async def command(self, name: str, what: str, actor: str, *, full: bool = False, force: bool = False) -> Rollout:
        """`promote`, `pause`, `resume`, `abort` or `undo`. Raises Conflict where that has no place, and as `get`."""
        for _ in range(_TURNS):
            standing = await self._standing(name)
            plan, state = standing.rollout
            now_s = self._clock()
            try:
                if what == "promote":
                    state = machine.promoted(plan, state, now_s, actor, full=full)
                elif what == "pause":
                    state = machine.paused(state, now_s, actor)
                elif what == "resume":
                    state = machine.resumed(plan, state, now_s, actor, force=force)
                elif what == "abort":
                    state = machine.aborted(state, now_s, actor)
                else:
                    state = machine.undone(state, now_s, actor)
            except Refused as error:
                raise Conflict(f"The rollout of {name!r} can't do that: {error}") from None
            try:
                await self._write(name, standing.version, Rollout(plan, state))
            except Superseded:
                continue
            return Rollout(plan, state)
        raise Conflict("The rollout changes all the time, and this never came first: try again")

    async def _write(self, name: str, version: int, rollout: Rollout) -> int:
        try:
            return await self._store.keep(f"{_KEY}{name}", version, to_document(rollout))
        except StoreUnavailable as error:
            raise Unavailable(f"The store of rollouts can't be asked: {error}") from None

    # -- time passes --------------------------------------------------------------------------------------------------------

    def lost_lead(self) -> None:
        """Another replica counts from now on; what is counted here begins anew if this one leads again."""
        self._known.clear()

    async def round(self) -> None:
        """Drive each rollout that goes on by a step. Raises Unavailable."""
        for name, standing in (await self.all()).items():
            await self.drive(name, standing)

    async def drive(self, name: str, standing: Standing) -> None:
        """One rollout by a step, as long as its webhooks take. What stands in its way is said in the log."""
        try:
            await self._driven(name, standing)
        except Superseded:
            return  # somebody has said something meanwhile: next round
        except (DeskError, StoreUnavailable, Refused) as error:
            _log.warning("a rollout does not get on", endpoint=name, error=str(error))

    async def _driven(self, name: str, standing: Standing) -> None:
        version, (plan, state) = standing
        try:
            record = self._desk.get(name)
        except DoesNotExist:
            self._known.discard(state.id)
            await self._store.keep(f"{_KEY}{name}", version, None)
            return
        if state.over and state.made == signature(state):
            self._known.discard(state.id)
            return
        now_s = self._clock()
        then = state
        if state.made != signature(state) and not _waits(state):
            # What was decided before this process was there, or before somebody said `resume`, comes before anything else.
            then = await self._made_true(plan, state, record, now_s)
            record = self._desk.get(name)
        then = await self._ticked(plan, then, now_s)
        if then != state:
            version = await self._write(name, version, Rollout(plan, then))
        stored = then
        if then.made != signature(then):
            then = await self._made_true(plan, then, record, now_s)
        elif not then.over and change(plan, then, served_by(record)) is not None:
            then = machine.held_back(then, now_s, f"others have changed the config, to version {record.config_version}")
            then = then._replace(made="")
        if then != stored:
            await self._write(name, version, Rollout(plan, then))
        await self._told(plan, state, then)

    async def _ticked(self, plan: Plan, state: State, now_s: float) -> State:
        look = self._look(state.endpoint, plan)
        if state.id not in self._known:
            state = machine.adopted(plan, state, look)
            self._known.add(state.id)
        answers = {hook.name: await self._tell(hook, self._payload(plan, state, hook)) for hook in machine.asked(plan, state)}
        return machine.tick(plan, state, look, now_s, answers)

    async def _made_true(self, plan: Plan, state: State, record: EndpointRecord, now_s: float) -> State:
        """Change the endpoint, so that it is what the state wants. A state that is held back when it may not be."""
        if _waits(state):
            return state
        document = change(plan, state, served_by(record))
        if document is not None:
            reason = state.events[-1].words if state.events else state.phase
            update, who = UpdateConfig(state.endpoint, document), f"rollout:{state.endpoint}"
            if not state.forced and not state.over:
                tried = await self._desk.apply(update, who, record.config_version, dry_run=True)
                if why := too_much(loads(tried.effects)):
                    return machine.held_back(state, now_s, f"{'; '.join(why)}; resume with force, or give the pool more")
            try:
                await self._desk.apply(update, who, record.config_version, reason[:1000])
            except InvalidParameter as error:
                if state.over:
                    raise
                return machine.held_back(state, now_s, f"the config would be refused: {error.message}"[:500])
        return state._replace(made=signature(state))

    def _payload(self, plan: Plan, state: State, hook: Webhook) -> dict[str, Any]:
        return {
            "name": hook.name,
            "type": hook.kind,
            "endpoint": state.endpoint,
            "rollout": state.id,
            "phase": state.phase,
            "step": state.step,
            "weight": state.weight,
            "baseline": plan.baseline,
            "canary": plan.canary,
        }

    async def _told(self, plan: Plan, before: State, after: State) -> None:
        news = [event for event in after.events if event not in before.events]
        for event in news:
            _log.info("rollout", endpoint=after.endpoint, phase=after.phase, what=event.words, who=event.who)
            for hook in plan.hooks("event"):
                await self._tell(hook, {**self._payload(plan, after, hook), "event": event.words, "at": event.at_s})


def _readable(name: str, kept: Kept) -> Rollout | None:
    try:
        return of_document(kept.document)
    except Unreadable as error:
        _log.error("a rollout can't be read: nobody drives it here", endpoint=name, why=str(error))
        return None


def _waits(state: State) -> bool:
    """Paused by somebody, or held back, with something that is not true yet: it is made true when somebody resumes it."""
    return state.phase == machine.PAUSED and state.manual and state.made != signature(state)


def _unknown_here(plan: Plan) -> list[str]:
    """Steps that need what endpoints of this release have no field for."""
    words = "got it, and endpoints have no shadows in this release; expected other steps"
    return [
        f"rollout.steps[{index}].shadow: {words}"
        for index, step in enumerate(plan.steps)
        if isinstance(step, SetShadow) and "shadows" not in FIELDS
    ]


def _over(kept: Kept) -> bool:
    try:
        return of_document(kept.document).state.over
    except Unreadable:
        return True


def served_by(record: EndpointRecord) -> Served:
    """The config of an endpoint as rollouts see it."""
    delivery = record.delivery
    return Served(record.entities, record.percentages, tuple(delivery.get("rules", ())), tuple(delivery.get("shadows", ())))
