"""What a rollout wants its endpoint to be, as a change of its config: from the state alone, so it can be made true at any time.

Promotion changes names and shares. The two entities swap their names, so the new one is called as the baseline was, and nothing
is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from extproc.rollouts.machine import DEGRADED, HEALTHY, UNDONE, State
from extproc.rollouts.plan import Plan, SetShadow, SetWeight

_OURS: Final = "rollout-"
"""Begins the names of header routes among an endpoint's rules."""


class Served(NamedTuple):
    """What an endpoint's config is, as far as rollouts touch it."""

    entities: tuple[Mapping[str, Any], ...]
    percentages: Mapping[str, int]
    rules: tuple[Mapping[str, Any], ...] = ()
    shadows: tuple[Mapping[str, Any], ...] = ()


def remembered(plan: Plan, served: Served) -> dict[str, Any]:
    """What has to be kept for the way back, when a rollout begins."""
    entities = {entity["name"]: _model(entity) for entity in served.entities}
    return {
        "baseline": entities[plan.baseline],
        "canary": entities[plan.canary],
        "baseline_share": served.percentages[plan.baseline],
        "canary_share": served.percentages[plan.canary],
        "shadows": [dict(each) for each in served.shadows if each["entity"] == plan.canary],
    }


def room(plan: Plan, served: Served) -> int:
    """Percent of the traffic that the two have together."""
    return served.percentages[plan.baseline] + served.percentages[plan.canary]


def impossible(plan: Plan, served: Served) -> list[str]:
    """Why this plan can't be done with this endpoint, each with its path; nothing when it can."""
    have, problems = room(plan, served), []
    for index, step in enumerate(plan.steps):
        if isinstance(step, SetWeight) and step.weight > have and step.weight != 100:
            words = f"got {step.weight}; expected at most {have}, which is what {plan.baseline} and {plan.canary} have together"
            problems.append(f"rollout.steps[{index}].setWeight: {words}")
        if isinstance(step, SetShadow) and any("external_model" in entity for entity in served.entities):
            problems.append(
                f"rollout.steps[{index}].shadow: got it with external models; expected none: a copy would cost as much"
            )
    if not served.percentages[plan.baseline]:
        problems.append(f"rollout.baseline: got {plan.baseline!r}, which has no traffic; expected the entity that has it")
    return problems


def signature(state: State) -> str:
    """The same for states that want the same."""
    began = int(bool(state.first_s))
    routes = ",".join(f"{name}:{';'.join(map('='.join, headers))}" for name, headers in sorted(state.routes.items()))
    return f"{state.phase if state.over else ''}|{began}|{state.weight}|{state.shadow}|{routes}"


def change(plan: Plan, state: State, served: Served) -> dict[str, Any] | None:
    """The body of a change of the config that makes it so; None when it is so."""
    document: dict[str, Any] = {}
    shares = _shares(plan, state, served)
    entities = _entities(plan, state, served)
    if entities != list(served.entities):
        document["served_entities"] = entities
    if document or shares != dict(served.percentages):
        routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
        document["traffic_config"] = {"routes": routes}
    rules = _rules(plan, state, served)
    if rules != list(served.rules):
        document["rules"] = rules
    shadows = _shadows(plan, state, served)
    if shadows is not None and shadows != list(served.shadows):
        document["shadows"] = shadows
    return document or None


def _shares(plan: Plan, state: State, served: Served) -> dict[str, int]:
    have = room(plan, served)
    if state.phase == HEALTHY:
        canary = 0 if plan.rename else have
    elif state.phase in (DEGRADED, UNDONE) or not state.first_s:
        canary = min(int(state.before["canary_share"]), have)
    else:
        canary = min(state.weight, have)
    return {**served.percentages, plan.baseline: have - canary, plan.canary: canary}


def _entities(plan: Plan, state: State, served: Served) -> list[Mapping[str, Any]]:
    """As they are called now, or with the two names swapped."""
    swapped = state.phase == HEALTHY and plan.rename
    models = {
        plan.baseline: state.before["canary" if swapped else "baseline"],
        plan.canary: state.before["baseline" if swapped else "canary"],
    }
    if not swapped and state.phase != UNDONE:
        return list(served.entities)
    return [
        {"name": entity["name"], **models[entity["name"]]} if entity["name"] in models else entity for entity in served.entities
    ]


def _model(entity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entity.items() if key != "name"}


def _rules(plan: Plan, state: State, served: Served) -> list[Mapping[str, Any]]:
    """Header routes go before all others."""
    routes = {} if state.over else state.routes
    ours: list[Mapping[str, Any]] = [
        {
            "name": f"{_OURS}{name}",
            "match": [{"headers": {key: {"exact": value} for key, value in headers}}],
            "entity": plan.canary,
        }
        for name, headers in routes.items()
    ]
    return ours + [rule for rule in served.rules if not rule["name"].startswith(_OURS)]


def _shadows(plan: Plan, state: State, served: Served) -> list[Mapping[str, Any]] | None:
    """None: this plan has nothing to do with shadows."""
    if not any(isinstance(step, SetShadow) for step in plan.steps):
        return None
    others = [each for each in served.shadows if each["entity"] != plan.canary]
    before: list[Mapping[str, Any]] = list(state.before["shadows"])
    if state.over:
        return others + ([] if state.phase == HEALTHY else before)
    if not state.shadow:
        return others
    kept = before[0] if before else {"entity": plan.canary}
    return [*others, {**kept, "percentage": float(state.shadow)}]
