"""Simulated rollouts: how often a regression is caught, how soon, and how often a good canary is rolled back.

    python -m tests.rollouts.truth [ROLLOUTS]      the table of docs/rollouts.md; 1,000 rollouts a row, seeded

Each rollout is judged as a gateway does it: both usual metrics, `ttft` and `error-rate`, share an alpha of 5 %, and are looked
at each time that 50 requests have come. A canary's requests are drawn one by one at its share.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from multiprocessing import Pool
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extproc.rollouts.judge import FAILED, Look, Progress, begun, measured
from extproc.rollouts.plan import Plan, read_plan
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times

Floats = NDArray[np.float64]

REQUESTS: Final = 20_000
"""Of both arms, after which a rollout is over."""
BETWEEN: Final = 50
"""Requests between two looks."""


class Requests(NamedTuple):
    """One rollout's, in order."""

    log_s: Floats
    """Natural logarithm of the seconds to the first token, had the baseline served it."""
    cell: NDArray[np.int64]
    """Of what it has in common with others: 1 when its prompt was cached."""


def lognormal(rng: np.random.Generator) -> Requests:
    return Requests(rng.normal(-1.2, 0.6, REQUESTS), np.zeros(REQUESTS, np.int64))


def bimodal(rng: np.random.Generator) -> Requests:
    """Half of the prompts are cached and answered eight times sooner."""
    cached = rng.random(REQUESTS) < 0.5
    return Requests(
        np.where(cached, rng.normal(-2.5, 0.35, REQUESTS), rng.normal(-0.4, 0.6, REQUESTS)), cached.astype(np.int64)
    )


def bimodal_unknown(rng: np.random.Generator) -> Requests:
    """The same, and nobody knows which were cached."""
    drawn = bimodal(rng)
    return drawn._replace(cell=np.zeros(REQUESTS, np.int64))


def drifting(rng: np.random.Generator) -> Requests:
    """Load comes and goes by a factor of three, and all gets slower on top of it."""
    turn = np.arange(REQUESTS) / REQUESTS
    level = 0.55 * np.sin(2 * math.pi * (6 * turn + rng.random())) + 1.5 * turn
    return Requests(rng.normal(-1.2, 0.6, REQUESTS) + level, np.zeros(REQUESTS, np.int64))


KINDS: Final[dict[str, Callable[[np.random.Generator], Requests]]] = {
    "lognormal": lognormal,
    "bimodal": bimodal,
    "bimodal, hits not known": bimodal_unknown,
    "drifting": drifting,
}


class Case(NamedTuple):
    """A row of the table."""

    kind: str
    slower: float = 0.0
    """0.2: the canary takes 20 % longer."""
    errors: float = 0.01
    """The canary's error rate; the baseline's is 1 %."""
    share: float = 0.5
    """The canary's."""
    later: float | None = None
    """Its share from the middle on, if that is another."""


class Found(NamedTuple):
    """What became of a rollout."""

    by: str
    """The metric that rolled it back; '' when it went on to its end."""
    requests: int
    """Of both arms until then."""
    canary: int


PLAN: Final[Plan] = read_plan({"baseline": "current", "canary": "challenger", "steps": [{"setWeight": 50}], "noveltyPeriod": 0})


