"""`extproc top` on a terminal: a picture that fits it, drawn anew when there is something new, a key, or another size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from extproc.cli.top.keys import BACK, ENTER, ESCAPE, Keys
from extproc.cli.top.page import Seen
from extproc.cli.top.readings import Now, now
from extproc.cli.top.shown import ENDPOINTS, ENTITIES, ORDERS, POOLS, ROLLOUTS, Choice, Table, chosen, head, left_out, tables

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_TICK_S: Final = 0.2
_HELP: Final = "q quit   s sort   / filter"
_FIRST: Final = (POOLS, ENDPOINTS, ENTITIES, ROLLOUTS)
"""Which stay where not all have room."""
_LEAST: Final = 2
"""Lines of a table below its headings: a row, and that there are more."""
_HEADINGS: Final = 2
"""Lines of a table beside its rows: an empty one before it, and its headings."""


class Screen:
    """What is shown, and what keys change of it."""

    def __init__(self, choice: Choice, url: str) -> None:
        self.choice = choice
        self.over = False
        self._url = url
        self._typing = False
        self._seen: Seen = Seen()
        self._now: Now | None = None
        self._since_s = time.monotonic()
        """Of the last page that came."""

    def press(self, key: str) -> bool:
        """Whether that was a key of ours."""
        if self._typing:
            self._type(key)
        elif key == "q":
            self.over = True
        elif key == "s":
            names = [*ORDERS]
            self.choice = self.choice._replace(order=names[(names.index(self.choice.order) + 1) % len(names)])
        elif key == "/":
            self._typing = True
            self.choice = self.choice._replace(text="")
        else:
            return False
        return True

    def _type(self, key: str) -> None:
        text = self.choice.text
        if key in ENTER:
            self._typing = False
        elif key == ESCAPE:
            self._typing, text = False, ""
        elif key in BACK:
            text = text[:-1]
        elif key.isprintable():
            text += key
        self.choice = self.choice._replace(text=text)

    def see(self, seen: Seen) -> bool:
        """Whether that is new."""
        if seen.number == self._seen.number:
            return False
        if seen.latest is not None and not seen.problem:
            self._since_s = seen.latest.at_s
            self._now = now(seen.latest, seen.before)
        self._seen = seen
        return True

    def picture(self, width: int, height: int) -> RenderableType:
        """For rich, at most so many lines."""
        from rich.console import Group
        from rich.text import Text

        lines: list[RenderableType] = [
            Text.assemble(("extproc top", "bold"), f"  {self._url}", no_wrap=True, overflow="ellipsis")
        ]
        if self._seen.problem:
            lines.append(Text(self._gone(), style="bold red", no_wrap=True, overflow="ellipsis"))
        if self._now is None:
            return Group(*lines, *([] if self._seen.problem else [Text("reading ...")]))
        lines.append(Text(head(self._now.process), no_wrap=True, overflow="ellipsis"))
        lines.append(Text(self._foot(), style="dim", no_wrap=True, overflow="ellipsis"))
        for each in self._fitting(self._now, height - len(lines)):
            lines += ["", *_drawn(each)]
        return Group(*lines)

    def _fitting(self, shown: Now, room: int) -> list[Table]:
        """Tables that have room together: endpoints, which come last, get what the others leave."""
        left, more = chosen(shown, self.choice._replace(rows=self.choice.rows or max(room, 1)))
        lines: dict[str, int] = {}
        whole = tables(left, more)
        for table in sorted(whole, key=lambda table: _FIRST.index(table.title)):
            if (least := _HEADINGS + min(_length(table), _LEAST)) <= room:
                lines[table.title] = least - _HEADINGS
                room -= least
        found = [table for table in whole if table.title in lines]
        for number, table in enumerate(found):
            wanted = max(_length(table) - lines[table.title], 0)
            given = min(wanted, room // (len(found) - number))
            lines[table.title] += given
            room -= given
        return [_cut(table, lines[table.title]) for table in found]

    def _gone(self) -> str:
        age_s = time.monotonic() - self._since_s
        since = "" if self._now is None else f"; this is {age_s:.0f} s old"
        return f"{self._seen.problem}; asked again all the time{since}"

    def _foot(self) -> str:
        text = f"filter: {self.choice.text}_" if self._typing else f"filter: {self.choice.text}" if self.choice.text else ""
        return f"{_HELP}   endpoints by {self.choice.order}   {text}".rstrip()


def _length(table: Table) -> int:
    return len(table.rows) + bool(table.more)


def _cut(table: Table, lines: int) -> Table:
    """So that it takes at most so many lines below its headings."""
    if _length(table) <= lines:
        return table
    kept = lines - 1
    return table._replace(rows=table.rows[:kept], bad=table.bad[:kept], more=table.more + len(table.rows) - kept)


def _drawn(table: Table) -> list[RenderableType]:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(table.headings):
        grid.add_column(heading, no_wrap=True, overflow="ellipsis", justify="left" if number < 3 else "right")
    for row, bad in zip(table.rows, table.bad, strict=True):
        grid.add_row(*[Text(cell) for cell in row], style="red" if bad else "")
    return [grid, *([Text(left_out(table.more), style="dim")] if table.more else [])]


def watch(screen: Screen, look: Callable[[], Seen], keys: Keys, console: Console) -> None:
    """Until somebody presses q. Raises KeyboardInterrupt for Ctrl-C."""
    from rich.live import Live

    with Live("", console=console, screen=True, auto_refresh=False) as live:
        size, drawn_s = None, 0.0
        while not screen.over:
            changed = screen.see(look())
            at_s = time.monotonic()
            if changed or console.size != size or at_s - drawn_s >= 1.0:
                size, drawn_s = console.size, at_s
                live.update(screen.picture(size.width, size.height), refresh=True)
            for key in keys(_TICK_S):
                if screen.press(key):
                    drawn_s = 0.0
