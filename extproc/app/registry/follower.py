"""Moves endpoints after their aliases, in the registry's name: by a change of the config, or by the endpoint's rollout plan."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from extproc.control.changes import Follow, Origin
from extproc.control.desk import Desk
from extproc.control.errors import Conflict, DeskError, Unavailable
from extproc.control.following import Versions, wanted_reference
from extproc.control.guarding import loads
from extproc.control.records import API, EndpointRecord
from extproc.control.rollouts import Rollouts
from extproc.observability.logs import logger
from extproc.observability.registry import RegistryMetrics
from extproc.registry.known import Unresolved
from extproc.registry.moves import (
    ACTOR,
    BLOCK,
    Abort,
    Action,
    Begin,
    Block,
    Going,
    Held,
    Move,
    Pair,
    Step,
    next_step,
)
from extproc.registry.placing import Unplaced
from extproc.registry.references import Reference
from extproc.rollouts.documents import Rollout
from extproc.rollouts.guards import too_much
from extproc.rollouts.wanted import signature
from extproc.traffic import Catalog, UnknownEntity

_log = logger(__name__)


class Follower:
    """One for a process; only the replica that leads changes anything."""

    def __init__(
        self,
        desk: Desk,
        rollouts: Rollouts,
        catalog: Catalog,
        ready: Callable[[str], bool],
        leads: Callable[[], bool],
        metrics: RegistryMetrics,
    ) -> None:
        """`ready` says whether a pool can serve now; `leads` whether it is this replica that drives."""
        self._desk = desk
        self._rollouts = rollouts
        self._catalog = catalog
        self._ready = ready
        self.leads = leads
        self._metrics = metrics
        self._held: dict[str, Mapping[str, str]] = {}

    def held(self, endpoint: str) -> Mapping[str, str]:
        """By entity: why it stays where it is."""
        return self._held.get(endpoint, {})

    async def follow(self, versions: Versions, records: Sequence[EndpointRecord]) -> None:
        """Look at these endpoints once, all that refer to the registry. Raises nothing: what is in the way is told."""
        try:
            standing = await self._rollouts.all() if any("rollout" in record.delivery for record in records) else {}
        except Unavailable:
            return  # a store that is away stops moves; it is said by who keeps it
        held: dict[str, Mapping[str, str]] = {}
        for record in records:
            targets = self._targets(record, versions)
            if not targets:
                continue
            rollout = standing[record.name].rollout if record.name in standing else None
            step = self._step(record, targets, rollout)
            held[record.name] = dict(step.held)
            if step.action is not None and self.leads():
                held[record.name] = {**step.held, **await self._done(record, step.action)}
        self._tell({name: each for name, each in held.items() if each})

    def _targets(self, record: EndpointRecord, versions: Versions) -> dict[str, Block | Held]:
        """What each entity that follows is to stand for; without those of which the registry has said nothing yet."""
        targets: dict[str, Block | Held] = {}
        for entity in record.entities:
            reference = wanted_reference(entity, self._catalog)
            if reference is None:
                continue
            try:
                block = versions.block(reference)
            except Unresolved as error:
                if not error.away:
                    targets[entity["name"]] = Held(str(error))
            except Unplaced as error:
                targets[entity["name"]] = Held(str(error))
            else:
                targets[entity["name"]] = self._served(reference, entity, block)
        return targets

    def _served(self, reference: Reference, entity: Mapping[str, Any], block: Block) -> Block | Held:
        """Nobody is sent where nobody serves; who is there already stays."""
        before = entity.get(BLOCK) or {}
        if all(before.get(key) == block.get(key) for key in ("version", "pool", "model")):
            return block
        try:
            pool = block.get("pool") or self._catalog.resolve(reference.name, block["version"]).pool
        except UnknownEntity as error:
            return Held(f"no pool serves version {block['version']}: {error}")
        if not self._ready(pool):
            return Held(f"version {block['version']} is served by the pool {pool!r}, which has no endpoint that can serve now")
        return block

    def _step(self, record: EndpointRecord, targets: Mapping[str, Block | Held], rollout: Rollout | None) -> Step:
        pair = _pair(record)
        going = None if rollout is None else _going(rollout)
        if pair is not None and rollout is not None and rollout.state.over and rollout.state.made != signature(rollout.state):
            return Step(None, {})  # its end is not in the config yet
        may_begin = ""
        if record.owner != API:
            may_begin = (
                f"the endpoint belongs to {record.owner}, where no rollout can be begun: expected an endpoint of the API"
            )
        return next_step(record.entities, targets, pair, going, may_begin=may_begin)

    async def _done(self, record: EndpointRecord, action: Action) -> dict[str, str]:
        """Do it; what stays where it is because that is refused, and why."""
        name = record.name
        how = "config" if isinstance(action, Move) else "rollout" if isinstance(action, Begin) else "abort"
        try:
            if isinstance(action, Move):
                await self._move(record, action)
            elif isinstance(action, Begin):
                await self._begin(record, action)
            else:
                await self._rollouts.command(name, "abort", ACTOR)
        except DeskError as error:
            if not isinstance(error, Conflict | Unavailable):
                self._metrics.moves.child(name, "failed").value += 1
            entities = list(action.blocks) if isinstance(action, Move) else list(_pair(record) or ())[:1]
            return dict.fromkeys(entities, f"it is refused: {error.message}"[:500])
        self._metrics.moves.child(name, how).value += 1
        if isinstance(action, Abort):
            _log.info("an alias went elsewhere: the rollout is taken back", endpoint=name, why=action.words)
        return {}

    async def _move(self, record: EndpointRecord, move: Move) -> None:
        """At once, where the pools can take it."""
        tried = await self._desk.apply(Follow(record.name, move.blocks), ACTOR, record.config_version, dry_run=True)
        if why := too_much(loads(tried.effects)):
            raise Conflict("; ".join(why))
        await self._apply(record, move.blocks, move.words)

    async def _apply(self, record: EndpointRecord, blocks: Mapping[str, Block], words: str) -> None:
        change = Follow(record.name, blocks)
        await self._desk.apply(change, ACTOR, record.config_version, words[:1000], origin=Origin(platform.node()))

    async def _begin(self, record: EndpointRecord, begin: Begin) -> None:
        """The canary first gets the version; a plan that may not begin now changes nothing."""
        plan = {**record.delivery["rollout"], "baseline": begin.pair.baseline, "canary": begin.pair.canary}
        await self._rollouts.start(record.name, plan, ACTOR, dry_run=True)
        if begin.block is not None:
            await self._apply(record, {begin.pair.canary: begin.block}, begin.words)
        await self._rollouts.start(record.name, plan, ACTOR)

    def _tell(self, held: dict[str, Mapping[str, str]]) -> None:
        """A line for each that is new or stays for another reason than before."""
        for endpoint, entities in held.items():
            for entity, why in entities.items():
                if self._held.get(endpoint, {}).get(entity) != why:
                    _log.warning("a served entity does not follow its registry", endpoint=endpoint, entity=entity, why=why)
        self._held = held
        pairs = {(endpoint, entity) for endpoint, entities in held.items() for entity in entities}
        self._metrics.hold(pairs, {record.name for record in self._desk.list()})


def _pair(record: EndpointRecord) -> Pair | None:
    """The two entities of the plan, the one that has the traffic as the baseline: a promotion by weights changes places."""
    plan = record.delivery.get("rollout")
    if not isinstance(plan, Mapping):
        return None
    pair = Pair(plan["baseline"], plan["canary"])
    shares = record.percentages
    if not shares.get(pair.baseline) and shares.get(pair.canary):
        return Pair(pair.canary, pair.baseline)
    return pair


def _going(rollout: Rollout) -> Going:
    state = rollout.state
    baseline, canary = ((state.before[arm].get(BLOCK) or {}).get("version", "") for arm in ("baseline", "canary"))
    ours = bool(state.events) and state.events[0].who == ACTOR
    return Going(state.over, ours, baseline, canary, f"{state.phase}: {state.reason}" if state.over else "")