def judged(case: Case, seed: int) -> Found:
    """One rollout, looked at until it is rolled back or over."""
    rng = np.random.default_rng([seed, *case.kind.encode(), int(1000 * case.slower), int(1000 * case.errors)])
    drawn = KINDS[case.kind](rng)
    shares = np.full(REQUESTS, case.share)
    if case.later is not None:
        shares[REQUESTS // 2 :] = case.later
    to_canary = rng.random(REQUESTS) < shares
    log_s = drawn.log_s + np.where(to_canary, math.log1p(case.slower), 0.0)
    failed = rng.random(REQUESTS) < np.where(to_canary, case.errors, 0.01)
    arms = [ArmSample(), ArmSample()]
    progress: dict[str, Progress] = {name: begun(metric, 0.0, Look(Pair())) for name, metric in PLAN.metrics.items()}
    for number, begin in enumerate(range(0, REQUESTS, BETWEEN)):
        now = slice(begin, begin + BETWEEN)
        for place, mine in enumerate((to_canary[now], ~to_canary[now])):
            arms[place] = _grown(arms[place], log_s[now][mine], drawn.cell[now][mine], failed[now][mine])
        look = Look(Pair(*arms))
        for name, metric in PLAN.metrics.items():
            progress[name] = measured(metric, progress[name], look, number * metric.interval_s, PLAN.share_of_alpha)
            if progress[name].phase == FAILED:
                return Found(name, begin + BETWEEN, arms[0].requests)
    return Found("", REQUESTS, arms[0].requests)


def _grown(arm: ArmSample, log_s: Floats, cell: NDArray[np.int64], failed: NDArray[np.bool_]) -> ArmSample:
    cells = dict(arm.ttft.cells)
    for number in (0, 1):
        values = log_s[cell == number]
        if len(values):
            mean = float(values.mean())
            new = Moments(len(values), mean, float(((values - mean) ** 2).sum()))
            cells[f"{number}|0"] = cells.get(f"{number}|0", Moments()).plus(new)
    return ArmSample(arm.requests + len(log_s), arm.errors + int(failed.sum()), ttft=Times(cells))


class Row(NamedTuple):
    """Many rollouts of a case."""

    case: Case
    rollouts: int
    caught: int
    """By the metric that should: any one, when the canary is as good."""
    median: float
    """Requests of both arms until it was caught, among those that were; 0 when none was."""
    median_canary: float


def row(case: Case, rollouts: int, pool: Callable[..., list[Found]] | None = None) -> Row:
    """The seeds are 0, 1, 2 ..., so a row is the same each time."""
    each = [(case, seed) for seed in range(rollouts)]
    found = [judged(*one) for one in each] if pool is None else pool(judged, each)
    wanted = {"ttft"} if case.slower > 0 else {"error-rate"} if case.errors > 0.01 else {"ttft", "error-rate"}
    caught = [one for one in found if one.by in wanted]
    return Row(
        case,
        rollouts,
        len(caught),
        float(np.median([one.requests for one in caught])) if caught else 0.0,
        float(np.median([one.canary for one in caught])) if caught else 0.0,
    )


CASES: Final = (
    *(Case(kind, slower=0.2) for kind in KINDS),
    *(Case(kind, slower=0.2, share=0.1) for kind in KINDS),
    *(Case(kind, errors=0.03) for kind in ("lognormal", "drifting")),
    Case("lognormal", errors=0.03, share=0.1),
    *(Case(kind) for kind in KINDS),
    *(Case(kind, share=0.1) for kind in KINDS),
    Case("drifting", share=0.1, later=0.5),
)


def worded(row: Row) -> str:
    """A line of the table."""
    case = row.case
    what = f"{100 * case.slower:.0f} % slower" if case.slower else "2 points more errors" if case.errors > 0.01 else "as good"
    share = f"{100 * case.share:.0f} %" + ("" if case.later is None else f", then {100 * case.later:.0f} %")
    when = f"{row.median:,.0f} | {row.median_canary:,.0f}" if row.caught and what != "as good" else "– | –"
    return f"| {what} | {case.kind} | {share} | {100 * row.caught / row.rollouts:.1f} % | {when} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Simulated rollouts: what is caught, how soon, and what is rolled back wrongly"
    )
    parser.add_argument("rollouts", nargs="?", type=int, default=1000, help="of each row")
    rollouts: int = parser.parse_args().rollouts
    print(f"{rollouts:,} rollouts a row, {REQUESTS:,} requests each, a look every {BETWEEN}\n")
    print("| the canary is | times | its share | rolled back | after requests (median) | of the canary |")
    print("|---|---|---|---|---|---|")
    with Pool() as pool:
        for case in CASES:
            print(worded(row(case, rollouts, pool.starmap)), flush=True)


if __name__ == "__main__":
    main()
