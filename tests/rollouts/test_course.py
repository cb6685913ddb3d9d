"""What a comparison said at each look: an interval over time, bounded, kept with the rollout, and read by older replicas."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from extproc.rollouts.course import MOST, Course, Seen
from extproc.rollouts.documents import Rollout, of_document, to_document
from extproc.rollouts.machine import State
from extproc.rollouts.plan import read_plan
from extproc.rollouts.statistics import Bounds, ErrorEvidence, RateSums
from extproc.rollouts.view import view
from tests.rollouts.arms import arm, look
from tests.rollouts.test_judge import EMPTY, metric, rising, through

PLAN = read_plan(
    {
        "baseline": "a",
        "canary": "b",
        "steps": [{"setWeight": 5}],
        "metrics": [{"name": "m", "interval": 1, "compare": {"measure": "ttft"}}],
    }
)


def rollout(course: Course) -> Rollout:
    progress = through(metric(), [EMPTY])._replace(course=course)
    return Rollout(PLAN, State("id", "chat", 1.0, background={"m": progress}, watched={"m": progress}))


def test_each_look_at_something_new_is_kept() -> None:
    looks = rising(1.3, to=200)
    progress = through(metric(), [*looks, looks[-1], looks[-1]])
    course = progress.course
    assert 0 < len(course.looks) <= len(looks), "what is not new is no look"
    last = course.looks[-1]
    assert last.estimate == pytest.approx(0.3, abs=0.01)
    assert last.low < last.estimate < last.high
    widths = [seen.high - seen.low for seen in course.looks]
    assert widths == sorted(widths, reverse=True), "the more is seen the narrower it is"


def test_of_an_error_rate_too() -> None:
    asked = metric("error_rate")
    looks = [look(arm(n, n // 20), arm(n, n // 50)) for n in range(100, 800, 100)]
    course = through(asked, looks).course
    last = course.looks[-1]
    assert last.estimate == pytest.approx(0.03, abs=0.005)
    assert -0.05 < last.low < 0.03 < last.high < 0.12


def test_what_waits_for_more_requests_has_no_look() -> None:
    assert through(metric(), rising(1.3, to=40)).course.looks == ()
    assert through(metric(), rising(1.3, to=400), novel=True).course.looks == ()


def test_looks_are_bounded_and_the_first_and_the_last_are_there() -> None:
    course = Course()
    for at in range(10 * MOST):
        course = course.seen(float(at), Bounds(0.1, 0.0, 1e30))
        assert len(course.looks) <= MOST
    assert course.looks[0].at_s == 0
    assert course.looks[-1].at_s == 10 * MOST - 1
    times = [seen.at_s for seen in course.looks]
    assert times == sorted(times)
    assert course.looks[0].high == 100, "what says nothing stays a number"


def test_they_are_kept_and_read_back() -> None:
    course = Course((Seen(1.5, 0.1, -0.25, 0.75),), RateSums(1.0, 2.0, 3.0, 4.0))
    made = rollout(course)
    assert of_document(to_document(made)) == made


def test_a_document_of_before_has_none_and_one_of_now_is_read_by_who_does_not_know_them() -> None:
    made = rollout(Course((Seen(1.5, 0.1, -0.25, 0.75),)))
    document: dict[str, Any] = orjson.loads(to_document(made))
    for field in ("background", "watched"):
        assert "course" not in document["state"][field]["m"], "older replicas take no other fields of a state"
    del document["courses"]
    assert of_document(orjson.dumps(document)) == rollout(Course())


def test_a_full_one_is_some_kilobytes() -> None:
    course = Course()
    for at in range(MOST):
        course = course.seen(1_700_000_000.5 + at, Bounds(0.123456, -0.123456, 0.654321))
    more = len(to_document(rollout(course))) - len(to_document(rollout(Course())))
    assert more / 2 < 50 * MOST


def test_as_tools_are_shown_it() -> None:
    told = view(rollout(Course((Seen(1.5, 0.1, -0.25, 0.75), Seen(2.5, 0.2, 0.0, 0.5)))))["metrics"][0]["course"]
    assert told["measure"] == "ttft"
    assert (told["at"], told["estimate"], told["low"], told["high"]) == ([1.5, 2.5], [0.1, 0.2], [-0.25, 0.0], [0.75, 0.5])
    assert 0 <= told["tolerance"] < told["margin"]
    assert view(rollout(Course()))["metrics"][0]["course"]["at"] == []


@pytest.mark.parametrize(("canary", "baseline"), [(0.02, 0.02), (0.2, 0.1), (0.001, 0.001)])
def test_the_interval_of_rates_holds_the_truth_at_all_looks(canary: float, baseline: float) -> None:
    chance = random.Random(7)
    missed = 0
    for _ in range(200):
        sums, seen = RateSums(), ErrorEvidence()
        wrong = False
        for _ in range(40):
            n, m = chance.choice([(10, 90), (50, 50)])
            errors = sum(chance.random() < canary for _ in range(n))
            others = sum(chance.random() < baseline for _ in range(m))
            sums = sums.plus(n, errors, m, others)
            seen = seen._replace(
                canary=seen.canary + n,
                canary_errors=seen.canary_errors + errors,
                baseline=seen.baseline + m,
                baseline_errors=seen.baseline_errors + others,
            )
            bounds = sums.bounds(0.05, seen)
            wrong = wrong or not bounds.low <= canary - baseline <= bounds.high
        missed += wrong
    assert missed <= 20, missed
