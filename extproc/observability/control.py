"""Metrics of desired state: whether its store is there, how far this process is, who changes what."""

from __future__ import annotations

from extproc.observability.instruments import Instruments


class ControlMetrics:
    """`extproc_endpoints_*`."""

    def __init__(self, instruments: Instruments) -> None:
        self.store_up = instruments.gauge(
            "extproc_endpoints_store_up",
            "1 while the store of serving endpoints can be asked; at 0 the last known ones are served and changes get 503.",
        ).child()
        self.number = instruments.gauge(
            "extproc_endpoints_revision", "The number of the last change of serving endpoints that this process serves."
        ).child()
        self.unserved = instruments.gauge(
            "extproc_endpoints_with_problems",
            "Serving endpoints of which a part can't be served: what an entity names is gone.",
        ).child()
        self.changes = instruments.counter(
            "extproc_endpoints_changes_total",
            "Changes of serving endpoints that were asked for here, by kind and outcome.",
            ["kind", "outcome"],
        )
