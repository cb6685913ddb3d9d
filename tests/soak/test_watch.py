"""What the soak makes of what it saw."""

from __future__ import annotations

import os
import random

import pytest

from tests.soak.traffic import KINDS, Seen, request
from tests.soak.watch import Sample, sample, slope_mb_per_hour


def test_slope() -> None:
    """In MB per hour, and without the beginning, when caches fill."""
    growing = [Sample(float(second), 100 + second / 3600, 0.0, 0) for second in range(600)]
    assert slope_mb_per_hour(growing) == pytest.approx(1.0)
    filling = [Sample(float(second), min(second, 100.0), 0.0, 0) for second in range(600)]
    assert slope_mb_per_hour(filling) == pytest.approx(0.0)
    busy = [each._replace(rss_mb=each.rss_mb + (second * 7919 % 10) ** 2) for second, each in enumerate(growing)]
    assert slope_mb_per_hour(busy) == pytest.approx(1.0, abs=0.1)


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
