"""Serving endpoints: experiments decide where no rule does."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.domain import RequestHead
from extproc.request import parse
from extproc.stages import Draft
from extproc.stages.draft import Assigned
from extproc.traffic.conditions import Wanted
from extproc.traffic.experiments import ArmSpec, ExperimentSpec
from extproc.traffic.match import MatchSpec, RuleSpec
from tests.fakes.deployment import Deployment
from tests.stages.running import counts, explained
from tests.stages.test_rules import GOLD, PATH
from tests.stages.test_serve import asked, chosen, decide, spec, stage

EXPOSURES = "extproc_experiment_exposures_total"
AB = (ArmSpec("control", 50, "a"), ArmSpec("treatment", 50, "b"))


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("pool")
    return made


def tried(*experiments: ExperimentSpec, rules: tuple[RuleSpec, ...] = ()) -> Any:
    return spec("chat", True, a=100, b=0)._replace(experiments=experiments, rules=rules)


def test_an_arm_says_who_serves_and_the_user_stays(deployment: Deployment) -> None:
    stages = stage(deployment, tried(ExperimentSpec("checkout", AB)))
    drafts = [decide(stages, asked(PATH, x_user_id=f"user-{user}")) for user in range(200)]
    assert {chosen(draft) for draft in drafts} == {"a", "b"}
    for user, draft in enumerate(drafts):
        assert draft.assigned is not None
        ((name, arm),) = draft.assigned.experiments
        assert (name, arm) == ("checkout", "treatment" if chosen(draft) == "b" else "control")
        assert draft.entity_reason == f"experiment: checkout/{arm}"
        assert (draft.assigned.key_kind, draft.assigned.bucket >= 0) == ("header x-user-id", True)
        assert chosen(decide(stages, asked(PATH, x_user_id=f"user-{user}"))) == chosen(draft)


def test_each_assignment_is_an_exposure_and_testers_are_told_apart(deployment: Deployment) -> None:
    experiment = ExperimentSpec("checkout", (ArmSpec("all", 100, "b"),), overrides=(("tester", "all"),))
    stages = stage(deployment, tried(experiment))
    for user in ("u", "u", "tester"):
        decide(stages, asked(PATH, x_user_id=user))
    decide(stages, asked(PATH))  # has no key
    line = f'{EXPOSURES}{{arm="all",experiment="checkout",how="assigned",serving_endpoint="chat"}}'
    assert counts(deployment, EXPOSURES) == {line: 2, line.replace("assigned", "override"): 1}


def test_further_attempts_are_no_further_exposures(deployment: Deployment) -> None:
    stages = stage(deployment, tried(ExperimentSpec("checkout", (ArmSpec("all", 100, "b"),))))
    head, body = asked(PATH, x_user_id="u")
    for counted in (True, False):
        draft = Draft(0.0, body)
        draft.counted = counted
        for each in stages:
            each.decide(parse(head, body), draft)
            if each.hooks.committed is not None:
                each.hooks.committed(parse(head, body), draft)
    assert list(counts(deployment, EXPOSURES).values()) == [1]


def test_a_rule_comes_first_and_then_nobody_is_in_an_experiment(deployment: Deployment) -> None:
    stages = stage(deployment, tried(ExperimentSpec("checkout", AB), rules=(RuleSpec("gold", GOLD, "a"),)))
    draft = decide(stages, asked(PATH, x_user_id="u", x_tier="gold"))
    assert (draft.entity_reason, draft.assigned) == ("rule: gold", Assigned("gold"))
    direct = decide(stages, asked("/serving-endpoints/chat/served-models/a/invocations", x_user_id="u"))
    assert (direct.entity_reason, direct.assigned) == ("asked directly", Assigned())


def test_one_experiment_decides_and_others_go_along(deployment: Deployment) -> None:
    label = ExperimentSpec("prompt", (ArmSpec("long", 100),))
    first, second = (ExperimentSpec(name, (ArmSpec("all", 100, entity),)) for name, entity in (("one", "b"), ("two", "a")))
    stages = stage(deployment, tried(label, first, second))
    draft = decide(stages, asked(PATH, x_user_id="u"))
    assert draft.assigned is not None
    assert (chosen(draft), draft.assigned.experiments) == ("b", (("prompt", "long"), ("one", "all")))


def test_without_an_entity_the_split_decides(deployment: Deployment) -> None:
    stages = stage(deployment, tried(ExperimentSpec("prompt", (ArmSpec("long", 100),))))
    draft = decide(stages, asked(PATH, x_user_id="u"))
    assert draft.assigned == Assigned(experiments=(("prompt", "long"),))
    assert (chosen(draft), draft.entity_reason) == ("a", "only entity")


def test_who_is_in_no_arm_goes_by_the_split(deployment: Deployment) -> None:
    only_gold = (MatchSpec(headers=(("x-tier", Wanted("exact", ("gold",))),)),)
    stages = stage(deployment, tried(ExperimentSpec("checkout", AB, only_gold)))
    draft = decide(stages, asked(PATH, x_user_id="u"))
    assert (chosen(draft), draft.assigned) == ("a", Assigned())


def test_it_explains_itself(deployment: Deployment) -> None:
    experiment = ExperimentSpec("checkout", (ArmSpec("all", 100, "b"),), overrides=(("secret-user", "all"),))
    stages = stage(deployment, tried(experiment))
    head, body = asked(PATH, x_user_id="secret-user")
    assert isinstance(head, RequestHead)
    draft = Draft(0.0, body)
    for each in stages:
        told = explained(each, parse(head, body), draft)
    assert (told["experiments"], told["overrides"]) == ({"checkout": "all"}, ["checkout"])
    assert "secret-user" not in repr(told)
