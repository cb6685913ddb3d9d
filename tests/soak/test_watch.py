"""What the soak makes of what it saw."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.soak.traffic import KINDS, Seen, request
from tests.soak.watch import Sample, growth, sample


def series(minutes: float, rss_mb: Callable[[float], float]) -> list[Sample]:
    """A sample each second; `rss_mb` of the hours since the beginning."""
    return [Sample(float(second), rss_mb(second / 3600), 0.0, 0) for second in range(int(minutes * 60))]


def wandering(seed: int, step_mb: float = 0.3, back: float = 0.02) -> Callable[[float], float]:
    """As a process with nothing wrong: large bodies come and go, and what an allocator keeps wanders about."""
    chance, kept = random.Random(seed), 0.0

    def rss_mb(_: float) -> float:
        nonlocal kept
        kept += chance.gauss(0, step_mb) - back * kept
        return 90 + kept + chance.choice((0, 0, 0, 5, 20))

    return rss_mb


def leaking(mb_per_hour: float, seed: int = 1) -> Callable[[float], float]:
    usual = wandering(seed)
    return lambda hours: usual(hours) + mb_per_hour * hours


class TestGrowth:
    def test_in_mb_per_hour(self) -> None:
        seen = growth(series(10, lambda hours: 100 + 60 * hours))
        assert (seen.slope, seen.low, seen.high, seen.late) == pytest.approx((60, 60, 60, 60))
        assert seen.grown_mb == pytest.approx(8, abs=0.1)

    def test_what_fills_at_first_is_not_growth(self) -> None:
        seen = growth(series(20, lambda hours: 50 + min(hours * 3600, 100.0)))
        assert seen.verdict == "flat"
        assert seen.slope == pytest.approx(0, abs=0.01)

    @pytest.mark.parametrize("minutes", [5, 10, 20, 60, 240])
    def test_nothing_wrong(self, minutes: int) -> None:
        """Never a leak, whatever the length; and known to be none when there was time."""
        verdicts = Counter(growth(series(minutes, wandering(seed))).verdict for seed in range(40))
        assert verdicts["grows"] == 0
        if minutes >= 60:
            assert verdicts["flat"] == 40

    @pytest.mark.parametrize(("minutes", "mb_per_hour"), [(20, 72), (60, 30), (240, 20)])
    def test_a_leak(self, minutes: int, mb_per_hour: float) -> None:
        verdicts = Counter(growth(series(minutes, leaking(mb_per_hour, seed))).verdict for seed in range(20))
        assert verdicts["grows"] >= 19
        assert verdicts["flat"] == 0

    def test_a_leak_within_the_bound(self) -> None:
        assert growth(series(240, leaking(4))).verdict == "flat"

    @pytest.mark.parametrize("minutes", [0.1, 1, 3])
    def test_too_short(self, minutes: float) -> None:
        assert growth(series(minutes, leaking(1000))).verdict == "too short to tell"

    def test_up_and_down_in_five_minutes(self) -> None:
        """It ended below where it began, and was said to grow by 17.9 MB per hour once."""
        lows = [94, 91, 90, 90, 91, 93, 95, 92, 93, 92]
        seen = growth(series(5, lambda hours: lows[int(hours * 3600 / 30)]))
        assert seen.verdict == "too short to tell"

    def test_one_step_is_no_leak(self) -> None:
        usual = wandering(3)
        assert growth(series(20, lambda hours: usual(hours) + (12 if hours > 0.18 else 0))).verdict != "grows"


def test_sample() -> None:
    seen = sample(os.getpid(), 1.0)
    assert seen.rss_mb > 10
    assert seen.files >= 3


def test_percentiles() -> None:
    seen = Seen()
    assert seen.percentile_ms(0.5) != seen.percentile_ms(0.5)
    seen.recent_s.extend(number / 1000 for number in range(100))
    assert (seen.percentile_ms(0.5), seen.percentile_ms(0.99)) == pytest.approx((50, 99))


@pytest.mark.parametrize("name", KINDS)
def test_requests_are_what_their_kind_says(name: str) -> None:
    kind = KINDS[name]
    head, body = request(kind, random.Random(1))
    assert f"content-length: {len(body)}\r\n".encode() in head
    assert (b"content-encoding: gzip" in head) is kind.gzip
    if not kind.gzip and kind.model != "":
        assert kind.body_bytes <= len(body) <= kind.body_bytes + 400
