"""Counters, gauges and histograms without locks, read by prometheus-client when someone asks for `/metrics`.

Everything that counts runs on one event loop, so an update is an addition: 0.1 µs, where prometheus-client's own instruments
lock and walk the buckets (1 to 3 µs each, several a request). Rendering stays prometheus-client's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from extproc.observability.twins import MetricNames, older_lacks, shown

MAX_SERIES: Final = 1000
"""Children of a family whose labels nothing else bounds: what comes later is counted as `other`."""
UNBOUNDED: Final = 2**60
"""For families whose labels are bounded elsewhere: models' names (`labels.py`), endpoints that there are."""
OTHER: Final = "other"
_AT_ONCE: Final = 50
"""Children that `pieces` makes into one metric; a histogram has thirty samples."""


class Value:
    """A counter's or gauge's number; add to `value` directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Histogram:
    """Counts by bucket, and the sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Count what another one has counted; both have the same bounds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        total = 0
        out: list[tuple[str, float]] = []
        for bound, count in zip([*map(_bound, self._bounds), "+Inf"], self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out


def _bound(value: float) -> str:
    return repr(float(value))


Child = TypeVar("Child", Value, Histogram)
Made = TypeVar("Made")


class Family(Generic[Child]):
    """One metric: its children by label values. Bind a child once and keep it."""

    def __init__(self, kind: str, name: str, doc: str, labels: Sequence[str], make: Callable[[], Child], most: int) -> None:
        self.kind = kind
        self.name = name
        self.doc = doc
        self.labels = tuple(labels)
        self._make: Callable[[], Child] = make
        self._most = most
        self._children: dict[tuple[str, ...], Child] = {}

    def child(self, *values: str) -> Child:
        """The child of these label values, made when it is new."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has labels {self.labels}, got {values}")
            if len(self._children) >= self._most:
                values = tuple(OTHER for _ in values)
            child = self._children.setdefault(values, self._make())
        return child

    def has(self, values: tuple[str, ...]) -> bool:
        """Whether there is a child of these label values."""
        return values in self._children

    def __len__(self) -> int:
        return len(self._children)

    def fold(self, values: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Add a child to another one and forget it: the family's sums stay."""
        if values == others:
            return
        gone = self._children.pop(values, None)
        if gone is not None:
            _add(self.child(*others), gone)

    def summed(self, over: Collection[str]) -> Generator[None, None, Family[Child]]:
        """Gives the family that it is without these labels, in short steps."""
        kept = [position for position, label in enumerate(self.labels) if label not in over]
        total = Family(self.kind, self.name, self.doc, [self.labels[at] for at in kept], self._make, UNBOUNDED)
        for number, (values, child) in enumerate(list(self._children.items())):
            _add(total.child(*[values[at] for at in kept]), child)
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
        return total

    def remove(self, *values: str) -> None:
        """Forget a child, e.g. of an endpoint that left."""
        self._children.pop(values, None)

    def keep(self, keeps: Callable[[tuple[str, ...]], bool]) -> None:
        """Forget the children of all label values but those of which `keeps` is true."""
        for values in [values for values in self._children if not keeps(values)]:
            del self._children[values]

    def collect(self) -> Metric:
        return self._metric(list(self._children.items()))

    def pieces(self) -> Iterator[Metric]:
        """As `collect`, in several metrics of the same name, each of which is made in half a millisecond."""
        children = list(self._children.items())
        for start in range(0, max(len(children), 1), _AT_ONCE):
            yield self._metric(children[start : start + _AT_ONCE])

    def _metric(self, children: list[tuple[tuple[str, ...], Child]]) -> Metric:
        metric: Metric
        if self.kind == "histogram":
            metric = HistogramMetricFamily(self.name, self.doc, labels=self.labels)
            for values, child in children:
                assert isinstance(child, Histogram)
                metric.add_metric(values, child.buckets(), child.sum)
            return metric
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = kind(self.name, self.doc, labels=self.labels)
        for values, child in children:
            assert isinstance(child, Value)
            metric.add_metric(values, child.value)
        return metric


def _add(kept: Value | Histogram, gone: Value | Histogram) -> None:
    if isinstance(gone, Histogram):
        assert isinstance(kept, Histogram)
        kept.add(gone)
    else:
        assert isinstance(kept, Value)
        kept.value += gone.value


class Instruments(Collector):
    """All families of a process, as one collector. `before_collect` callbacks refresh what is only read, such as pools;
    those with much to do are generators, each step of which is short."""

    def __init__(self) -> None:
        self._families: list[Family[Value] | Family[Histogram]] = []
        self.before_collect: list[Callable[[], Iterator[None] | None]] = []
        self.names: MetricNames = "both"
        """Which of upstream's two names are shown of what has both."""
        self._once: dict[str, object] = {}

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` made the first time it was asked for under this name."""
        if name not in self._once:
            self._once[name] = make()
        return cast(Made, self._once[name])

    def counter(self, name: str, doc: str, labels: Sequence[str] = (), *, most: int = MAX_SERIES) -> Family[Value]:
        """`most`: children that it may have."""
        return self._value("counter", name, doc, labels, most)

    def gauge(self, name: str, doc: str, labels: Sequence[str] = (), *, most: int = MAX_SERIES) -> Family[Value]:
        return self._value("gauge", name, doc, labels, most)

    def histogram(
        self, name: str, doc: str, bounds: Iterable[float], labels: Sequence[str] = (), *, most: int = MAX_SERIES
    ) -> Family[Histogram]:
        edges = tuple(bounds)
        family: Family[Histogram] = Family("histogram", name, doc, labels, lambda: Histogram(edges), most)
        self._families.append(family)
        return family

    def labels(self) -> dict[str, frozenset[str]]:
        """The labels that each family may have, by its names on the page."""
        found: dict[str, frozenset[str]] = {}
        for family in self._families:
            empty: Metric = Family(family.kind, family.name, family.doc, family.labels, Value, UNBOUNDED).collect()
            empty.add_sample(empty.name, dict.fromkeys(family.labels, ""), 0.0)
            for metric in shown(empty, self.names):
                ending = "_total" if metric.type == "counter" else ""
                lacks = older_lacks(family.name) if metric.name == empty.name else frozenset()
                found[metric.name + ending] = frozenset(metric.samples[0].labels) - lacks
        return found

    def collect(self) -> Iterator[Metric]:
        """Each family in one."""
        made: dict[str, Metric] = {}
        for piece in self.pieces():
            if piece is not None and made.setdefault(piece.name, piece) is not piece:
                made[piece.name].samples += piece.samples
        return iter(made.values())

    def pieces(self) -> Iterator[Metric | None]:
        """As `collect`, a little at a time: large families come in several metrics of the same name, and None is a step on the
        way to them."""
        for refresh in self.before_collect:
            for _ in refresh() or ():
                yield None
            yield None
        for family in self._families:
            yield from self._pieces(family)

    def _pieces(self, family: Family[Value] | Family[Histogram]) -> Iterator[Metric | None]:
        """By the older of upstream's names first, and then by the newer."""
        over = older_lacks(family.name)
        if over and self.names != "llm-d":
            total: Family[Value] | Family[Histogram] = yield from family.summed(over)
            for piece in total.pieces():
                yield from shown(piece, "inference")
            if self.names == "inference":
                return
        newer: list[Metric] = []
        for piece in family.pieces():
            named = shown(piece, "llm-d" if over and self.names == "both" else self.names)
            yield from named[:1]
            newer += named[1:]
        yield from newer

    def register(self, registry: CollectorRegistry) -> None:
        """Be part of what `/metrics` shows."""
        registry.register(self)

    def _value(self, kind: str, name: str, doc: str, labels: Sequence[str], most: int) -> Family[Value]:
        family: Family[Value] = Family(kind, name, doc, labels, Value, most)
        self._families.append(family)
        if not labels:
            family.child()  # shown as 0 before the first event, so that a rate has a beginning
        return family
