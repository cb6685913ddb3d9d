"""Tests that may be looked at after every request without ever being wrong more often than `alpha`.

Both give an e-value: a number whose mean is at most 1, whatever the look, as long as the canary is no worse than tolerated. By
Ville's inequality it reaches 1 / alpha in at most `alpha` of all rollouts that should go on, at any number of looks. What was
seen is added up block by block, each block being what both arms did over the same time, so what changes for both (load, time
of day, the share of traffic) is in no difference.

Times: the mixture sequential probability ratio test of Robbins (1970) as Johari, Pekelis and Walsh use it ("Always valid
inference", Operations Research 70(3), 2022), with the one-sided normal mixture of Howard, Ramdas, McAuliffe and Sekhon
("Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2), 2021) over the logarithm of
seconds. The variance is estimated, so it holds asymptotically, after a minimum of samples (Waudby-Smith, Arbour, Sinha,
Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024).

Errors: the e-variables for two streams of yes and no by Turner, Ly and Grünwald ("Generic E-variables for exact sequential
k-sample tests that allow for optional stopping", JSPI 230, 2024), with a tolerance as in Turner and Grünwald ("Exact
anytime-valid confidence intervals for contingency tables and beyond", Statistics & Probability Letters 198, 2023). They hold
exactly, at any sample size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from extproc.rollouts.samples import Moments

_LEAST_SPREAD: Final = 1e-4
"""Of the logarithm of seconds; below that all requests took the same."""
_FEW: Final = 20
"""Degrees of freedom below which a cell takes the arm's spread for its own."""


class Bounds(NamedTuple):
    """What the canary is worse by: an estimate, and what it is between at 1 - alpha at all looks at once."""

    estimate: float
    low: float
    high: float


class Cell(NamedTuple):
    """What blocks added up to, among requests that are alike."""

    weighted: float = 0.0
    """Sum of weight times difference of means, canary minus baseline."""
    weight: float = 0.0
    """Sum of n m / (n + m), which is what n against m requests weigh."""
    canary_scale: float = 0.0
    """Sum of weight² / n: times the variance of one request it is that of `weighted`."""
    baseline_scale: float = 0.0
    canary_squares: float = 0.0
    """Squared deviations from the mean of the block."""
    canary_freedom: int = 0
    baseline_squares: float = 0.0
    baseline_freedom: int = 0


class TimeEvidence(NamedTuple):
    """About the logarithm of a time. To be kept as it is: it is all that a test knows."""

    cells: Mapping[str, Cell] = {}
    canary: int = 0
    baseline: int = 0
    spread: float = 0.0
    """Standard deviation when the minimum was reached first; it scales the mixture and is not touched again."""

    def plus(self, canary: Mapping[str, Moments], baseline: Mapping[str, Moments]) -> TimeEvidence:
        """With a block more. Cells that only one arm was in say nothing of the other."""
        cells = dict(self.cells)
        both = sorted(name for name in canary.keys() & baseline.keys() if canary[name].n and baseline[name].n)
        for name in both:
            cells[name] = _added(cells.get(name, Cell()), canary[name], baseline[name])
        return self._replace(
            cells=cells,
            canary=self.canary + sum(canary[name].n for name in both),
            baseline=self.baseline + sum(baseline[name].n for name in both),
        )

    def scaled(self) -> TimeEvidence:
        """With its spread settled, if it is not yet."""
        return self if self.spread else self._replace(spread=math.sqrt(self._variance_of_one()))

    def _sums(self) -> tuple[float, float, float]:
        """Weighted differences, their variance, and the weights."""
        canary, baseline = self._pooled()
        total = variance = weight = 0.0
        for cell in self.cells.values():
            total += cell.weighted
            weight += cell.weight
            variance += cell.canary_scale * _variance(cell.canary_squares, cell.canary_freedom, canary)
            variance += cell.baseline_scale * _variance(cell.baseline_squares, cell.baseline_freedom, baseline)
        return total, variance, weight

    def _pooled(self) -> tuple[float, float]:
        cells = self.cells.values()
        canary = sum(cell.canary_squares for cell in cells), sum(cell.canary_freedom for cell in cells)
        baseline = sum(cell.baseline_squares for cell in cells), sum(cell.baseline_freedom for cell in cells)
        both = _variance(canary[0] + baseline[0], canary[1] + baseline[1], 0.0, few=0)
        return _variance(*canary, both), _variance(*baseline, both)

    def _variance_of_one(self) -> float:
        _, variance, weight = self._sums()
        return max(variance / weight if weight else 0.0, _LEAST_SPREAD**2)

    def log_e(self, tolerance: float, effect: float) -> float:
        """Logarithm of the e-value against "the mean is higher by at most `tolerance`". `effect` shows soonest."""
        total, variance, weight = self._sums()
        if not weight or not self.spread:
            return 0.0
        variance = max(variance, weight * _LEAST_SPREAD**2)
        rho = _rho(self.spread, effect)
        score = total - tolerance * weight
        standard = score / math.sqrt(variance + rho)
        return (
            math.log(2)
            + 0.5 * math.log(rho / (variance + rho))
            + 0.5 * standard * standard
            + math.log(max(0.5 * math.erfc(-standard / math.sqrt(2)), 1e-300))
        )

    def bounds(self, alpha: float, effect: float) -> Bounds:
        """Of the difference of means: the two-sided normal mixture of the same width."""
        total, variance, weight = self._sums()
        if not weight or not self.spread:
            return Bounds(0.0, -math.inf, math.inf)
        variance = max(variance, weight * _LEAST_SPREAD**2)
        rho = _rho(self.spread, effect)
        radius = math.sqrt((variance + rho) * math.log((variance + rho) / (rho * alpha * alpha))) / weight
        return Bounds(total / weight, total / weight - radius, total / weight + radius)


