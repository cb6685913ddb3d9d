"""How results are printed: a line each. A row has a bar that it must meet, or is an observation and has none."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One result."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    """The most that the value may be; None for an observation."""
    ratio: float | None = None
    """To the floor of the same run."""
    least: float | None = None
    """A bar that the value has to reach."""

    @property
    def met(self) -> bool:
        """True for observations."""
        return (self.bar is None or self.value <= self.bar) and (self.least is None or self.value >= self.least)

    def __str__(self) -> str:
        bars = "" if self.bar is None else f"  bar {self.bar:g}"
        bars += "" if self.least is None else f"  bar at least {self.least:g}"
        verdict = f"{bars}  {'ok' if self.met else 'MISSED'}" if bars else ""
        ratio = "" if self.ratio is None else f"  {self.ratio:.2f} x floor"
        return f"  {self.name:52s} {self.value:9.4g} {self.unit}{ratio}{verdict}"


def show(title: str, rows: list[Row]) -> None:
    """Print a table."""
    print(f"\n{title}")
    for row in rows:
        print(row, flush=True)


def verdict(rows: list[Row]) -> str:
    """What the bars come to, in a line."""
    missed = [f"{row.name} ({row.value:.4g} {row.unit})" for row in rows if not row.met]
    with_bar = sum(row.bar is not None or row.least is not None for row in rows)
    return f"bars missed: {', '.join(missed)}" if missed else f"all {with_bar} bars are met"
