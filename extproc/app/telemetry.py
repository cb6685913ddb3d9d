"""A process's metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector

from extproc.app.watching import FileErrors
from extproc.observability.instruments import Instruments
from extproc.observability.labels import MAX_MODELS, ModelNames
from extproc.observability.logs import count_losses
from extproc.observability.metrics import StreamMetrics, TransportMetrics
from extproc.observability.tables import TableMetrics


class Telemetry:
    """What a service counts. Nothing is global, so several services can live in one process."""

    def __init__(self, max_models: int = MAX_MODELS) -> None:
        self.registry = CollectorRegistry()
        """What prometheus-client itself collects."""
        self.instruments = Instruments()
        self.models = self.instruments.once("models", lambda: ModelNames(max_models))
        self.streams = StreamMetrics(self.instruments)
        self.transport = TransportMetrics(self.instruments)
        self.files = FileErrors(self.instruments)
        self.tables = TableMetrics.of(self.instruments)
        count_losses(self.instruments)

    def metrics(self) -> Iterator[Metric | None]:
        """All of them, a little at a time; None is a step on the way."""
        yield from self.instruments.pieces()
        yield from self.registry.collect()

    def process(self) -> None:
        """Also show the process itself; once in a process."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
