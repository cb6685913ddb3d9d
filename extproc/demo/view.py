"""How the demo looks: a live table on a terminal, one line a request elsewhere."""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from extproc.demo.parts import Check, Show
from extproc.demo.traffic import Outcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

ADDED: Final = (
    "added ms: how long Envoy held the request's and the response's headers for the gateway, by Envoy's own clock (the "
    "ext_proc latencies of its access log)."
)


class Row(NamedTuple):
    """A request in words."""

    request: str
    model: str
    pool: str
    endpoint: str
    reason: str
    added_ms: str
    result: str


_HEADINGS: Final = Row("request", "model", "pool", "endpoint", "why", "added ms", "result")
_WIDTHS: Final = Row("20", "21", "5", "8", "52", "8", "18")


def row_of(outcome: Outcome) -> Row:
    """The request in words."""
    decision, ask = outcome.decision, outcome.ask
    model = (decision.get("model") or (ask.pool.model if ask.pool else "")).rpartition("/")[2]
    reason = decision.get("reason") or "answered by the gateway"
    added = "" if outcome.held_ms is None else f"{outcome.held_ms:.2f}"
    result = f"FAILED: {outcome.problem}" if outcome.problem else f"{outcome.status}"
    if not outcome.problem and outcome.tokens is not None:
        result += f", {outcome.tokens} tokens"
    if outcome.attempts > 1:
        result += f", attempt {outcome.attempts}"
    return Row(ask.what, model, decision.get("pool", "-"), outcome.endpoint or "-", reason, added, result)


class PlainShow:
    """Lines of text."""

    def __init__(self) -> None:
        self._steps = 0

    def step(self, title: str, *, requests: bool = True) -> None:
        self._steps += 1
        click.echo(f"\n{self._steps}. {title}")
        if requests:
            click.echo("   " + _columns(_HEADINGS))

    def note(self, text: str) -> None:
        click.echo(f"   - {text}")

    def request(self, outcome: Outcome) -> None:
        click.echo("   " + _columns(row_of(outcome)))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        for row in (headings, *rows):
            click.echo("   " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    @contextlib.contextmanager
    def aside(self) -> Iterator[bool]:
        yield False


class LiveShow:
    """A table that grows at its end; what does not fit on the screen is printed above it."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live = console, live
        self._steps = 0
        self._table: Table | None = None

    def step(self, title: str, *, requests: bool = True) -> None:
        self.flush()
        self._steps += 1
        self._console.print(f"\n[bold]{self._steps}. {title}[/]")

    def note(self, text: str) -> None:
        self._console.print(f"   [dim]{text}[/]")

    def request(self, outcome: Outcome) -> None:
        if self._table is None or self._table.row_count >= max(5, self._console.height - 6):
            self.flush()
            self._table = _table()
        self._table.add_row(*row_of(outcome), style="red" if outcome.problem else None)
        self._live.update(self._table, refresh=True)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.flush()
        table = _plain_table()
        for heading in headings:
            table.add_column(heading)
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    @contextlib.contextmanager
    def aside(self) -> Iterator[bool]:
        self.flush()
        self._live.stop()
        try:
            yield True
        finally:
            self._live.start()

    def flush(self) -> None:
        """Print the table for good and begin a new one."""
        if self._table is not None:
            table, self._table = self._table, None
            self._live.update("", refresh=True)
            self._console.print(table)


@contextlib.contextmanager
def showing() -> Iterator[Show]:
    """The live table on a terminal with rich, else plain lines."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield PlainShow()
        return
    if not sys.stdout.isatty():
        yield PlainShow()
        return
    console = Console()
    with Live("", console=console, auto_refresh=False, transient=True) as live:
        show = LiveShow(console, live)
        try:
            yield show
        finally:
            show.flush()


def summary(outcomes: list[Outcome], checks: list[Check]) -> None:
    """Counts, times, and every check."""
    click.echo("\nSummary")
    served = Counter(outcome.endpoint or "the gateway itself" for outcome in outcomes)
    click.echo("   answered by: " + ", ".join(f"{name} {count}" for name, count in sorted(served.items())))
    held = sorted(outcome.held_ms for outcome in outcomes if outcome.held_ms is not None)
    took = [outcome.decision["took_ms"] for outcome in outcomes if outcome.decision]
    if held and took:
        p95 = held[min(len(held) - 1, round(0.95 * len(held)))]
        click.echo(
            f"   added ms: median {statistics.median(held):.2f}, p95 {p95:.2f}; the decision itself: median "
            f"{statistics.median(took):.3f}"
        )
        click.echo(f"   {ADDED}")
    for check in checks:
        click.echo(f"   {'ok    ' if check.holds else 'FAILED'} {check.claim}: {check.detail}")


def _plain_table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _table() -> Table:
    table = _plain_table()
    for heading, width in zip(_HEADINGS, _WIDTHS, strict=True):
        narrow = heading == _HEADINGS.reason  # what gives way when the terminal is small
        table.add_column(heading, min_width=None if narrow else int(width), no_wrap=True, overflow="ellipsis")
    return table


def _columns(row: Row) -> str:
    out = [text.ljust(int(width)) for text, width in zip(row, _WIDTHS, strict=True)]
    return "  ".join(out).rstrip()
