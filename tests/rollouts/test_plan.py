from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.rollouts.plan import Analysis, Pause, SetHeaderRoute, SetShadow, SetWeight, check_entities, read_plan
from extproc.settings.base import SettingsError


def document(**more: Any) -> dict[str, Any]:
    return {"baseline": "current", "canary": "challenger", "steps": [{"setWeight": 10}, {"setWeight": 100}], **more}


def problems(given: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_plan(given)
    return caught.value.problems


def test_steps_in_argos_words() -> None:
    steps = [
        {"shadow": {"percentage": 5}},
        {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "X-Tester", "headerValue": {"exact": "yes"}}]}},
        {"setWeight": 10},
        {"pause": {"duration": "10m"}},
        {"pause": {"duration": 90}},
        {"pause": {}},
        {"analysis": {"metrics": ["ttft"]}},
        {"setHeaderRoute": {"name": "testers"}},
        {"setWeight": 50},
    ]
    assert read_plan(document(steps=steps)).steps == (
        SetShadow(5),
        SetHeaderRoute("testers", (("x-tester", "yes"),)),
        SetWeight(10),
        Pause(600.0),
        Pause(90.0),
        Pause(None),
        Analysis(("ttft",)),
        SetHeaderRoute("testers", ()),
        SetWeight(50),
    )


def test_a_plan_without_metrics_watches_first_tokens_and_errors_all_along() -> None:
    plan = read_plan(document())
    assert plan.background == ("ttft", "error-rate")
    assert plan.share_of_alpha == 0.025


def test_metrics_that_a_step_names_are_not_watched_all_along() -> None:
    plan = read_plan(document(steps=[{"setWeight": 10}, {"analysis": {"metrics": ["ttft"]}}]))
    assert plan.background == ("error-rate",)
    said = read_plan(document(steps=[{"setWeight": 10}, {"analysis": {}}], analysis={"metrics": ["ttft"]}))
    assert said.background == ("ttft",)


def test_dry_metrics_take_nothing_of_alpha() -> None:
    metrics = [
        {"name": "a", "compare": {"measure": "ttft"}},
        {"name": "b", "compare": {"measure": "e2e"}, "dryRun": True},
        {"name": "c", "successCondition": "error_rate < 0.1"},
    ]
    assert read_plan(document(metrics=metrics)).share_of_alpha == 0.05


def test_what_is_read_reads_the_same() -> None:
    plan = read_plan(
        document(
            metrics=[{"name": "slow", "interval": "5s", "failureCondition": "ttft_p95 > 2 * baseline.ttft_p95"}],
            webhooks=[{"name": "ask", "type": "confirm-promotion", "url": "http://ask.example/x"}],
            progressDeadline="1h",
        )
    )
    assert read_plan(dict(plan.document)) == plan


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"canary": "b", "steps": [{"setWeight": 1}]}, "rollout.baseline: got nothing"),
        (document(steps=[{"setWeight": 10}, {"setWeight": 5}]), "rollout.steps[1].setWeight: got 5 after 10"),
        (document(steps=[{"setWeight": 10}, {"setWeight": 10}]), "rollout.steps[1].setWeight: got 10 after 10"),
        (document(steps=[{"pause": {}}]), "rollout.steps: got no setWeight above 0"),
        (document(steps=[{"setWeight": 1, "pause": {}}]), "rollout.steps[0]: got an object with 2 keys; expected exactly one"),
        (document(steps=[{"weight": 1}]), "rollout.steps[0].weight: unknown key"),
        (document(steps=[{"setWeight": 101}]), "rollout.steps[0].setWeight: got 101"),
        (document(canary="current"), "rollout.canary: got 'current', which is the baseline"),
        (document(metrics=[{"name": "a"}]), "rollout.metrics[0]: got an object with 1 keys; expected successCondition"),
        (
            document(metrics=[{"name": "a", "successCondition": "canary.ttft_p96 < 1"}]),
            "rollout.metrics[0].successCondition: got the measure 'ttft_p96', which nobody knows; expected ttft_p9",
        ),
        (document(analysis={"metrics": ["speed"]}), "rollout.analysis.metrics: got 'speed'; expected one of the plan's"),
        (document(analysis={"startingStep": 2}), "rollout.analysis.startingStep: got 2; expected at most 1"),
        (
            document(metrics=[{"name": "a", "successCondition": "errors < 1"}], steps=[{"setWeight": 1}, {"analysis": {}}]),
            "rollout.steps[1].analysis.metrics: got 'a', which has no count",
        ),
        (
            document(metrics=[{"name": "a", "compare": {"measure": "ttft", "tolerance": 0.2, "margin": 0.1}}]),
            "rollout.metrics[0].compare: got an object with 3 keys; expected a margin above the tolerance, which is 0.2",
        ),
        (document(webhooks=[{"name": "a", "type": "event", "url": "ftp://x"}]), "rollout.webhooks[0].url"),
        (
            document(webhooks=[{"name": "a", "type": "event", "url": "http://x", "timeout": "1m"}]),
            "rollout.webhooks[0]: got an object with 4 keys; expected a timeout of at most 30s",
        ),
        (
            document(metrics=[{"name": "a", "compare": {"measure": "ttft"}, "interval": "0s"}]),
            "rollout.metrics[0].interval: got '0s'; expected at least 100ms",
        ),
        ([], "rollout: got a list of 0; expected an object"),
    ],
)
def test_bad_plans_are_refused_with_their_path(given: object, said: str) -> None:
    assert any(said in problem for problem in problems(given)), problems(given)


def test_all_problems_are_said_at_once() -> None:
    bad = document(canary="current", steps=[{"setWeight": 10}, {"setWeight": 1}], analysis={"metrics": ["no"]})
    assert len(problems(bad)) == 3


def test_both_arms_are_entities_of_the_endpoint() -> None:
    plan = read_plan(document())
    assert check_entities(plan, ["current", "challenger"]) == []
    (said,) = check_entities(plan, ["current", "other"])
    assert said == "rollout.canary: got 'challenger'; expected one of the endpoint's served entities: current, other"


_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 7, 250, 1.5, float("nan"), "", "a", "10s", "x" * 300, [], {}, {"duration": "1s"}, [{}], [1]]
)
_STEPS = st.lists(
    st.dictionaries(st.sampled_from(["setWeight", "pause", "analysis", "shadow", "x"]), _VALUES, max_size=2), max_size=4
)
_METRICS = st.lists(
    st.dictionaries(st.sampled_from(["name", "successCondition", "compare", "count", "interval"]), _VALUES, max_size=4),
    max_size=3,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "baseline": _VALUES,
            "canary": st.just("b"),
            "steps": _STEPS | _VALUES,
            "metrics": _METRICS | _VALUES,
            "analysis": _VALUES,
            "webhooks": _VALUES,
            "alpha": _VALUES,
            "bakeTime": _VALUES,
        },
    )
)
def test_any_json_is_a_plan_or_refused(given: dict[str, Any]) -> None:
    problems: list[str] = []
    try:
        read_plan(given)
    except SettingsError as error:
        problems = error.problems
    assert all(problem.startswith("rollout") for problem in problems)
