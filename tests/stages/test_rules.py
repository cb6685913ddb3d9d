"""Serving endpoints: rules decide before the split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from extproc.errors import RefusedByRule
from extproc.request import parse
from extproc.stages import Draft
from extproc.stages.draft import Assigned
from extproc.traffic.conditions import Wanted
from extproc.traffic.match import MatchSpec, RefusalSpec, RuleSpec
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment
from tests.stages.running import counts, explained
from tests.stages.test_serve import REQUESTS, asked, chosen, decide, spec, stage

GOLD = (MatchSpec(headers=(("x-tier", Wanted("exact", ("gold",))),)),)


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("pool")
    return made


def ruled(*rules: RuleSpec, **shares: int) -> Any:
    return spec("chat", True, **(shares or {"a": 100, "b": 0}))._replace(rules=rules)


PATH = "/serving-endpoints/chat/invocations"


def test_the_first_rule_that_matches_sends_to_its_entity(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("gold", GOLD, "b"), RuleSpec("again", GOLD, "a")))
    draft = decide(stages, asked(PATH, x_tier="gold"))
    assert (chosen(draft), draft.entity_reason, draft.assigned) == ("b", "rule: gold", Assigned("gold"))
    draft = decide(stages, asked(PATH, x_tier="silver"))
    assert (chosen(draft), draft.entity_reason, draft.assigned) == ("a", "only entity", Assigned())


def test_a_rules_split_keeps_users_where_they_are(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("gold", GOLD, split=(("a", 50), ("b", 50))), a=90, b=10))
    by_rule: Counter[str | None] = Counter()
    for user in range(400):
        key = f"user-{user}"
        ruled_draft = decide(stages, asked(PATH, x_tier="gold", x_user_id=key))
        by_rule[chosen(ruled_draft)] += 1
        assert ruled_draft.assigned is not None
        assert (ruled_draft.assigned.key_kind, ruled_draft.assigned.bucket >= 0) == ("header x-user-id", True)
        if chosen(decide(stages, asked(PATH, x_user_id=key))) == "b":
            assert chosen(ruled_draft) == "b"  # who has the challenger at 10 % has it at 50 %
    assert by_rule["b"] == pytest.approx(200, abs=40)


def test_a_rule_refuses_whoever_asks_and_however(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("no gold", GOLD, refusal=RefusalSpec(503, "Not in this region"))))
    for path in (PATH, "/serving-endpoints/chat/served-models/a/invocations"):
        with pytest.raises(RefusedByRule, match=r"Not in this region \(rule `no gold`\)") as raised:
            decide(stages, asked(path, x_tier="gold"))
        assert raised.value.status == 503
    assert chosen(decide(stages, asked(PATH))) == "a"


def test_who_asks_for_an_entity_gets_it(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("gold", GOLD, "b")))
    draft = decide(stages, asked("/serving-endpoints/chat/served-models/a/invocations", x_tier="gold"))
    assert (chosen(draft), draft.entity_reason) == ("a", "asked directly")


def test_without_a_key_it_is_drawn(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("all", (), split=(("a", 50), ("b", 50)))), draw=Draws(0.1, 0.9))
    assert [chosen(decide(stages, asked(PATH))) for _ in range(2)] == ["a", "b"]


def test_it_is_counted_and_explained(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("gold", GOLD, "b")))
    decide(stages, asked(PATH, x_tier="gold"))
    assert counts(deployment, REQUESTS) == {
        'extproc_serving_requests_total{reason="rule",served_entity="b",serving_endpoint="chat"}': 1
    }
    head, body = asked(PATH, x_tier="gold")
    draft = Draft(0.0, body)
    for each in stages:
        told = explained(each, parse(head, body), draft)
    assert (told["rule"], told["reason"]) == ("gold", "rule: gold")


def test_expressions_that_give_no_answer_are_counted(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("long", (MatchSpec(expression="body.n > 1"),), "b")))
    assert chosen(decide(stages, asked(PATH, {"n": 2}))) == "b"
    assert chosen(decide(stages, asked(PATH, {"n": "two"}))) == "a"
    failed = "extproc_serving_expressions_failed_total"
    assert counts(deployment, failed) == {f'{failed}{{serving_endpoint="chat"}}': 1}


def test_a_share_of_users_goes_by_the_key(deployment: Deployment) -> None:
    stages = stage(deployment, ruled(RuleSpec("some", (MatchSpec(buckets=3000),), "b")))
    users = [f"user-{user}" for user in range(300)]
    chosen_first = [chosen(decide(stages, asked(PATH, x_user_id=user))) for user in users]
    assert chosen_first == [chosen(decide(stages, asked(PATH, x_user_id=user))) for user in users]
    assert chosen_first.count("b") == pytest.approx(90, abs=35)
