"""Tables that are replaced while we run, as far as people see them: how often, and how long ago."""

from __future__ import annotations

from typing import TypeVar

from extproc.live import LiveWriter
from extproc.observability.instruments import Instruments

T = TypeVar("T")


class TableMetrics:
    """`extproc_table_*`, refreshed when someone looks."""

    def __init__(self, instruments: Instruments) -> None:
        self._revision = instruments.gauge(
            "extproc_table_revision",
            "How often a table was replaced since the start: adapters, rewrites, objectives.",
            ["table"],
        )
        self._age = instruments.gauge(
            "extproc_table_age_seconds", "Since a table was replaced last; not there for one that never was.", ["table"]
        )
        self._instruments = instruments

    @classmethod
    def of(cls, instruments: Instruments) -> TableMetrics:
        """The one set of these gauges."""
        return instruments.once("tables", lambda: cls(instruments))

    def watch(self, table: LiveWriter[T]) -> LiveWriter[T]:
        """Show this table; returns it."""
        name = table.live.name
        revision = self._revision.child(name)

        def refresh() -> None:
            revision.value = float(table.live.revision)
            age_s = table.age_s()
            if age_s is not None:
                self._age.child(name).value = age_s

        self._instruments.before_collect.append(refresh)
        return table