def _rho(spread: float, effect: float) -> float:
    """The mixture looks best where a difference of `effect` would be shown: its slope there is effect / spread²."""
    return float((spread * spread / effect) ** 2)


def _variance(squares: float, freedom: int, otherwise: float, few: int = _FEW) -> float:
    return squares / freedom if freedom > few else otherwise


def _added(cell: Cell, canary: Moments, baseline: Moments) -> Cell:
    weight = canary.n * baseline.n / (canary.n + baseline.n)
    return Cell(
        cell.weighted + weight * (canary.mean - baseline.mean),
        cell.weight + weight,
        cell.canary_scale + weight * weight / canary.n,
        cell.baseline_scale + weight * weight / baseline.n,
        cell.canary_squares + canary.m2,
        cell.canary_freedom + canary.n - 1,
        cell.baseline_squares + baseline.m2,
        cell.baseline_freedom + baseline.n - 1,
    )


_RATE_VARIANCE: Final = 0.05 * 0.95
"""Of one request, believed before any was seen: where the mixture of `RateSums` looks best."""
_RATE_EFFECT: Final = 0.02


class RateSums(NamedTuple):
    """Differences of two error rates, block by block, so that what changes for both is in none. For an interval to look at: an
    asymptotic confidence sequence, as that of times. What decides is `ErrorEvidence`, which is exact.
    """

    weighted: float = 0.0
    """Sum of weight times difference of rates, canary minus baseline."""
    weight: float = 0.0
    """Sum of n m / (n + m)."""
    canary_scale: float = 0.0
    """Sum of weight² / n."""
    baseline_scale: float = 0.0

    def plus(self, canary: int, canary_errors: int, baseline: int, baseline_errors: int) -> RateSums:
        """With a block more; both arms have requests."""
        weight = canary * baseline / (canary + baseline)
        return RateSums(
            self.weighted + weight * (canary_errors / canary - baseline_errors / baseline),
            self.weight + weight,
            self.canary_scale + weight * weight / canary,
            self.baseline_scale + weight * weight / baseline,
        )

    def bounds(self, alpha: float, seen: ErrorEvidence) -> Bounds:
        """Of the difference of rates; `seen`: all requests, whose rates say how much one differs from another."""
        if not self.weight:
            return Bounds(0.0, -1.0, 1.0)
        variance = self.canary_scale * _of_one(seen.canary_errors, seen.canary)
        variance += self.baseline_scale * _of_one(seen.baseline_errors, seen.baseline)
        rho = _rho(math.sqrt(_RATE_VARIANCE), _RATE_EFFECT)
        radius = math.sqrt((variance + rho) * math.log((variance + rho) / (rho * alpha * alpha))) / self.weight
        estimate = self.weighted / self.weight
        return Bounds(estimate, max(-1.0, estimate - radius), min(1.0, estimate + radius))


