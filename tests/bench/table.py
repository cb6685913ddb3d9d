"""How results are printed: a line each, with the figure, what it is compared with, and the budget."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One result."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    ratio: float | None = None
    """To the floor of the same run."""
    least: float | None = None
    """A budget that the value has to reach."""

    @property
    def within(self) -> bool:
        return (self.budget is None or self.value <= self.budget) and (self.least is None or self.value >= self.least)


def show(title: str, rows: list[Row]) -> None:
    """Print a table."""
    print(f"\n{title}")
    for row in rows:
        bound = "" if row.budget is None else f"  budget {row.budget:g} {row.unit}"
        bound += "" if row.least is None else f"  at least {row.least:g} {row.unit}"
        budget = f"{bound}  {'ok' if row.within else 'OVER'}" if bound else ""
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f} x floor"
        print(f"  {row.name:44s} {row.value:9.4g} {row.unit}{ratio}{budget}", flush=True)
