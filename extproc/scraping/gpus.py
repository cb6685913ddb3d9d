"""A second page of endpoints: what NVIDIA's DCGM exporter says of their GPUs, as attributes beside the engine's own.

    engine's page ─▶ Beside ─▶ store          the load with the attributes, as long as these are not too old
    exporter's page ─▶ Gpus ─▶ Beside.others     no page of it says anything of the engine: the endpoint is neither down nor up

The exporter runs beside the engine, in its pod, or once for each node; then its samples name pods, and those of others don't
count. Of several GPUs the busiest counts, as llm-d router has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from extproc.domain import Endpoint, Load
from extproc.scraping.engines import NOTHING, Missing, Why
from extproc.scraping.exposition import Sample, Scanner
from extproc.scraping.scraper import LoadSink
from extproc.settings.engines import GPU_UTILIZATION

FAMILY: Final = b"DCGM_FI_DEV_GPU_UTIL"
_PERCENT: Final = 100.0
_RANK: Final = re.compile(r"-rank-[0-9]+\Z")
_POD: Final = "pod"


class GpuReader:
    """Reads the exporter's pages for one endpoint."""

    __slots__ = ("_last", "pod")

    def __init__(self, pod: str) -> None:
        """`pod`: whose samples count of those that name one; '' for all."""
        self.pod = pod
        self._last: tuple[Load, tuple[Missing, ...]] = (NOTHING, ())

    @property
    def wants(self) -> str:
        """What it looks for."""
        return f"{FAMILY.decode()} of pod {self.pod}" if self.pod else FAMILY.decode()

    def read(self, page: bytes) -> tuple[Load, tuple[Missing, ...]]:
        """As a scraper's Reader: a load with one attribute, 0 to 1."""
        values = [sample.value for sample in _SCANNER.scan(page)[FAMILY] if self._is_mine(sample)]
        read: tuple[Load, tuple[Missing, ...]] = (NOTHING, ())
        if values:
            if all(0.0 <= value <= _PERCENT for value in values):
                read = (Load(attributes={GPU_UTILIZATION: max(values) / _PERCENT}), ())
            else:
                read = (Load(attributes={}), (Missing(GPU_UTILIZATION, _why(values)),))
        if read != self._last:
            self._last = read
        return self._last

    def _is_mine(self, sample: Sample) -> bool:
        if not self.pod:
            return True
        pod = sample.labels.get(_POD)
        return pod is None or pod == self.pod


class Gpus:
    """The readers of the exporters' pages."""

    def reader(self, endpoint: Endpoint, last: object = None) -> GpuReader:
        """As a scraper's Readers."""
        pod = "" if endpoint.name == endpoint.key else _RANK.sub("", endpoint.name)  # who has no name is called by its key
        return last if isinstance(last, GpuReader) and last.pod == pod else GpuReader(pod)


class _Seen:
    """What is known of one endpoint."""

    __slots__ = ("attributes", "given", "merged", "read_at_s")

    def __init__(self) -> None:
        self.attributes: Mapping[str, float] = {}
        self.read_at_s = float("-inf")
        self.given: Load | None = None
        """The engine's last load, and what it became."""
        self.merged: Load = NOTHING


class Beside:
    """Stands between a pool's pages and its store. `others` is who hears the second pages."""

    def __init__(self, sink: LoadSink, clock: Callable[[], float], *, stale_after_s: float) -> None:
        """Attributes of second pages that are older than `stale_after_s` are unknown."""
        self.others = _Others(self)
        self._sink = sink
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._seen: dict[str, _Seen] = {}

    def __repr__(self) -> str:
        return f"<Beside endpoints={len(self._seen)}>"

    def keep(self, keys: Collection[str]) -> None:
        """Forget all but these endpoints."""
        for key in [key for key in self._seen if key not in keys]:
            del self._seen[key]

    def heard(self, key: str, attributes: Mapping[str, float]) -> None:
        """A second page says this."""
        seen = self._seen.setdefault(key, _Seen())
        if attributes is not seen.attributes:
            seen.attributes, seen.given = attributes, None
        seen.read_at_s = self._clock()

    # -- as the sink of the engines' pages -----------------------------------------------------------------------

    def page_started(self, key: str) -> None:
        self._sink.page_started(key)

    def page_read(self, key: str, load: Load) -> None:
        seen = self._seen.get(key)
        if seen is not None and self._clock() - seen.read_at_s < self._stale_after_s:
            if load is not seen.given:
                seen.given = load
                seen.merged = load._replace(attributes={**(load.attributes or {}), **seen.attributes})
            load = seen.merged
        self._sink.page_read(key, load)

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool) -> None:
        self._sink.page_failed(key, reason, down=down, alive=alive)


class _Others:
    """The sink of second pages."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside

    def page_started(self, key: str) -> None:
        """Of no interest."""

    def page_read(self, key: str, load: Load) -> None:
        self._beside.heard(key, load.attributes or _NONE)

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool) -> None:
        """What it said last becomes too old by itself."""


def _why(values: list[float]) -> Why:
    return Why.UNREADABLE if any(value != value for value in values) else Why.OUT_OF_RANGE


_SCANNER: Final = Scanner([FAMILY])
_NONE: Final[Mapping[str, float]] = {}