def _of_one(errors: int, requests: int) -> float:
    """The variance of one request's failing, never 0."""
    rate = (errors + 0.5) / (requests + 1.0)
    return rate * (1.0 - rate)


EFFECTS: Final[tuple[tuple[float, float], ...]] = ((0.01, 0.2), (0.02, 0.4), (0.05, 0.25), (0.2, 0.15))
"""How much more the canary may fail, and how much of the bet is on it. Any choice is valid; this one finds 2 points soonest."""
_LEAST_RATE: Final = 1e-4
_GUESS: Final = (1.0, 100.0)
"""Errors and requests that are believed before any were seen."""


class ErrorEvidence(NamedTuple):
    """About two error rates. To be kept as it is."""

    canary: int = 0
    canary_errors: int = 0
    baseline: int = 0
    baseline_errors: int = 0
    logs: tuple[float, ...] = (0.0,) * len(EFFECTS)
    """Of the e-value of each effect against "worse by at most the tolerance"."""
    passing: float = 0.0
    """Of the one against "worse by at least the margin"."""

    def plus(
        self, canary: int, canary_errors: int, baseline: int, baseline_errors: int, tolerance: float, margin: float
    ) -> ErrorEvidence:
        """With a block more. What is bet on it follows from the blocks before alone."""
        seen = (canary, canary_errors, baseline, baseline_errors)
        rate = self._believed()
        logs = tuple(
            log + _log_ratio(seen, rate, min(rate + tolerance + effect, 1 - _LEAST_RATE), tolerance, worse=True)
            for log, (effect, _) in zip(self.logs, EFFECTS, strict=True)
        )
        good = min(rate, 1 - margin - _LEAST_RATE)
        return ErrorEvidence(
            self.canary + canary,
            self.canary_errors + canary_errors,
            self.baseline + baseline,
            self.baseline_errors + baseline_errors,
            logs,
            self.passing + _log_ratio(seen, good, good, margin, worse=False),
        )

    def _believed(self) -> float:
        """The rate that both would have, by all that was seen of the baseline."""
        errors, requests = self.baseline_errors + _GUESS[0], self.baseline + _GUESS[1]
        return min(max(errors / requests, _LEAST_RATE), 0.5)

    def log_e(self) -> float:
        """Logarithm of the mean of the e-values, which is one."""
        most = max(self.logs)
        return most + math.log(sum(part * math.exp(log - most) for log, (_, part) in zip(self.logs, EFFECTS, strict=True)))

    @property
    def difference(self) -> float:
        """Of the rates, canary minus baseline, as seen."""
        return self.canary_errors / max(1, self.canary) - self.baseline_errors / max(1, self.baseline)


def _log_ratio(seen: tuple[int, int, int, int], baseline: float, canary: float, apart: float, *, worse: bool) -> float:
    """Logarithm of the e-variable of a block, for these two rates against all that are at most (`worse`) or at least `apart`.

    The nearest of those, by the expected logarithm, lies where the two rates are `apart`: found by halving, as the slope rises.
    """
    n, errors, m, baseline_errors = seen
    if not n or not m or (canary - baseline > apart) != worse or canary - baseline == apart:
        return 0.0
    low, high = _LEAST_RATE / 10, 1 - apart - _LEAST_RATE / 10
    if high <= low:
        return 0.0

    def slope(rate: float) -> float:
        mine, other = rate, rate + apart
        return m * (mine - baseline) / (mine * (1 - mine)) + n * (other - canary) / (other * (1 - other))

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    nearest = (low + high) / 2
    return _gain(errors, n, canary, nearest + apart) + _gain(baseline_errors, m, baseline, nearest)


def _gain(errors: int, requests: int, rate: float, instead: float) -> float:
    return errors * math.log(rate / instead) + (requests - errors) * math.log((1 - rate) / (1 - instead))
