"""What Prometheus reads of the measures is what was counted, and goes with its entity."""

from __future__ import annotations

import pytest

from extproc.measures import Measures, Sample
from extproc.observability.instruments import Instruments
from extproc.observability.kept import Kept
from extproc.observability.measures import MeasureMetrics
from tests.fakes.clock import FakeClock
from tests.fakes.page import read_page

A = 'arm="",served_entity="a",serving_endpoint="chat"'


def answered(e2e_s: float, ttft_s: float) -> Sample:
    sample = Sample()
    sample.e2e_s, sample.ttft_s = e2e_s, ttft_s
    sample.input_tokens, sample.output_tokens = 10, 4
    sample.finish_reason, sample.cost = "stop", 0.5
    return sample


def failed(kind: str) -> Sample:
    sample = Sample()
    sample.error = kind
    return sample


@pytest.fixture
def measures() -> Measures:
    return Measures(FakeClock())


def page(instruments: Instruments, prefix: str = "extproc_entity_") -> dict[str, float]:
    """Without the order of labels, which is the family's."""
    told = {}
    for series, value in read_page(instruments, prefix).items():
        name, _, labels = series.partition("{")
        told[f"{name}{{{','.join(sorted(labels.rstrip('}').split(',')))}}}"] = value
    return told


def test_series(measures: Measures) -> None:
    instruments = Instruments()
    MeasureMetrics(instruments, measures)
    cell = measures.cell("chat", "a")
    for sample in (answered(0.03, 0.01), answered(2.2, 0.7), failed("5xx"), failed("4xx")):
        cell.add(sample)
    cell.rate(0.9)
    cell.compare(True)
    cell.compare(False)
    told = page(instruments)
    expected = {
        f"extproc_entity_requests_total{{{A}}}": 4,
        f'extproc_entity_tokens_total{{arm="",kind="input",{A[7:]}}}': 20,
        f'extproc_entity_tokens_total{{arm="",kind="output",{A[7:]}}}': 8,
        f'extproc_entity_errors_total{{arm="",kind="5xx",{A[7:]}}}': 1,
        f'extproc_entity_errors_total{{arm="",kind="4xx",{A[7:]}}}': 1,
        f'extproc_entity_finish_reasons_total{{arm="",reason="stop",{A[7:]}}}': 2,
        f"extproc_entity_cost_total{{{A}}}": 1.0,
        f'extproc_entity_feedback_total{{{A},verdict="good"}}': 1,
        f'extproc_entity_shadow_pairs_total{{{A},verdict="same"}}': 1,
        f'extproc_entity_shadow_pairs_total{{{A},verdict="different"}}': 1,
        f"extproc_entity_e2e_seconds_count{{{A}}}": 2,
        f'extproc_entity_e2e_seconds_bucket{{arm="",le="0.05",{A[7:]}}}': 1,
        f'extproc_entity_e2e_seconds_bucket{{arm="",le="+Inf",{A[7:]}}}': 2,
        f"extproc_entity_ttft_seconds_count{{{A}}}": 2,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told[f"extproc_entity_e2e_seconds_sum{{{A}}}"] == pytest.approx(2.23)
    assert page(instruments) == told, "asking twice counts nothing twice"


def test_an_entity_that_goes_takes_its_series_along(measures: Measures) -> None:
    instruments = Instruments()
    metrics = MeasureMetrics(instruments, measures)
    for entity, arm in (("a", ""), ("a", "tone/warm"), ("b", "")):
        measures.cell("chat", entity, arm).add(answered(1.0, 0.5))
    assert len([name for name in page(instruments) if name.startswith("extproc_entity_requests_total")]) == 3
    arms = [("chat", "tone/warm")]
    metrics.keep(Kept([("chat", "a"), ("other", "b")], arms, arms))
    assert list(measures.known()) == [("chat", "a", ""), ("chat", "a", "tone/warm")]
    assert page(instruments)
    assert not [name for name in page(instruments) if 'served_entity="b"' in name]


def test_an_arm_that_is_not_shown_has_measures_and_no_series(measures: Measures) -> None:
    instruments = Instruments()
    metrics = MeasureMetrics(instruments, measures)
    for arm in ("", "tone/warm", "tone/cold", "old/x"):
        measures.cell("chat", "a", arm).add(answered(1.0, 0.5))
    assert len([name for name in page(instruments) if name.startswith("extproc_entity_requests_total")]) == 4
    metrics.keep(Kept([("chat", "a")], [("chat", "tone/warm"), ("chat", "tone/cold")], [("chat", "tone/warm")]))
    for _ in range(2):
        told = [
            name for name in page(instruments) if name.startswith(("extproc_entity_requests_total", "extproc_entity_e2e_s"))
        ]
        assert {name.split('arm="')[1].split('"')[0] for name in told} == {"", "tone/warm"}
    assert [arm for _, _, arm in measures.known()] == ["", "tone/cold", "tone/warm"]
    measures.cell("chat", "a", "tone/hot").add(answered(1.0, 0.5))
    assert any('arm="tone/hot"' in name for name in page(instruments)), "one that is new is shown at once"
