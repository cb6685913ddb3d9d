"""Metric families whose page is cheap: the fixed part of a line is written once, and what didn't change isn't redone.

A page of vLLM has 650 lines, and a picker may ask for it twenty times a second at each of several simulated servers.
prometheus_client needs 3.6 ms for such a page, this needs a tenth. Where speed doesn't matter (a page cut down by
`name[]`, OpenMetrics) the families are collected by prometheus_client's own registry, which also proves in a test that
both pages are the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from prometheus_client import utils
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Kind = Literal["gauge", "counter", "histogram", "summary"]


def _number(value: float) -> str:
    return str(utils.floatToGoString(value))  # type: ignore[no-untyped-call]


class Value:
    """One number: a gauge or a counter."""

    __slots__ = ("_heads", "value")

    def __init__(self, heads: Sequence[str]) -> None:
        self._heads = heads
        self.value = 0.0

    def samples(self) -> list[float]:
        return [self.value]

    def text(self) -> str:
        return f"{self._heads[0]} {_number(self.value)}\n"


class Distribution:
    """A histogram, or with no edges a summary: counts by bucket, number and sum of what was observed."""

    __slots__ = ("_counts", "_edges", "_heads", "_text", "count", "total")

    def __init__(self, heads: Sequence[str], edges: Sequence[float]) -> None:
        self._heads = heads
        self._edges = edges
        self._counts = [0] * len(edges)
        self._text: str | None = None
        self.count = 0
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        if self._edges:
            self._counts[bisect_left(self._edges, value)] += times
        self.count += times
        self.total += value * times
        self._text = None

    def samples(self) -> list[float]:
        """Cumulative buckets, then number, then sum."""
        out: list[float] = []
        running = 0
        for number in self._counts:
            running += number
            out.append(running)
        return [*out, self.count, self.total]

    def text(self) -> str:
        if self._text is None:
            pairs = zip(self._heads, self.samples(), strict=True)
            self._text = "".join([f"{head} {_number(value)}\n" for head, value in pairs])
        return self._text


class Family(Collector):
    """All series of one name. `edges` are a histogram's upper bounds; the last must be infinity.

    `labels` gives label names in any order; `value` and `distribution` take label values in that order.
    `created_s` is the time that series of counters, histograms and summaries are said to be created.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        edges: Sequence[float] = (),
        created_s: float = 0.0,
    ) -> None:
        self.kind, self.name, self.documentation, self.labels = kind, name, documentation, tuple(labels)
        self._edges = tuple(edges)
        self._created_s = created_s
        suffixes = {"gauge": [""], "counter": ["_total"], "summary": ["_count", "_sum"]}
        self._parts = [(suffix, "") for suffix in suffixes.get(kind, [])]
        if kind == "histogram":
            self._parts = [("_bucket", _number(edge)) for edge in self._edges] + [("_count", ""), ("_sum", "")]
        self._series: dict[tuple[str, ...], Value | Distribution] = {}
        self._created_lines = ""
        shown = f"{name}_total" if kind == "counter" else name
        self._header = f"# HELP {shown} {_escape_help(documentation)}\n# TYPE {shown} {kind}\n"
        created = f"{name}_created"
        self._created_header = f"# HELP {created} {_escape_help(documentation)}\n# TYPE {created} gauge\n"

    def value(self, *labels: str) -> Value:
        """The number with these label values, made when it is first asked for."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Value(self._heads(labels))
        assert isinstance(series, Value), self.name
        return series

    def distribution(self, *labels: str) -> Distribution:
        """The histogram or summary with these label values, made when it is first asked for."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Distribution(self._heads(labels), self._edges)
        assert isinstance(series, Distribution), self.name
        return series

    def text(self) -> str:
        """The family as a Prometheus page of version 0.0.4 shows it."""
        body = self._header + "".join([series.text() for series in self._series.values()])
        return body + self._created_header + self._created_lines if self._created_lines else body

    def collect(self) -> Iterator[Metric]:
        """The same for prometheus_client."""
        metric = Metric(self.name, self.documentation, self.kind)
        for values, series in self._series.items():
            given = dict(zip(self.labels, values, strict=True))
            for (suffix, edge), number in zip(self._parts, series.samples(), strict=True):
                metric.add_sample(self.name + suffix, {**given, "le": edge} if edge else given, number)
            if self.kind != "gauge":
                metric.add_sample(self.name + "_created", given, self._created_s)
        yield metric

    def _heads(self, values: tuple[str, ...]) -> list[str]:
        """The fixed beginnings of a new series' lines; also adds its `_created` line."""
        given = dict(zip(self.labels, values, strict=True))
        if self.kind != "gauge":
            line = f"{self.name}_created{_label_text(given.items())} {_number(self._created_s)}\n"
            self._created_lines += line
        return [
            f"{self.name}{suffix}{_label_text([*given.items(), *([('le', edge)] if edge else [])])}"
            for suffix, edge in self._parts
        ]


def _label_text(labels: Iterable[tuple[str, str]]) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in sorted(labels)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
