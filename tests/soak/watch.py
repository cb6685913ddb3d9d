"""The server under the soak as the kernel and its own metrics show it, and how its memory goes."""

from __future__ import annotations

import itertools
import math
import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.e2e.parts import call

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20

MAX_SLOPE_MB_PER_HOUR: Final = 12.0
MIN_GROWTH_MB: Final = 2.0
"""Less is what an allocator does by itself."""
WARM_UP_SHARE: Final = 0.2
WARM_UP_S: Final = 60.0
_PARTS: Final = 10
_T: Final = 2.306
"""Student's t for 95 % and `_PARTS` - 2 degrees of freedom."""

Verdict = Literal["flat", "grows", "too short to tell"]


class Sample(NamedTuple):
    """The process at one time."""

    at_s: float
    rss_mb: float
    cpu_s: float
    files: int


def sample(pid: int, at_s: float) -> Sample:
    """Look at a process."""
    here = Path(f"/proc/{pid}")
    fields = (here / "stat").read_text().rpartition(")")[2].split()
    resident_pages = int((here / "statm").read_text().split()[1])
    return Sample(at_s, resident_pages * _PAGE_MB, (int(fields[11]) + int(fields[12])) * _TICK_S, len(os.listdir(here / "fd")))


class Page(NamedTuple):
    """What the server says of itself."""

    streams: int
    connections: int
    accepted: int
    collections: tuple[int, ...]
    """Of Python's garbage collector, by generation."""


def page(url: str) -> Page:
    """Read /metrics."""
    text = call(url, "/metrics").body.decode()

    def value(name: str) -> int:
        match = re.search(rf"^{name} (\S+)$", text, re.M)
        return int(float(match[1])) if match else 0

    collections = re.findall(r'^python_gc_collections_total{generation="\d"} (\S+)$', text, re.M)
    return Page(
        value("extproc_streams_inflight"),
        value("extproc_connections"),
        value("extproc_connections_total"),
        tuple(int(float(each)) for each in collections),
    )


def floors(samples: Sequence[Sample], window_s: float = 10.0) -> list[Sample]:
    """The sample with the least memory of each window: what stays when the large bodies of the moment are gone."""
    found: dict[int, Sample] = {}
    for each in samples:
        window = int(each.at_s // window_s)
        if window not in found or each.rss_mb < found[window].rss_mb:
            found[window] = each
    return list(found.values())


class Growth(NamedTuple):
    """How the memory went after its beginning. Slopes are in MB per hour."""

    slope: float
    low: float
    """Of the slope's confidence interval (95 %)."""
    high: float
    late: float
    """The slope of the second half."""
    grown_mb: float
    """By the slope, over the time that was looked at."""
    window_s: float

    @property
    def verdict(self) -> Verdict:
        """`grows` when more than `MAX_SLOPE_MB_PER_HOUR` is sure, and it goes on; `flat` when less is sure."""
        if self.high <= MAX_SLOPE_MB_PER_HOUR:
            return "flat"
        goes_on = self.late > MAX_SLOPE_MB_PER_HOUR / 2  # one step up, as of an allocator, does not
        if self.low > MAX_SLOPE_MB_PER_HOUR and self.grown_mb > MIN_GROWTH_MB and goes_on:
            return "grows"
        return "too short to tell"

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"nothing is known of {self.window_s / 60:.1f} min after the warm-up"
        return (
            f"{self.slope:+.1f} MB per hour, by 95 % between {self.low:+.1f} and {self.high:+.1f} "
            f"({self.grown_mb:+.1f} MB in {self.window_s / 60:.1f} min; bound {MAX_SLOPE_MB_PER_HOUR:g})"
        )


def growth(samples: Sequence[Sample]) -> Growth:
    """Of the `floors` after the first fifth of the time, and after the first minute, in which caches fill.

    Neighbouring floors are alike, so that a line through all of them would seem surer than it is. It goes through the means
    of ten equal parts. Of less than five minutes nothing is said but that it may be anything.
    """
    begin_s = max(WARM_UP_S, samples[-1].at_s * WARM_UP_SHARE)
    last = floors([each for each in samples if each.at_s >= begin_s])
    window_s = max(0.0, samples[-1].at_s - begin_s)
    if len(last) < 2 * _PARTS:
        return Growth(0.0, -math.inf, math.inf, 0.0, 0.0, window_s)
    edges = [len(last) * part // _PARTS for part in range(_PARTS + 1)]
    parts = [last[start:end] for start, end in itertools.pairwise(edges)]
    at_h = [statistics.fmean(each.at_s for each in part) / 3600 for part in parts]
    rss_mb = [statistics.fmean(each.rss_mb for each in part) for part in parts]
    slope, intercept = statistics.linear_regression(at_h, rss_mb)
    late, _ = statistics.linear_regression(at_h[_PARTS // 2 :], rss_mb[_PARTS // 2 :])
    left = sum((mb - intercept - slope * h) ** 2 for h, mb in zip(at_h, rss_mb, strict=True)) / (_PARTS - 2)
    mean_h = statistics.fmean(at_h)
    wide = _T * math.sqrt(left / sum((h - mean_h) ** 2 for h in at_h))
    return Growth(slope, slope - wide, slope + wide, late, slope * window_s / 3600, window_s)
