"""What a metric says of a canary now, in words; and how its measurements add up, by Argo's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from extproc.rollouts.course import Course
from extproc.rollouts.plan import Comparison, Metric
from extproc.rollouts.samples import ArmSample, Moments, Pair
from extproc.rollouts.statistics import Bounds, ErrorEvidence, TimeEvidence

SUCCESSFUL: Final = "Successful"
FAILED: Final = "Failed"
INCONCLUSIVE: Final = "Inconclusive"
ERROR: Final = "Error"
PENDING: Final = "Pending"
"""Nothing can be said yet; it counts for no limit."""

EFFECT: Final = 0.15
"""The difference of logarithms that the test of times finds soonest: between 10 and 20 % slower."""
_TIME_BLOCK: Final = 20
"""Requests of each arm that make a block of times: enough to know their spread."""
_ERROR_BLOCK: Final = 5
_APART: Final = 0.1
"""Hit fractions further apart than this, and by a quarter of their spread, are not alike."""
_MOST_LOG: Final = 50.0
_WORDS: Final = {"ttft": "to the first token", "tpot": "for each token", "e2e": "to the end"}


class Look(NamedTuple):
    """What is known at one moment."""

    totals: Pair
    """Since the process began to count; a number that falls says that it began anew."""
    windows: Mapping[float, Pair] = {}
    """Of the last so many seconds."""


class Mark(NamedTuple):
    """How far totals have been taken into evidence."""

    requests: int = 0
    errors: int = 0
    cells: Mapping[str, Moments] = {}


class Progress(NamedTuple):
    """One metric so far. All that is known of it, to be kept."""

    since_s: float
    """When it was asked first."""
    next_s: float
    measured: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors: int = 0
    """In a row."""
    phase: str = ""
    """'' while it goes on."""
    last: str = ""
    """Phase of the last measurement."""
    words: str = "not measured yet"
    times: TimeEvidence = TimeEvidence()
    rates: ErrorEvidence = ErrorEvidence()
    canary: Mark = Mark()
    baseline: Mark = Mark()
    course: Course = Course()
    """What was known at each look, to be looked at; it decides nothing."""


class Measurement(NamedTuple):
    """One look of one metric."""

    phase: str
    words: str
    settled: bool = False
    """Successful, and looking on would change nothing."""


def begun(metric: Metric, now_s: float, look: Look) -> Progress:
    """What came before does not count."""
    progress = Progress(now_s, now_s + metric.initial_delay_s)
    return progress if metric.compare is None else _marked(progress, metric.compare, look)


def recounted(metric: Metric, progress: Progress, look: Look) -> Progress:
    """Whoever counted until now is gone: another counts from here. What was counted stays."""
    return progress if metric.compare is None else _marked(progress, metric.compare, look)


def measured(metric: Metric, progress: Progress, look: Look, now_s: float, alpha: float, *, novel: bool = False) -> Progress:
    """With what is seen now, if it is time. `novel`: the canary's times do not count yet."""
    if progress.phase in (SUCCESSFUL, FAILED, ERROR) or now_s < progress.next_s:
        return progress
    if metric.compare is None:
        measurement = _by_conditions(metric, look.windows.get(metric.window_s, Pair()))
    elif novel and metric.compare.measure != "error_rate":
        progress = _marked(progress, metric.compare, look)
        measurement = Measurement(PENDING, "the canary is new, its times do not count yet")
    else:
        before = progress
        progress, measurement = _compared(metric.compare, progress, look.totals, alpha)
        progress = progress._replace(course=_course(metric, before, progress, now_s, alpha))
    return _counted(metric, progress._replace(next_s=now_s + metric.interval_s), measurement)


def _counted(metric: Metric, progress: Progress, measurement: Measurement) -> Progress:
    phase, words, settled = measurement
    progress = progress._replace(last=phase, words=words)
    if phase == PENDING:
        return progress
    progress = progress._replace(
        measured=progress.measured + 1,
        failed=progress.failed + (phase == FAILED),
        inconclusive=progress.inconclusive + (phase == INCONCLUSIVE),
        errors=progress.errors + 1 if phase == ERROR else 0,
    )
    if progress.failed > metric.failure_limit or (phase == FAILED and metric.compare is not None):
        return progress._replace(phase=FAILED)
    if progress.inconclusive > metric.inconclusive_limit:
        return progress._replace(phase=INCONCLUSIVE)
    if progress.errors > metric.error_limit:
        return progress._replace(phase=ERROR)
    if settled or (metric.measurements and progress.measured >= metric.measurements):
        return progress._replace(phase=SUCCESSFUL)
    return progress


