"""The server under the soak as the kernel and its own metrics show it, and how its memory goes."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.e2e.parts import call

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20


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


def slope_mb_per_hour(samples: Sequence[Sample], share: float = 0.8) -> float:
    """How fast the memory grows, by least squares over the `floors` of the last `share` of the time. Needs a minute."""
    last = floors([each for each in samples if each.at_s >= samples[-1].at_s * (1 - share)])
    return statistics.linear_regression([each.at_s for each in last], [each.rss_mb for each in last]).slope * 3600
