"""What `/metrics` shows."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from extproc.observability.instruments import Instruments


def read_page(instruments: Instruments, prefix: str = "") -> dict[str, float]:
    """The samples whose name begins with the prefix, e.g. `{"bbr_success_total": 1.0, 'hits{code="200"}': 2.0}`."""
    registry = CollectorRegistry()
    registry.register(_Only(instruments, prefix))
    return {
        _line(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


def page_of(instruments: Instruments) -> str:
    """The whole page."""
    registry = CollectorRegistry()
    registry.register(instruments)
    return generate_latest(registry).decode()


class _Only(Collector):
    """The families that may have such samples; a whole page can be long."""

    def __init__(self, instruments: Instruments, prefix: str) -> None:
        self._instruments = instruments
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        for family in self._instruments.collect():
            if family.name.startswith(self._prefix) or self._prefix.startswith(family.name):
                yield family


def counted(instruments: Instruments, prefix: str = "") -> dict[str, float]:
    """As read_page, less what is 0 and what is not counted (sums and buckets)."""
    return {
        name: value
        for name, value in read_page(instruments, prefix).items()
        if value and not name.partition("{")[0].endswith(("_bucket", "_sum", "_info"))
    }


def _line(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}" if labels else name