def difference(metric: Metric, progress: Progress, alpha: float) -> Bounds | None:
    """How much longer the canary takes, by a metric that compares times: 0.1 is a tenth longer. None where nothing is known
    yet, or another thing is compared."""
    compare, times = metric.compare, progress.times
    if compare is None or compare.measure == "error_rate" or min(times.canary, times.baseline) < compare.minimum:
        return None
    bounds = times.bounds(alpha, EFFECT)
    return Bounds(*[math.expm1(min(each, _MOST_LOG)) for each in bounds]) if math.isfinite(bounds.high) else None


def evidence(metric: Metric, progress: Progress, alpha: float) -> float | None:
    """That the canary is worse: the logarithm of the e-value by that of the one which is enough, so from 1 on it has failed.
    None as `difference`, but of error rates too."""
    compare, times, rates = metric.compare, progress.times, progress.rates
    if compare is None or max(min(times.canary, times.baseline), min(rates.canary, rates.baseline)) < compare.minimum:
        return None
    by_rates = compare.measure == "error_rate"
    return (rates.log_e() if by_rates else times.log_e(math.log1p(compare.tolerance), EFFECT)) / -math.log(alpha)


def _by_conditions(metric: Metric, pair: Pair) -> Measurement:
    if not pair.canary.requests and not pair.canary.shadow_pairs:
        return Measurement(PENDING, f"no request of the canary in {metric.window_s:g} s")
    success = None if metric.success is None else metric.success.holds(pair)
    failure = None if metric.failure is None else metric.failure.holds(pair)
    if (metric.success is not None and success is None) or (metric.failure is not None and failure is None):
        if not pair.baseline.requests:
            return Measurement(PENDING, f"no request of the baseline in {metric.window_s:g} s")
        return Measurement(ERROR, "a measure of its condition has no value")
    if failure and metric.failure is not None:
        return Measurement(FAILED, f"{metric.failure.text} holds")
    if success and metric.success is not None:
        return Measurement(SUCCESSFUL, f"{metric.success.text} holds")
    if metric.success is None:
        assert metric.failure is not None
        return Measurement(SUCCESSFUL, f"{metric.failure.text} does not hold")
    if metric.failure is None:
        return Measurement(FAILED, f"{metric.success.text} does not hold")
    return Measurement(INCONCLUSIVE, f"neither {metric.success.text} nor {metric.failure.text} holds")


def _mark(arm: ArmSample, compare: Comparison) -> Mark:
    cells = {} if compare.measure == "error_rate" else alike(arm.times(compare.measure).cells, compare.hold)
    return Mark(arm.requests, arm.errors, cells)


def _marked(progress: Progress, compare: Comparison, look: Look) -> Progress:
    return progress._replace(canary=_mark(look.totals.canary, compare), baseline=_mark(look.totals.baseline, compare))


def alike(cells: Mapping[str, Moments], hold: tuple[str, ...]) -> dict[str, Moments]:
    """Cells are named `hit|queue`; what is not held falls together."""
    found: dict[str, Moments] = {}
    for name, moments in cells.items():
        hit, bar, queue = name.partition("|")
        key = f"{hit if 'hit_fraction' in hold else ''}{bar}{queue if 'queue' in hold else ''}"
        found[key] = found.get(key, Moments()).plus(moments)
    return found


def _new(now: Mark, before: Mark) -> Mark:
    """What came since; all of it, when counting began anew."""
    anew = now.requests < before.requests or any(
        now.cells.get(name, Moments()).n < moments.n for name, moments in before.cells.items()
    )
    if anew:
        return now
    cells = {name: moments.minus(before.cells.get(name, Moments())) for name, moments in now.cells.items()}
    return Mark(now.requests - before.requests, now.errors - before.errors, cells)


def _compared(compare: Comparison, progress: Progress, totals: Pair, alpha: float) -> tuple[Progress, Measurement]:
    now = _mark(totals.canary, compare), _mark(totals.baseline, compare)
    canary, baseline = _new(now[0], progress.canary), _new(now[1], progress.baseline)
    taken = progress._replace(canary=now[0], baseline=now[1])
    if compare.measure == "error_rate":
        if min(canary.requests, baseline.requests) >= _ERROR_BLOCK:
            seen = (canary.requests, canary.errors, baseline.requests, baseline.errors)
            progress = taken._replace(rates=progress.rates.plus(*seen, compare.tolerance, compare.margin))
        return progress, _of_rates(compare, progress.rates, alpha)
    if min(sum(each.n for each in mark.cells.values()) for mark in (canary, baseline)) >= _TIME_BLOCK:
        times = progress.times.plus(canary.cells, baseline.cells)
        if min(times.canary, times.baseline) >= compare.minimum:
            times = times.scaled()
        progress = taken._replace(times=times)
    return progress, _of_times(compare, progress.times, totals, alpha)


