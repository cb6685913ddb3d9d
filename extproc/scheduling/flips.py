"""What would have had another endpoint picked: the least change of one thing that was known of the runner-up.

    best of all but the picked one        by total points
    less of a signal                      its scorers' formulas on the other value; the smallest step that is enough
    more points of another scorer         (best of the others' total − its own) / weight, on top of those that it had

Enough is what makes it the only best one: by more than the picker's tolerance, as those within it take turns. Where chance or
turns decide, or a picker that we do not know, nothing of that can be told, and the words say so. What is told holds while all
else stays as it was; points of scorers that may look at the same signal in their own way are named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, NamedTuple

from extproc.candidates import Column
from extproc.scheduling import columns
from extproc.scheduling.considered import Considered
from extproc.scheduling.plugins.lora import LoraScorer
from extproc.scheduling.plugins.pickers import MaxScorePicker, RandomPicker, WeightedRandomPicker
from extproc.scheduling.plugins.prefix import PrefixScorer
from extproc.scheduling.plugins.scorers import SignalScorer
from extproc.scheduling.plugins.sessions import Pinned

_SAME: Final = 1e-9
"""Totals closer than this are equal, as for the picker."""
_HUNDREDTH: Final = 0.01
_STEPS: Final = {"waiting": 1.0, "running": 1.0, "in_flight": 1.0, "kv_usage": _HUNDREDTH}
"""In what steps a signal is less: requests, and percents."""
_OF_SIGNALS: Final = {
    "waiting": ("waiting request", "waiting requests"),
    "running": ("running request", "running requests"),
    "in_flight": ("request in flight", "requests in flight"),
}
_MOST_STEPS: Final = 100_000


class Flip(NamedTuple):
    """One change that would have been enough."""

    what: str
    """A signal's name, or a scorer's."""
    is_signal: bool
    had: float
    """Of the signal, or the points."""
    needed: float
    """At most this of a signal, at least this many points."""


class Flips(NamedTuple):
    """What is to be said of a choice."""

    runner_up: str
    """The endpoint with most points after the picked one, '' for none."""
    behind: float
    """So many points it had less than the picked one; below 0: more."""
    changes: tuple[Flip, ...]
    """Of the runner-up, each enough by itself."""
    unless: tuple[str, ...]
    """Scorers whose points might have changed with a signal, and are taken as they were."""
    words: str
    """All of it, in words."""


def flips(considered: Considered) -> Flips:
    """Pure: from what was considered alone."""
    count = len(considered.endpoints)
    if not considered.positions:
        return Flips("", 0.0, (), (), "The candidates of this decision are not kept any more")
    if count < 2:
        return Flips("", 0.0, (), (), "It was the only candidate")
    picked = considered.picked
    points = considered.points()
    totals = considered.totals(points)
    named = considered.positions[1] if len(considered.positions) > 1 else -1  # the picker's word, among equals
    second = max((at for at in range(count) if at != picked), key=lambda at: (totals[at], at == named))
    name, behind = considered.endpoints[second].key, totals[picked] - totals[second]
    unknown = _chance(considered, totals, second, behind)
    if unknown:
        return Flips(name, behind, (), (), unknown)
    by_signal = _by_signal(considered, points, second, totals)
    changes = (*by_signal, *_by_points(considered, points, second, totals))
    unless = _may_see(considered) if by_signal else ()
    return Flips(name, behind, changes, unless, _words(name, behind, changes, unless, _by_prefix(considered)))


def _chance(considered: Considered, totals: Sequence[float], second: int, behind: float) -> str:
    """Why it can't be told, '' when it can."""
    picker, picked = considered.profile.picker, considered.picked
    if isinstance(picker, RandomPicker):
        return "The picker draws: each candidate had the same chance, whatever its points"
    if isinstance(picker, WeightedRandomPicker):
        whole = sum(totals)
        share = totals[picked] / whole if whole > 0 else 1 / len(totals)
        return (
            f"The picker draws by points: the picked one's chance was {share:.0%}, and nothing but the draw need have changed"
        )
    if not isinstance(picker, MaxScorePicker):
        return "The picker is not one of ours, so it can't be told what it would have picked instead"
    if considered.trial == picked:
        return "Nothing was known of the picked one and it was its turn to be tried: it counted as much as the best"
    key = considered.endpoints[second].key
    if behind < -picker.tolerance - _SAME:
        return f"{key} had more points, and something else than points decided: a profile handler, or a subset"
    if picker.tolerance > 0.0 and behind <= picker.tolerance + _SAME:
        least = max(totals) - picker.tolerance - _SAME
        same = sum(1 for total in totals if total >= least)
        return (
            f"{same} candidates were as good, within {picker.tolerance:g} points, {key} one of them: they take turns, and of "
            "those with the fewest in flight, or one more, the one was picked that was the longest ago"
        )
    if behind <= _SAME:
        same = sum(1 for total in totals if total >= totals[picked] - _SAME)
        return f"{same} candidates had the same points, {key} one of them: the less busy of two that were drawn was picked"
    return ""


