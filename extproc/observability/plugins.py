"""What scheduling plugins count and measure, on `/metrics`: by pool, by plugin, and by what else a figure tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from extproc.observability.instruments import UNBOUNDED, Family, Instruments, Value
from extproc.scheduling.plugins.base import Figure

Figures: TypeAlias = Callable[[], Iterable[tuple[str, Figure]]]


class PluginMetrics:
    """Refreshed when someone looks. A gauge that is not told any more, as its endpoint has left, is gone."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._pools: dict[str, Figures] = {}
        self._families: dict[str, Family[Value]] = {}
        self._shown: set[tuple[str, tuple[str, ...]]] = set()
        instruments.before_collect.append(self._refresh)

    @staticmethod
    def of(instruments: Instruments) -> PluginMetrics:
        """The one of this process."""
        return instruments.once("plugins", lambda: PluginMetrics(instruments))

    def left_out(self, pool: str, kinds: Iterable[str]) -> None:
        """Types that the pool's config names and that are not there, which somebody has allowed."""
        family = self._instruments.once(
            "plugins left out",
            lambda: self._instruments.gauge(
                "extproc_plugins_left_out",
                "1 for each type that a config names and that is not available: --allow-missing-plugins leaves it out.",
                ["pool", "type"],
            ),
        )
        for kind in kinds:
            family.child(pool, kind).value = 1

    def watch(self, pool: str, figures: Figures) -> None:
        """Show what the plugins of this pool tell, each figure with its plugin's name."""
        self._pools[pool] = figures

    def _refresh(self) -> None:
        shown: set[tuple[str, tuple[str, ...]]] = set()
        for pool, figures in self._pools.items():
            for plugin, figure in figures():
                values = (pool, plugin, *[value for _, value in figure.labels])
                self._family(figure).child(*values).value = figure.value
                if not figure.counts:
                    shown.add((figure.name, values))
        for name, values in self._shown - shown:
            self._families[name].remove(*values)
        self._shown = shown

    def _family(self, figure: Figure) -> Family[Value]:
        family = self._families.get(figure.name)
        if family is None:
            labels = ("pool", "plugin_name", *[label for label, _ in figure.labels])
            make = self._instruments.counter if figure.counts else self._instruments.gauge
            family = self._families[figure.name] = make(figure.name, figure.doc, labels, most=UNBOUNDED)
        return family
