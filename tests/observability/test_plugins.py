"""What plugins measure, as it is shown."""

from __future__ import annotations

from extproc.observability.instruments import Instruments
from extproc.observability.plugins import PluginMetrics
from extproc.scheduling.plugins.base import Figure
from tests.fakes.page import counted


def test_figures_by_pool_plugin_and_their_own_labels() -> None:
    instruments = Instruments()
    number = 1.0
    endpoints = ["a", "b"]

    def figures() -> list[tuple[str, Figure]]:
        gauges = [Figure("extproc_held", "Held.", 7, (("endpoint", each),)) for each in endpoints]
        return [("one", figure) for figure in (Figure("extproc_seen_total", "Seen.", number, counts=True), *gauges)]

    metrics = PluginMetrics.of(instruments)
    assert PluginMetrics.of(instruments) is metrics
    metrics.watch("p", figures)
    metrics.watch("q", list)
    assert counted(instruments, "extproc_") == {
        'extproc_seen_total{plugin_name="one",pool="p"}': 1,
        'extproc_held{endpoint="a",plugin_name="one",pool="p"}': 7,
        'extproc_held{endpoint="b",plugin_name="one",pool="p"}': 7,
    }
    number = 3.0
    endpoints.remove("a")
    assert counted(instruments, "extproc_") == {
        'extproc_seen_total{plugin_name="one",pool="p"}': 3,
        'extproc_held{endpoint="b",plugin_name="one",pool="p"}': 7,
    }
