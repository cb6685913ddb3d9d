"""How a rollout looks on a terminal: a live picture, or lines when it is none."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_COLOURS: Final = {"Healthy": "green", "Successful": "green", "Degraded": "red", "Failed": "red", "Error": "red"}
_EVENTS: Final = 6
_MISSING: Final = "--watch on a terminal needs rich, and it is not installed: pip install 'extproc[serving]'"


class Show(Protocol):
    """Who is shown a rollout again and again."""

    def see(self, found: Mapping[str, Any]) -> None: ...


def lines(found: Mapping[str, Any]) -> list[str]:
    """All of it."""
    told = [f"{found['endpoint']}: {found['phase']}" + (f", {found['reason']}" if found["reason"] else "")]
    told.append(f"  {found['canary']} against {found['baseline']}, weight {found['weight']} %")
    told += [f"  {mark} {step}" for mark, step in _steps(found)]
    told += [f"  {each['name']}: {each['phase']}, {each['words']}" for each in found["metrics"]]
    return told + [f"  {_clock(each['at_s'])} {each['who']}: {each['words']}" for each in found["events"][-_EVENTS:]]


def _steps(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each with a mark: done, under way, or to come."""
    for number, step in enumerate(found["steps"]):
        now = number == found["step"] and found["phase"] in ("Progressing", "Paused")
        yield ("✔" if number < found["step"] else "▶" if now else "·"), step


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))


class PlainShow:
    """A line for each thing that is new."""

    def __init__(self) -> None:
        self._told = 0
        self._said = ""

    def see(self, found: Mapping[str, Any]) -> None:
        events = found["events"]
        for each in events[self._told :]:
            click.echo(f"{_clock(each['at_s'])} {each['who']}: {each['words']}")
        self._told = len(events)
        said = f"{found['phase']}, weight {found['weight']} %" + (f": {found['reason']}" if found["reason"] else "")
        if said != self._said:
            click.echo(said)
        self._said = said


class LiveShow:
    """One picture that changes."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def see(self, found: Mapping[str, Any]) -> None:
        self._live.update(picture(found), refresh=True)


def picture(found: Mapping[str, Any]) -> RenderableType:
    """For rich."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS.get(found["phase"], "yellow")
    head = Text.assemble((found["endpoint"], "bold"), "  ", (found["phase"], f"bold {colour}"), f"  {found['reason']}")
    bar = Table.grid(padding=(0, 1))
    weight = found["weight"]
    bar.add_row(found["baseline"], ProgressBar(100, 100 - weight, width=40), f"{100 - weight} %")
    bar.add_row(found["canary"], ProgressBar(100, weight, width=40), f"{weight} %")
    steps = Text("   ".join(f"{mark} {step}" for mark, step in _steps(found)))
    metrics = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("metric", "phase", "of", "what it says"):
        metrics.add_column(heading)
    for each in found["metrics"]:
        style = _COLOURS.get(each["phase"], "")
        metrics.add_row(each["name"], Text(each["phase"], style=style), each["of"], Text(each["words"]))
    events = Text("\n".join(f"{_clock(each['at_s'])} {each['who']}: {each['words']}" for each in found["events"][-_EVENTS:]))
    return Group(head, bar, steps, "", metrics, "", events)


@contextlib.contextmanager
def showing(console: Console | None = None) -> Iterator[Show]:
    """The picture on a terminal, else lines. Raises click.ClickException where rich is missing."""
    if console is None and not sys.stdout.isatty():
        yield PlainShow()
        return
    try:
        from rich.live import Live
    except ModuleNotFoundError:
        raise click.ClickException(_MISSING) from None
    with Live("", console=console, auto_refresh=False) as live:
        yield LiveShow(live)