def _course(metric: Metric, before: Progress, progress: Progress, now_s: float, alpha: float) -> Course:
    """With this look, if there was something new at it."""
    course, old, new = before.course, before.rates, progress.rates
    if new != old:
        course = course.counted(
            new.canary - old.canary,
            new.canary_errors - old.canary_errors,
            new.baseline - old.baseline,
            new.baseline_errors - old.baseline_errors,
        )
        assert metric.compare is not None, "or there were no rates"
        enough = min(new.canary, new.baseline) >= metric.compare.minimum
        return course.seen(now_s, course.rates.bounds(alpha, new)) if enough else course
    bounds = difference(metric, progress, alpha) if progress.times != before.times else None
    return course if bounds is None else course.seen(now_s, bounds)


def _too_few(compare: Comparison, canary: int, baseline: int) -> Measurement:
    words = f"{canary} requests of the canary and {baseline} of the baseline to compare, {compare.minimum} of each are needed"
    return Measurement(PENDING, words)


def _of_rates(compare: Comparison, rates: ErrorEvidence, alpha: float) -> Measurement:
    if min(rates.canary, rates.baseline) < compare.minimum:
        return _too_few(compare, rates.canary, rates.baseline)
    said = (
        f"{rates.canary_errors} of {rates.canary} requests of the canary failed and {rates.baseline_errors} of {rates.baseline}"
        f" of the baseline ({100 * rates.difference:+.1f} points)"
    )
    evidence = rates.log_e()
    if evidence >= -math.log(alpha):
        return Measurement(FAILED, f"{said}: the canary fails more often, {_sure(evidence, alpha)}")
    if rates.passing >= -math.log(alpha):
        return Measurement(SUCCESSFUL, f"{said}: surely not {100 * compare.margin:g} points worse", True)
    return Measurement(SUCCESSFUL, f"{said}: nothing says that the canary fails more often")


def _of_times(compare: Comparison, times: TimeEvidence, totals: Pair, alpha: float) -> Measurement:
    if min(times.canary, times.baseline) < compare.minimum:
        return _too_few(compare, times.canary, times.baseline)
    tolerance, margin = math.log1p(compare.tolerance), math.log1p(compare.margin)
    estimate, low, high = times.bounds(alpha, EFFECT)
    said = (
        f"the canary takes {_percent(estimate)} {_WORDS[compare.measure]} ({_percent(low)} to {_percent(high)}; "
        f"{times.canary} requests against {times.baseline})"
    )
    evidence = times.log_e(tolerance, EFFECT)
    if evidence >= -math.log(alpha):
        if "hit_fraction" in compare.hold and (apart := _unlike(times, totals)):
            return Measurement(INCONCLUSIVE, f"{said}, but {apart}")
        return Measurement(FAILED, f"{said}: it is slower, {_sure(evidence, alpha)}")
    if high < margin:
        return Measurement(SUCCESSFUL, f"{said}: surely not {100 * compare.margin:g} % slower", True)
    return Measurement(SUCCESSFUL, f"{said}: nothing says that it is slower")


def _unlike(times: TimeEvidence, totals: Pair) -> str:
    """Why the arms can't be compared: requests are not sorted by prefix hits, and one arm has more of them."""
    if any("|" in name for name in times.cells):
        return ""
    canary, baseline = totals.canary.hit_fraction, totals.baseline.hit_fraction
    apart = abs(canary.mean - baseline.mean)
    if min(canary.n, baseline.n) == 0 or apart < max(_APART, 0.25 * math.sqrt((canary.variance + baseline.variance) / 2)):
        return ""
    return f"its prompts were cached to {100 * canary.mean:.0f} % and the baseline's to {100 * baseline.mean:.0f} %"


def _percent(log: float) -> str:
    return f"{100 * math.expm1(min(log, _MOST_LOG)):+.0f} %"


def _sure(log_e: float, alpha: float) -> str:
    evidence = f"{math.exp(log_e):,.0f}" if log_e < 14 else "more than a million"
    return f"evidence {evidence} where {1 / alpha:.0f} is enough"
