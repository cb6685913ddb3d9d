"""Totals are what the samples come to, added up, subtracted and written down."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.measures import NO_TOTALS, Moments, Sample, Timing, Totals, document_of, error_kind, kind_of, totals_of
from extproc.measures.totals import Tally

NAN = float("nan")
TIMES = st.sampled_from([-1.0, 0.01, 0.2, 3.0, 40.0])
NUMBERS = st.sampled_from([-1, 0, 10, 4096])


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    sample = Sample()
    sample.error = draw(st.sampled_from(["", "", "5xx", "429", "4xx", "cut", "timeout", "unanswered"]))
    sample.headers_s, sample.ttft_s, sample.tpot_s, sample.e2e_s = draw(st.tuples(TIMES, TIMES, TIMES, TIMES))
    sample.input_tokens, sample.output_tokens, sample.cached_tokens = draw(st.tuples(NUMBERS, NUMBERS, NUMBERS))
    sample.finish_reason = draw(st.sampled_from(["", "stop", "length", "made up"]))
    sample.cost = draw(st.sampled_from([-1.0, 0.0, 0.125]))
    sample.queue_at_pick = draw(st.sampled_from([NAN, 0.0, 7.0]))
    sample.hit_fraction = draw(st.sampled_from([NAN, 0.0, 0.5, 1.0]))
    return sample


def of(some: list[Sample], scores: list[float] = [], verdicts: list[bool] = []) -> Totals:
    tally = Tally()
    for sample in some:
        tally.add(sample)
    for score in scores:
        tally.rate(score)
    for same in verdicts:
        tally.compare(same)
    return tally.totals()


def flat(totals: Totals) -> dict[str, float]:
    """Every number in them, by its place."""
    told: dict[str, float] = {}
    for field, value in totals._asdict().items():
        if isinstance(value, Timing):
            bins = zip(value.sketch.bins, value.sketch.counts, strict=True)
            told |= {f"{field}[{number}]": count for number, count in bins} | {f"{field}.sum": value.sum_s}
            value = value.log
        if field == "alike":
            for kind, times in value.items():
                for name, moments in times._asdict().items():
                    told |= {f"{field}.{kind}.{name}.{key}": number for key, number in moments._asdict().items()}
        elif isinstance(value, Moments):
            told |= {f"{field}.{name}": number for name, number in value._asdict().items()}
        elif isinstance(value, dict):
            told |= {f"{field}.{key}": count for key, count in value.items()}
        else:
            told[field] = value
    return told


def same(mine: Totals, theirs: Totals) -> None:
    assert flat(mine) == pytest.approx(flat(theirs), abs=1e-6)


SOME = st.lists(samples(), max_size=20)
SCORES = st.lists(st.sampled_from([0.0, 0.4, 0.5, 1.0]), max_size=5)
VERDICTS = st.lists(st.booleans(), max_size=5)


@given(SOME, SOME, SCORES, VERDICTS)
def test_sums_and_differences(some: list[Sample], others: list[Sample], scores: list[float], verdicts: list[bool]) -> None:
    mine, theirs = of(some, scores), of(others, [], verdicts)
    both = of(some + others, scores, verdicts)
    same(mine.plus(theirs), both)
    same(both.minus(mine), theirs)
    same(both.minus(both), NO_TOTALS)
    tally = Tally()
    tally.absorb(mine)
    tally.absorb(theirs)
    same(tally.totals(), both)


@given(SOME, SCORES, VERDICTS)
def test_documents(some: list[Sample], scores: list[float], verdicts: list[bool]) -> None:
    totals = of(some, scores, verdicts)
    assert totals_of(json.loads(json.dumps(document_of(totals)))) == totals


@pytest.mark.parametrize(
    "document",
    [
        {"requests": "many"},
        {"ttft_s": {"log": [1, 2]}},
        {"e2e_s": {"log": [1, 0.0, 0.0], "bins": [[1e9, 1]], "sum_s": 1}},
        {"hit_fraction": 3},
        {"alike": {"0|0": [[1, 0.0]]}},
        {"errors_by_kind": [1]},
    ],
)
def test_no_documents(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no totals"):
        totals_of(document)


def test_what_a_field_is_of() -> None:
    fine, failed, wrong = Sample(), Sample(), Sample()
    fine.headers_s, fine.ttft_s, fine.e2e_s = 0.1, 0.2, 1.0
    fine.input_tokens, fine.output_tokens = 100, 20
    fine.finish_reason = "length"
    failed.error, failed.e2e_s = "5xx", 0.001
    wrong.error = "4xx"
    totals = of([fine, failed, failed, wrong])
    assert (totals.requests, totals.errors, totals.rejected) == (4, 2, 1)
    assert totals.errors_by_kind == {"5xx": 2}
    assert totals.error_rate == 0.5
    assert (totals.e2e_s.n, totals.e2e_s.mean_s) == (1, 1.0), "an error that comes fast is no fast answer"
    assert totals.ttft_s.quantile_s(0.5) == pytest.approx(0.2, rel=0.01)
    assert math.exp(totals.ttft_s.log.mean) == pytest.approx(0.2)
    assert (totals.usage, totals.input_tokens, totals.output_tokens) == (1, 100, 20)
    assert totals.finish_reasons == {"length": 1}
    assert NO_TOTALS.error_rate is None


@pytest.mark.parametrize(
    ("hit", "queue", "kind"),
    [(NAN, NAN, "-|-"), (0.0, 0.0, "0|0"), (0.3, 4.0, "1|1"), (0.75, 5.0, "2|2"), (1.0, 17.0, "2|3"), (NAN, 1.0, "-|1")],
)
def test_times_are_kept_by_what_requests_met(hit: float, queue: float, kind: str) -> None:
    sample = Sample()
    sample.hit_fraction, sample.queue_at_pick, sample.ttft_s = hit, queue, 0.5
    totals = of([sample, sample])
    ((found, times),) = totals.alike.items()
    assert found == kind == kind_of(hit, queue)
    assert (times.ttft.n, times.e2e.n) == (2, 0)
    assert math.exp(times.ttft.mean) == pytest.approx(0.5)


def test_reasons_are_bounded() -> None:
    some = []
    for number in range(50):
        sample = Sample()
        sample.finish_reason = f"reason {number}"
        some.append(sample)
    assert of(some).finish_reasons == {"other": 50}


@pytest.mark.parametrize(
    ("status", "cut", "kind"),
    [
        (200, False, ""),
        (200, True, "cut"),
        (302, False, ""),
        (0, True, "unanswered"),
        (404, True, "4xx"),
        (429, False, "429"),
        (500, False, "5xx"),
        (503, True, "5xx"),
        (504, False, "timeout"),
    ],
)
def test_kinds_of_errors(status: int, cut: bool, kind: str) -> None:
    assert error_kind(status, cut) == kind
