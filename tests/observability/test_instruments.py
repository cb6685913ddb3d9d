"""Counting without locks, shown as Prometheus wants it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from extproc.observability.instruments import MAX_SERIES, OTHER, Histogram, Instruments
from tests.fakes.fuzz import examples
from tests.fakes.page import read_page


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


def test_counters_and_gauges(instruments: Instruments) -> None:
    hits = instruments.counter("hits_total", "Hits.", ["code"])
    hits.child("200").value += 2
    hits.child("500").value += 1
    hits.child("200").value += 1
    instruments.gauge("open", "Open.").child().value = -3
    assert read_page(instruments) == {'hits_total{code="200"}': 3, 'hits_total{code="500"}': 1, "open": -3}


def test_types_and_docs_are_shown(instruments: Instruments) -> None:
    instruments.counter("hits_total", "Number of hits.")
    instruments.gauge("open", "Open now.")
    instruments.histogram("size", "Sizes.", (1, 2)).child()
    registry = CollectorRegistry()
    instruments.register(registry)
    shown = {family.name: (family.type, family.documentation) for family in registry.collect()}
    assert shown == {
        "hits": ("counter", "Number of hits."),
        "open": ("gauge", "Open now."),
        "size": ("histogram", "Sizes."),
    }


def test_without_labels_the_first_value_is_0(instruments: Instruments) -> None:
    """A rate has to begin somewhere."""
    instruments.counter("hits_total", "Hits.")
    instruments.counter("by_code_total", "Hits by code.", ["code"])
    assert read_page(instruments) == {"hits_total": 0}


def test_a_child_is_bound_once(instruments: Instruments) -> None:
    family = instruments.counter("hits_total", "Hits.", ["a", "b"])
    assert family.child("x", "y") is family.child("x", "y")
    assert family.child("x", "y") is not family.child("y", "x")


@pytest.mark.parametrize("values", [(), ("x",), ("x", "y", "z")])
def test_label_values_are_as_many_as_labels(instruments: Instruments, values: tuple[str, ...]) -> None:
    family = instruments.counter("hits_total", "Hits.", ["a", "b"])
    with pytest.raises(ValueError, match="hits_total has labels"):
        family.child(*values)


def test_what_clients_can_choose_is_bounded(instruments: Instruments) -> None:
    family = instruments.counter("hits_total", "Hits.", ["model"])
    for number in range(MAX_SERIES + 50):
        family.child(f"m{number}").value += 1
    family.child("m0").value += 1
    shown = read_page(instruments)
    assert len(shown) == MAX_SERIES + 1
    assert shown['hits_total{model="m0"}'] == 2
    assert shown[f'hits_total{{model="{OTHER}"}}'] == 50


def test_a_child_may_be_removed(instruments: Instruments) -> None:
    family = instruments.gauge("up", "Up.", ["pod"])
    family.child("a").value = 1
    family.remove("a")
    family.remove("never there")
    assert read_page(instruments) == {}


def test_what_is_only_read_is_refreshed_first(instruments: Instruments) -> None:
    gauge = instruments.gauge("size", "Size.").child()
    pool = [1, 2]
    instruments.before_collect.append(lambda: setattr(gauge, "value", len(pool)))
    assert read_page(instruments) == {"size": 2}
    pool.append(3)
    assert read_page(instruments) == {"size": 3}


def test_once_makes_once(instruments: Instruments) -> None:
    made = instruments.once("pools", lambda: [1])
    assert instruments.once("pools", lambda: [2]) is made
    assert instruments.once("other", lambda: [2]) == [2]


class TestHistogram:
    def test_a_bound_belongs_to_its_bucket(self) -> None:
        histogram = Histogram((1, 2, 5))
        for value in (0, 1, 1.5, 2, 5, 5.1, 100):
            histogram.observe(value)
        assert histogram.buckets() == [("1.0", 2), ("2.0", 4), ("5.0", 5), ("+Inf", 7)]
        assert histogram.sum == pytest.approx(114.6)

    def test_on_the_page(self, instruments: Instruments) -> None:
        family = instruments.histogram("took_seconds", "Time.", (0.1, 1), ["pool"])
        family.child("p").observe(0.5)
        assert read_page(instruments) == {
            'took_seconds_bucket{le="0.1",pool="p"}': 0,
            'took_seconds_bucket{le="1.0",pool="p"}': 1,
            'took_seconds_bucket{le="+Inf",pool="p"}': 1,
            'took_seconds_count{pool="p"}': 1,
            'took_seconds_sum{pool="p"}': 0.5,
        }

    @examples(50)
    @given(st.lists(st.floats(0, 20), max_size=20))
    def test_counts_as_prometheus_client_does(self, values: list[float]) -> None:
        bounds = (0.1, 1.0, 5.0, 10.0)
        ours, registry = Histogram(bounds), CollectorRegistry()
        theirs = PrometheusHistogram("h", "H.", buckets=bounds, registry=registry)
        for value in values:
            ours.observe(value)
            theirs.observe(value)
        (family,) = registry.collect()
        expected = [(s.labels["le"], s.value) for s in family.samples if s.name == "h_bucket"]
        assert ours.buckets() == expected
        assert ours.sum == pytest.approx(sum(values))