def _by_signal(considered: Considered, points: Sequence[Column], second: int, totals: Sequence[float]) -> list[Flip]:
    flipped = [_less(considered, points, second, totals, signal, step) for signal, step in _STEPS.items()]
    return [each for each in flipped if each is not None]


def _less(
    considered: Considered, points: Sequence[Column], second: int, totals: Sequence[float], signal: str, step: float
) -> Flip | None:
    """How much less of the signal would have been enough; None: no less would, or it was unknown."""
    scorers: list[tuple[SignalScorer, float]] = []
    rest = list(totals)
    for (_, scorer, weight), column in zip(considered.profile.scored, points, strict=True):
        if isinstance(scorer, SignalScorer) and scorer.signal == signal:
            scorers.append((scorer, weight))
            rest = [total - float(each) * weight for total, each in zip(rest, column, strict=True)]
    values = considered.column(signal)
    had = values[second]
    tolerance = _tolerance(considered)
    if not scorers or not 0.0 < had <= _MOST_STEPS:
        return None

    def wins(steps: int) -> bool:
        changed = [*values[:second], max(0.0, had - steps * step), *values[second + 1 :]]
        after = rest
        for scorer, weight in scorers:
            other = scorer.points(columns.like(considered.waiting, changed))
            after = [total + float(more) * weight for total, more in zip(after, other, strict=True)]
        return _is_best(after, second, tolerance)

    least = _least(wins, ceil(had / step - _SAME))
    return Flip(signal, True, had, max(0.0, had - least * step)) if least else None


def _least(wins: Callable[[int], bool], most: int) -> int:
    """The fewest steps that win, 0 for none. Less load is never worth less, so the search halves; what it gives was tried."""
    if not wins(most):
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if wins(middle):
            high = middle
        else:
            low = middle
    return high


def _by_points(considered: Considered, points: Sequence[Column], second: int, totals: Sequence[float]) -> list[Flip]:
    found = []
    short = max(total for at, total in enumerate(totals) if at != second) - totals[second] + _tolerance(considered)
    for at, (name, scorer, weight) in enumerate(considered.profile.scored):
        if isinstance(scorer, SignalScorer) or not weight > 0:
            continue
        had = float(points[at][second])
        needed = ceil((had + short / weight) / _HUNDREDTH + _SAME) * _HUNDREDTH
        if needed - had <= short / weight + _SAME:
            needed += _HUNDREDTH  # exactly as many is a draw
        if needed <= 1.0 + _SAME:
            found.append(Flip(name, False, had, round(needed, 2)))
    return found


def _may_see(considered: Considered) -> tuple[str, ...]:
    """Scorers of which we do not know that they look at no signal."""
    blind = (SignalScorer, PrefixScorer, LoraScorer, Pinned)
    return tuple([name for name, scorer, weight in considered.profile.scored if weight and not isinstance(scorer, blind)])


def _by_prefix(considered: Considered) -> frozenset[str]:
    """Scorers whose points are the share of the prompt that an endpoint has."""
    scored = considered.profile.scored
    return frozenset([name for name, scorer, _ in scored if isinstance(scorer, PrefixScorer) and scorer.is_share])


def _tolerance(considered: Considered) -> float:
    """By how many points the best has to be ahead for nobody else to have a turn."""
    picker = considered.profile.picker
    return picker.tolerance if isinstance(picker, MaxScorePicker) else 0.0


def _is_best(totals: Sequence[float], position: int, tolerance: float) -> bool:
    mine = totals[position]
    return all(mine > total + tolerance + _SAME for at, total in enumerate(totals) if at != position)


def _words(name: str, behind: float, changes: Sequence[Flip], unless: Sequence[str], by_prefix: frozenset[str]) -> str:
    if not changes:
        return f"{name} was {behind:.2f} points behind: no change of one thing alone would have had it picked"
    ways = ", or ".join([_way(each, by_prefix) for each in changes])
    condition = f"; if {' and '.join(unless)} had judged as before" if unless else ""
    return f"{name} would have won with {ways}{condition}"


def _way(flip: Flip, by_prefix: frozenset[str]) -> str:
    if not flip.is_signal:
        what = "a prefix hit" if flip.what in by_prefix else f"points of {flip.what}"
        return f"{what} ≥ {flip.needed:g} (it had {flip.had:.2g})"
    if flip.what == "kv_usage":
        return f"a KV cache {100 * flip.needed:.0f} % full (it was {100 * flip.had:.0f} %)"
    less = flip.had - flip.needed
    one, more = _OF_SIGNALS[flip.what]
    return f"{less:g} fewer {one if less == 1 else more} (it had {flip.had:g})"
