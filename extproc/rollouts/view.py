"""A rollout as people and their tools are shown it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from extproc.rollouts.course import Seen
from extproc.rollouts.documents import Rollout, plain
from extproc.rollouts.judge import Progress
from extproc.rollouts.machine import State
from extproc.rollouts.plan import Metric, Plan


def view(rollout: Rollout) -> dict[str, Any]:
    """For JSON. Times are Unix seconds."""
    plan, state = rollout
    return {
        "id": state.id,
        "endpoint": state.endpoint,
        "phase": state.phase,
        "reason": state.reason,
        "baseline": plan.baseline,
        "canary": plan.canary,
        "weight": state.weight,
        "step": state.step,
        "steps": [_step(each) for each in plan.document["steps"]],
        "started_at": state.began_s,
        "step_since": state.since_s or None,
        "metrics": [*_metrics(plan, state)],
        "events": plain(state.events),
        "plan": dict(plan.document),
    }


def _step(form: Mapping[str, Any]) -> str:
    """In a few words: `setWeight 10`, `pause 60 s`."""
    ((kind, value),) = form.items()
    if not isinstance(value, Mapping):
        return f"{kind} {value}"
    if kind == "pause":
        return f"pause {value['duration']:g} s" if "duration" in value else "pause until promoted"
    if kind == "analysis":
        return " ".join([kind, *value.get("metrics", ())])
    return f"{kind} {value.get('percentage', value.get('name', ''))}"


def _metrics(plan: Plan, state: State) -> Iterator[dict[str, Any]]:
    for where, running in (("background", state.background), ("step", state.watched)):
        for name, progress in running.items():
            yield {
                "name": name,
                "of": where,
                "phase": progress.phase or "Running",
                "last": progress.last,
                "measured": progress.measured,
                "words": progress.words,
                "dry_run": plan.metrics[name].dry_run,
                **_evidence(progress),
                **_course(plan.metrics[name], progress),
            }


def _course(metric: Metric, progress: Progress) -> dict[str, Any]:
    """Of a comparison, what was known at each look: how much worse the canary is, between what at all looks at once, and
    what is tolerated and aimed at. Parts of a time (0.1 is a tenth longer), or of all requests, of an error rate.
    """
    if metric.compare is None:
        return {}
    columns = list(zip(*progress.course.looks, strict=True)) or [()] * len(Seen._fields)
    course = {name: list(column) for name, column in zip(("at", *Seen._fields[1:]), columns, strict=True)}
    of = {"measure": metric.compare.measure, "tolerance": metric.compare.tolerance, "margin": metric.compare.margin}
    return {"course": of | course}


def _evidence(progress: Progress) -> dict[str, Any]:
    """How many requests it rests on, of a comparison."""
    rates, times = progress.rates, progress.times
    canary, baseline = max(rates.canary, times.canary), max(rates.baseline, times.baseline)
    return {"canary_requests": canary, "baseline_requests": baseline} if canary or baseline else {}
