"""Arms whose requests are drawn, as a gateway would have counted them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from extproc.rollouts.judge import Look
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times


def moments(values: Iterable[float]) -> Moments:
    found = list(values)
    mean = math.fsum(found) / len(found) if found else 0.0
    return Moments(len(found), mean, math.fsum((value - mean) ** 2 for value in found))


def arm(requests: int, errors: int = 0, mean_s: float = 1.0, spread: float = 0.3, cell: str = "") -> ArmSample:
    """Requests whose times to the first token have this geometric mean and just this spread of their logarithm."""
    times = Moments(requests, math.log(mean_s), spread * spread * max(0, requests - 1))
    return ArmSample(requests, errors, ttft=Times({cell: times}, {95: mean_s}))


def look(canary: ArmSample, baseline: ArmSample, windows: Mapping[float, Pair] | None = None) -> Look:
    pair = Pair(canary, baseline)
    return Look(pair, {60.0: pair} if windows is None else windows)
