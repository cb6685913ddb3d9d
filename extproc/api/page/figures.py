"""What changes on open pages by itself, as the texts of their cells: made once, whoever looks.

A hundred pages that show the same endpoints cost as much as one, but for the sending. What nobody looks at is not made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from extproc.api.page import words
from extproc.api.page.kept import BEAT_S
from extproc.api.states import State, States
from extproc.control.desk import Desk
from extproc.control.errors import DoesNotExist
from extproc.control.records import EndpointRecord
from extproc.measures import Measures
from extproc.traffic import TrafficTable

TICK_S: Final = 2.0
RATE_S: Final = 10.0
"""Over which requests a second are counted, so that a moved split is seen to move."""
WINDOW_S: Final = 60.0
"""Of the quantiles; at least."""
_FORGET_S: Final = 60.0
"""After nobody has asked."""
_CELLS: Final = ("part", "rate", "errors", "ttft50", "ttft95", "e2e50", "e2e95")

Cells = Mapping[str, str]
"""Texts by `endpoint/entity/what`; what is of an endpoint as a whole has no entity: `endpoint//what`."""


class _Counted(NamedTuple):
    at_s: float
    requests: Mapping[str, tuple[int, int]]
    """Requests and errors so far, by entity."""


class _Quantiles(NamedTuple):
    requests: int
    until_s: float
    texts: tuple[str, str, str, str]


class _Of:
    """One endpoint, as long as somebody looks."""

    def __init__(self) -> None:
        self.tick = -1
        self.asked_s = 0.0
        self.cells: dict[str, str] = {}
        self.changed: dict[str, str] = {}
        """Since the tick before."""
        self.counted: deque[_Counted] = deque()
        self.quantiles: dict[str, _Quantiles] = {}


class Figures:
    """One per server; one event loop."""

    def __init__(
        self,
        desk: Desk,
        table: Callable[[], TrafficTable],
        ready: Callable[[str], bool],
        measures: Measures | None,
        clock: Callable[[], float],
        held: Callable[[str], Mapping[str, str]] = lambda name: {},
    ) -> None:
        """`clock` is monotonic, in seconds; `held` as `States` has it."""
        self._held = held
        self._desk = desk
        self._table = table
        self._ready = ready
        self._measures = measures
        self._clock = clock
        self._known: dict[str, _Of] = {}
        self.made = 0
        """How often an endpoint's cells were made; for tests and the curious."""

    @property
    def tick(self) -> int:
        """The number of this moment: within one, nothing changes."""
        return int(self._clock() / TICK_S)

    def until_next_s(self) -> float:
        """To the next tick, and a little behind its beginning."""
        return TICK_S - self._clock() % TICK_S + 0.001

    def cells(self, names: Iterable[str]) -> dict[str, str]:
        """Everything, of these endpoints."""
        found: dict[str, str] = {}
        for of in self._all(names):
            found |= of.cells
        return found

    def changed(self, names: Iterable[str], since: int) -> dict[str, str]:
        """What is different from the tick `since`."""
        found: dict[str, str] = {}
        now = self.tick
        for of in self._all(names):
            if since < now:
                found |= of.changed if since == now - 1 else of.cells
        return found

    def of(self, names: Sequence[str]) -> Watched:
        """What a page shows of these endpoints."""
        return Watched(self, names)

    def requests_per_s(self, name: str) -> float | None:
        """Of the whole endpoint; None while nobody knows."""
        for of in self._all([name]):
            rates = self._rates(of)
            return None if rates is None else sum(each[0] for each in rates.values())
        return None

    def _all(self, names: Iterable[str]) -> list[_Of]:
        now_s, tick = self._clock(), self.tick
        states: States | None = None
        found = []
        for name in names:
            of = self._known.get(name)
            if of is None:
                of = self._known[name] = _Of()
            of.asked_s = now_s
            if of.tick != tick:
                if states is None:
                    states = States(self._table(), self._ready, self._held)
                self._make(name, of, states, now_s)
                of.tick = tick
            found.append(of)
        if len(self._known) > len(found):
            for old in [each for each, of in self._known.items() if now_s - of.asked_s > _FORGET_S]:
                del self._known[old]
        return found

    def _make(self, name: str, of: _Of, states: States, now_s: float) -> None:
        self.made += 1
        try:
            record = self._desk.get(name)
        except DoesNotExist:
            cells = {f"{name}//state": "deleted", f"{name}//version": ""}
        else:
            cells = self._cells(record, of, states.of(record), now_s)
        of.changed = {key: text for key, text in cells.items() if of.cells.get(key) != text}
        of.cells = cells

    def _cells(self, record: EndpointRecord, of: _Of, state: State, now_s: float) -> dict[str, str]:
        name = record.name
        self._count(record, of, now_s)
        rates = self._rates(of)
        cells = {f"{name}//state": state_in_words(state), f"{name}//version": str(record.config_version)}
        if self._measures is not None:
            cells[f"{name}//beat"] = str(int(now_s / BEAT_S))
        total = None if rates is None else sum(rate for rate, _ in rates.values())
        wrong = None if rates is None else sum(wrong for _, wrong in rates.values())
        cells[f"{name}//rate"] = words.rate(total)
        cells[f"{name}//errors"] = words.percent(wrong / total if total and wrong is not None else None)
        for each in record.entities:
            entity = str(each["name"])
            own, errors = (None, None) if rates is None else rates.get(entity, (None, None))
            texts = (
                words.percent(own / total if total and own is not None else None),
                words.rate(own),
                words.percent(errors / own if own and errors is not None else None),
                *self._times(name, entity, of, now_s),
            )
            cells |= {f"{name}/{entity}/{what}": text for what, text in zip(_CELLS, texts, strict=True)}
            cells[f"{name}/{entity}/state"] = entity_in_words(*state.entities[entity])
        return cells

    def _count(self, record: EndpointRecord, of: _Of, now_s: float) -> None:
        if self._measures is None:
            return
        counts = {}
        for each in record.entities:
            cell = self._measures.find(record.name, str(each["name"]))
            counts[str(each["name"])] = (0, 0) if cell is None else cell.counts()
        of.counted.append(_Counted(now_s, counts))
        while len(of.counted) > 2 and of.counted[1].at_s <= now_s - RATE_S:
            of.counted.popleft()

    def _rates(self, of: _Of) -> dict[str, tuple[float, float]] | None:
        """Requests and errors a second, by entity; None while nobody knows. Who was not there before counts from nothing."""
        if len(of.counted) < 2:
            return None
        first, last = of.counted[0], of.counted[-1]
        passed_s = last.at_s - first.at_s
        if passed_s <= 0:
            return None
        rates = {}
        for entity, (requests, errors) in last.requests.items():
            before, wrong = first.requests.get(entity, (0, 0))
            # Fewer than before: it went, and one of the same name came.
            rates[entity] = (max(0, requests - before) / passed_s, max(0, errors - wrong) / passed_s)
        return rates

    def _times(self, name: str, entity: str, of: _Of, now_s: float) -> tuple[str, str, str, str]:
        cell = None if self._measures is None else self._measures.find(name, entity)
        if cell is None or self._measures is None:
            return (words.NOTHING,) * 4
        requests = cell.counts()[0]
        known = of.quantiles.get(entity)
        if known is not None and known.requests == requests and now_s < known.until_s:
            return known.texts
        totals = cell.last(min(WINDOW_S, self._measures.window_s))
        ttft50, ttft95 = totals.ttft_s.sketch.quantiles(0.5, 0.95)
        e2e50, e2e95 = totals.e2e_s.sketch.quantiles(0.5, 0.95)
        texts = (words.seconds(ttft50), words.seconds(ttft95), words.seconds(e2e50), words.seconds(e2e95))
        of.quantiles[entity] = _Quantiles(requests, now_s + RATE_S, texts)
        return texts


class Watched:
    """Some endpoints, as a page shows them."""

    def __init__(self, figures: Figures, names: Sequence[str]) -> None:
        self._figures = figures
        self._names = names

    def cells(self) -> Cells:
        """All of theirs."""
        return self._figures.cells(self._names)

    def changed(self, since: int) -> Cells:
        """What is different from the tick `since`."""
        return self._figures.changed(self._names, since)


def state_in_words(state: State) -> str:
    """Of an endpoint."""
    if state.ready:
        return "ready"
    return "broken" if state.problems else "not ready"


_DEPLOYED: Final = {
    "DEPLOYMENT_READY": "ready",
    "DEPLOYMENT_CREATING": "not served yet",
    "DEPLOYMENT_RECOVERING": "not ready",
    "DEPLOYMENT_FAILED": "broken",
}


def entity_in_words(deployment: str, message: str) -> str:
    """Of an entity, with what is the matter."""
    word = _DEPLOYED[deployment]
    return f"{word}: {message}" if message else word
