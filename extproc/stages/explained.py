"""The endpoint picker's choice, told for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nsmallest
from typing import Any

from extproc.candidates import Candidates
from extproc.scheduling import Cycle, columns
from extproc.scheduling.considered import Considered
from extproc.scheduling.flips import Flips, flips
from extproc.scheduling.profile import MOST_EXPLAINED, CandidateExplanation, Explanation
from extproc.scheduling.scheduler import Scheduler
from extproc.stages.draft import Choice


def considered_of(choice: Choice) -> Considered:
    """Who was considered for a choice, while it is made."""
    store, scheduled, candidates = choice.store, choice.scheduled, choice.candidates
    profile = choice.scheduler.profile(scheduled.primary)
    points = scheduled.run.points if profile.keeps_points else profile.points(choice.cycle, candidates)
    return Considered(profile, candidates, choice.pick.positions, store.pages(), store.looked_at_s, points)


def explained(choice: Choice, given: Candidates) -> dict[str, Any]:
    """A choice that was made among these, for JSON."""
    seen = considered_of(choice)
    ages = {endpoint.key: seen.age_s(at) for at, endpoint in enumerate(seen.endpoints)}
    candidates, store, scheduled = choice.candidates, choice.store, choice.scheduled
    picked = [candidates.endpoints[position].key for position in choice.pick.positions]
    also = {*picked, *(run.endpoint for run in scheduled.runs.values())}
    tables = {table.profile: table for table in choice.scheduler.explain(choice.cycle, given, also=tuple(also))}
    left_out: list[str] = []
    if len(candidates.endpoints) < len(store):
        chosen = {endpoint.key for endpoint in candidates.endpoints}
        left_out = [key for key in store.members() if key not in chosen]
    told = {
        "pool": choice.pool,
        "fail_open": not store.fresh,
        "picked": picked,
        "left_out": nsmallest(MOST_EXPLAINED, left_out),
        "left_out_in_all": len(left_out),
        **table_of(tables.pop(scheduled.primary), ages),
        **flips_of(flips(seen)),
        **({"omitted": dict(scheduled.omitted)} if scheduled.omitted else {}),
        **of_plugins(choice.scheduler, choice.cycle),
    }
    if tables:
        runs = scheduled.runs
        told["profiles"] = [
            {**table_of(table), "picked": [runs[name].endpoint] if name in runs else []} for name, table in tables.items()
        ]
    return told


def considered_shape(seen: Considered) -> dict[str, Any]:
    """What is kept of a choice, in the words that `explained` has for one that is made now."""
    points = seen.points()
    totals = seen.totals(points)
    shown = columns.largest(totals, MOST_EXPLAINED)
    shown += [position for position in seen.positions if position not in shown]
    shown.sort(key=lambda at: (-totals[at], at != seen.picked))
    rows = [
        CandidateExplanation(
            endpoint=seen.endpoints[at],
            signals=seen.signals(at),
            points={each.name: float(column[at]) for each, column in zip(seen.profile.scored, points, strict=True)},
            total=totals[at],
            trial=at == seen.trial,
        )
        for at in shown
    ]
    kept = {endpoint.key for endpoint in seen.endpoints}
    left_out = [endpoint.key for endpoint in seen.whole if endpoint.key not in kept]
    weights = {name: weight for name, _, weight in seen.profile.scorers}
    ages = {seen.endpoints[at].key: seen.age_s(at) for at in shown}
    return {
        "picked": [seen.endpoints[position].key for position in seen.positions],
        "left_out": nsmallest(MOST_EXPLAINED, left_out),
        "left_out_in_all": len(left_out),
        **table_of(Explanation(seen.profile.name, weights, rows, {}, len(seen.endpoints)), ages),
        **flips_of(flips(seen)),
    }


def flips_of(told: Flips) -> dict[str, Any]:
    """Who was next, and what would have had it picked."""
    changes = [
        {"what": each.what, "is_signal": each.is_signal, "had": each.had, "needed": each.needed} for each in told.changes
    ]
    return {"runner_up": told.runner_up or None, "behind": told.behind, "flips": changes, "flip": told.words}


def of_plugins(scheduler: Scheduler, cycle: Cycle) -> dict[str, Any]:
    """What plugins have to say."""
    told = scheduler.tell(cycle)
    return {"plugins": told} if told else {}


def table_of(table: Explanation, ages: Mapping[str, float | None] = {}) -> dict[str, Any]:
    """A profile's candidates; `ages` of their pages, in seconds, where somebody knows."""
    return {
        "profile": table.profile,
        "weights": table.weights,
        **({"filters": table.filters} if table.filters else {}),
        "candidates_in_all": table.candidates_in_all,
        "candidates": [
            {
                "endpoint": row.endpoint.key,
                "name": row.endpoint.name,
                "signals": row.signals,
                "age_s": None if (age := ages.get(row.endpoint.key)) is None else round(age, 3),
                "points": row.points,
                "total": row.total,
                "trial": row.trial,
            }
            for row in table.candidates
        ],
    }
