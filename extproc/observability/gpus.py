"""How reading the pages of DCGM exporters goes."""

from __future__ import annotations

from extproc.observability.instruments import Family, Instruments, Value
from extproc.observability.pools import extract_errors, poll_errors

SOURCE = "dcgm-data-source"
EXTRACTOR = "dcgm-extractor"
_UNREAD = "garbage"


class GpuPageMetrics:
    """Of one pool."""

    def __init__(self, instruments: Instruments, pool: str) -> None:
        self._pool = pool
        reads, self._failures = instruments.once("gpu pages", lambda: _families(instruments))
        self.read = reads.child(pool)
        self._polls = poll_errors(instruments).child(SOURCE)
        self._extracts = extract_errors(instruments).child(SOURCE, EXTRACTOR)

    def failed(self, reason: str) -> None:
        """There was no page, or nothing of the endpoint's on it."""
        self._failures.child(self._pool, reason).value += 1
        (self._extracts if reason == _UNREAD else self._polls).value += 1


def _families(instruments: Instruments) -> tuple[Family[Value], Family[Value]]:
    return (
        instruments.counter(
            "extproc_gpu_scrapes_total", "Pages of DCGM exporters that were read, one for each endpoint.", ["name"]
        ),
        instruments.counter(
            "extproc_gpu_scrape_errors_total", "Pages of DCGM exporters that could not be had, by reason.", ["name", "reason"]
        ),
    )
