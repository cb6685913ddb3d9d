"""What is shown of pools: their endpoints' signals, and how reading their pages goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from extproc.domain import SIGNALS, Load, Signal, Source
from extproc.observability.instruments import UNBOUNDED, Family, Histogram, Instruments, Value
from extproc.observability.metrics import DECISION_SECONDS

_UNREAD: Final = "garbage"
"""The reason of a page that came and was not understood; the others are of pages that did not come."""

_AT_ONCE: Final = 100
"""Endpoints whose gauges are set in one step."""


class PoolMetrics:
    """`inference_pool_*`, refreshed when someone looks."""

    def __init__(self, instruments: Instruments) -> None:
        name = ["name"]
        self._ready = instruments.gauge("inference_pool_ready_pods", "Endpoints with fresh metrics.", name)
        mean = "On average over endpoints with fresh metrics. "
        spread = "Standard deviation over endpoints with fresh metrics, of a sample; to two decimals. "
        self._means = [(s, instruments.gauge(s.mean, mean + s.doc, name)) for s in SIGNALS if s.mean]
        self._spreads = [(s, instruments.gauge(s.spread, spread + s.doc, name)) for s in SIGNALS if s.spread]
        self._summarized = [s for s in SIGNALS if s.mean or s.spread]
        per_pod = ["name", "model_server_pod"]
        self._each = [(s, instruments.gauge(s.each, s.doc, per_pod, most=UNBOUNDED)) for s in SIGNALS if s.each]
        self._age = instruments.gauge("extproc_endpoint_metrics_age_seconds", "Age of the last page.", per_pod, most=UNBOUNDED)
        self._up = instruments.gauge(
            "extproc_endpoint_up", "1 while the endpoint can be connected to.", per_pod, most=UNBOUNDED
        )
        self._members = instruments.gauge("extproc_pool_endpoints", "Endpoints of the pool.", name)
        self._stale = instruments.gauge("extproc_pool_stale_endpoints", "Endpoints without fresh metrics.", name)
        self._shown: dict[str, set[str]] = {}
        self._instruments = instruments

    @classmethod
    def of(cls, instruments: Instruments) -> PoolMetrics:
        """The one set of pool gauges of these instruments."""
        return instruments.once("pools", lambda: cls(instruments))

    def watch(self, name: str, describe: Callable[[], Iterable[PoolRow]]) -> None:
        """Show this pool; `describe` gives its endpoints now, and is read a little at a time."""
        self._instruments.before_collect.append(lambda: self._refresh(name, describe()))

    def _refresh(self, name: str, rows: Iterable[PoolRow]) -> Iterator[None]:
        fresh = 0
        known: dict[str, list[float]] = {signal.name: [] for signal in self._summarized}
        shown: set[str] = set()
        members = 0
        for row in rows:
            members += 1
            if members % _AT_ONCE == 0:
                yield
            if row.fresh:
                fresh += 1
                for signal in self._summarized:
                    value = row.known(signal)
                    if value is not None:
                        known[signal.name].append(value)
            shown.add(row.name)
            self._up.child(name, row.name).value = 0.0 if row.down else 1.0
            for signal, family in self._each:
                value = row.known(signal)
                if value is not None:
                    family.child(name, row.name).value = value
                else:
                    family.remove(name, row.name)
            if row.age_s is not None:
                self._age.child(name, row.name).value = row.age_s
        self._members.child(name).value = float(members)
        self._ready.child(name).value = float(fresh)
        self._stale.child(name).value = float(members - fresh)
        for signal, family in self._means:
            family.child(name).value = _mean(known[signal.name])
        for signal, family in self._spreads:
            family.child(name).value = _spread(known[signal.name])
        gone = self._shown.get(name, set()) - shown
        self._shown[name] = shown
        for number, old in enumerate(gone):
            if number % _AT_ONCE == 0:
                yield
            for family in (self._up, self._age, *[family for _, family in self._each]):
                family.remove(name, old)


class PoolRow:
    """What the pool's gauges need of one endpoint; None is unknown."""

    __slots__ = ("age_s", "down", "fresh", "in_flight", "load", "name")

    def __init__(self, name: str, *, load: Load, in_flight: int, age_s: float | None, fresh: bool, down: bool) -> None:
        self.name = name
        self.load = load
        self.in_flight = in_flight
        self.age_s = age_s
        self.fresh = fresh
        self.down = down

    def known(self, signal: Signal) -> float | None:
        """The signal's value, None when it is unknown now."""
        if signal.source is Source.PAGE and not self.fresh:
            return None
        value = signal.of(self.load, self)
        return float(value) if isinstance(value, int | float) else None


def _mean(known: list[float]) -> float:
    return sum(known) / len(known) if known else float("nan")


def _spread(known: list[float]) -> float:
    """As upstream counts it: 0 for fewer than two."""
    if len(known) < 2:
        return 0.0
    mean = sum(known) / len(known)
    return round(math.sqrt(sum([(value - mean) ** 2 for value in known]) / (len(known) - 1)), 2)


class ScrapeMetrics:
    """How reading one pool's pages goes."""

    def __init__(self, instruments: Instruments, pool: str) -> None:
        self._pool = pool
        families = instruments.once("scrapes", lambda: _scrape_families(instruments))
        reads, durations, self._failures, self._missing, self._polls, self._extracts = families
        self.read = reads.child(pool)
        self.duration = durations.child(pool)

    def failed(self, reason: str) -> None:
        self._failures.child(self._pool, reason).value += 1
        (self._extracts if reason == _UNREAD else self._polls).value += 1

    def missing(self, signal: str, why: str) -> None:
        self._missing.child(self._pool, signal, why).value += 1


def poll_errors(instruments: Instruments) -> Family[Value]:
    """Pages that could not be had, by the type of their source."""
    what = "Pages of endpoints' metrics that could not be had."
    name = "llm_d_epp_datalayer_poll_errors_total"
    return instruments.once(name, lambda: instruments.counter(name, what, ["source_type"]))


def extract_errors(instruments: Instruments) -> Family[Value]:
    """Pages with nothing on them, by the types of their source and of who reads them."""
    what = "Pages of endpoints' metrics with nothing on them that they should have."
    name = "llm_d_epp_datalayer_extract_errors_total"
    return instruments.once(name, lambda: instruments.counter(name, what, ["source_type", "extractor_type"]))


def _scrape_families(
    instruments: Instruments,
) -> tuple[Family[Value], Family[Histogram], Family[Value], Family[Value], Value, Value]:
    return (
        instruments.counter("extproc_scrapes_total", "Pages of endpoints' metrics that were read.", ["name"]),
        instruments.histogram(
            "extproc_scrape_duration_seconds", "From asking for a page to having read it.", DECISION_SECONDS, ["name"]
        ),
        instruments.counter("extproc_scrape_errors_total", "Pages that could not be had, by reason.", ["name", "reason"]),
        instruments.counter(
            "extproc_scrape_signals_missing_total",
            "Signals that a page did not give, or gave wrong.",
            ["name", "signal", "why"],
        ),
        poll_errors(instruments).child("metrics-data-source"),
        extract_errors(instruments).child("metrics-data-source", "core-metrics-extractor"),
    )
