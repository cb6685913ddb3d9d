"""What is to be done when an alias has moved: a change of the endpoint, a rollout, or nothing yet.

    for each entity that follows      target == what was decided on last ─▶ nothing
                                      can't be served                    ─▶ it stays, and is said
                                      of no plan                         ─▶ Move
    the plan's two entities           both follow the alias              ─▶ Begin: the canary gets the new version first
                                      the alias goes elsewhere meanwhile ─▶ Abort

An entity keeps with it what it stands for, its block: `version`; `pool` and `model` where a tag says them; and `alias_version`,
what the alias meant when that was decided, where somebody has gone back to another version since. So a revert holds until
the alias moves again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from extproc.registry.references import Reference, of_entity

Block: TypeAlias = Mapping[str, str]
BLOCK: Final = "registry"
"""The block's key in an entity."""
ACTOR: Final = "registry:mlflow"
"""Who makes these changes, in histories."""


class Held(NamedTuple):
    """An entity stays as it is."""

    why: str


class Pair(NamedTuple):
    """The two entities of an endpoint's plan."""

    baseline: str
    canary: str


class Going(NamedTuple):
    """The endpoint's last rollout."""

    over: bool
    ours: bool
    """The registry began it."""
    baseline: str
    """Versions."""
    canary: str
    outcome: str = ""
    """How it ended, for people."""


class Move(NamedTuple):
    """Give these entities these blocks, at once."""

    blocks: Mapping[str, Block]
    words: str


class Begin(NamedTuple):
    """Give the canary this block, where it has another one, and begin the plan."""

    pair: Pair
    block: Block | None
    words: str


class Abort(NamedTuple):
    """Take back the rollout that goes on."""

    words: str


Action: TypeAlias = Move | Begin | Abort


class Step(NamedTuple):
    """What is to be done now, None: nothing; and which entities stay as they are, and why."""

    action: Action | None
    held: Mapping[str, str]


def decided(block: Block) -> str:
    """The version that the alias meant when the block was made."""
    return block.get("alias_version") or block["version"]


def next_step(
    entities: Sequence[Mapping[str, Any]],
    targets: Mapping[str, Block | Held],
    pair: Pair | None = None,
    going: Going | None = None,
    *,
    may_begin: str = "",
) -> Step:
    """`targets`: by entity, what it is to stand for now; `may_begin`: why no rollout can be begun here, '' when one can."""
    there = {entity["name"]: entity for entity in entities}
    held = {name: target.why for name, target in targets.items() if isinstance(target, Held)}
    blocks = {name: target for name, target in targets.items() if not isinstance(target, Held)}
    action: Action | None = None
    if pair is not None and _follow_together(there, pair):
        alone = [name for name in blocks if name not in pair]
        if pair.baseline in blocks:
            action, why = _planned(there, blocks[pair.baseline], pair, going, may_begin)
            held |= {pair.baseline: why} if why else {}
    else:
        alone = list(blocks)
        if pair is not None and pair.baseline in blocks and _differs(there[pair.baseline], blocks[pair.baseline]):
            alone.remove(pair.baseline)
            held[pair.baseline] = f"expected the plan's canary {pair.canary!r} to follow the same alias, so that it goes first"
    if pair is not None and going is not None and not going.over and pair.canary in alone:
        alone.remove(pair.canary)
        if _differs(there[pair.canary], blocks[pair.canary]):
            held[pair.canary] = "a rollout goes on; expected its end before the canary is another version"
    moved = {name: blocks[name] for name in alone if _differs(there[name], blocks[name])}
    if moved and action is None:
        action = Move(moved, said(there, moved))
    return Step(action, held)


def said(entities: Mapping[str, Mapping[str, Any]], blocks: Mapping[str, Block]) -> str:
    """The reason of a change: alias, old and new version."""
    words = []
    for name, block in blocks.items():
        entity = entities[name]
        before = (entity.get(BLOCK) or {}).get("version") or "none"
        what = f"{entity['entity_name']}{entity.get('entity_version') or ''}"
        if before == block["version"]:
            words.append(f"{name}: {what} is version {before}, served elsewhere now")
        else:
            words.append(f"{name}: {what} moved from version {before} to {block['version']}")
    return "; ".join(words)


def _follow_together(entities: Mapping[str, Mapping[str, Any]], pair: Pair) -> bool:
    baseline, canary = (_alias(entities.get(name)) for name in pair)
    return baseline is not None and baseline == canary


def _alias(entity: Mapping[str, Any] | None) -> Reference | None:
    if entity is None or "entity_name" not in entity:
        return None
    reference = of_entity(entity["entity_name"], entity.get("entity_version") or "")
    return reference if reference is not None and reference.alias else None


def _differs(entity: Mapping[str, Any], target: Block) -> bool:
    """Whether the entity is to be something else than what was decided on last."""
    block = entity.get(BLOCK)
    if not block:
        return True
    if block["version"] != target["version"]:
        return decided(block) != target["version"]
    return any(block.get(key) != target.get(key) for key in ("pool", "model"))


def _planned(
    entities: Mapping[str, Mapping[str, Any]], target: Block, pair: Pair, going: Going | None, may_begin: str
) -> tuple[Action | None, str]:
    """What the plan's two entities need, and why the baseline stays as it is although the alias moved."""
    baseline, canary = ((entities[name].get(BLOCK) or {}) for name in pair)
    if not baseline:
        both = dict.fromkeys(pair, target)
        return Move(both, said(entities, both)), ""
    if going is not None and not going.over:
        if not going.ours:
            return None, "" if baseline["version"] == target["version"] else "a rollout goes on that somebody else began"
        if going.canary == target["version"]:
            return None, ""
        alias = f"{entities[pair.baseline]['entity_name']}{entities[pair.baseline].get('entity_version') or ''}"
        return Abort(f"{alias} moved on to version {target['version']}"), ""
    if baseline["version"] == target["version"]:
        elsewhere = {pair.baseline: target} if _differs(entities[pair.baseline], target) else {}
        return (Move(elsewhere, said(entities, elsewhere)) if elsewhere else None), ""
    if going is not None and (going.baseline, going.canary) == (baseline["version"], target["version"]):
        return None, f"version {target['version']} was tried: {going.outcome or 'its rollout is over'}"
    if decided(baseline) == target["version"]:
        return None, ""
    if may_begin:
        return None, may_begin
    words = said(entities, {pair.baseline: target}).replace("moved from", "moves from")
    return Begin(pair, None if canary and not _other(canary, target) else target, words), ""


def _other(block: Block, target: Block) -> bool:
    return any(block.get(key) != target.get(key) for key in ("version", "pool", "model"))
