"""A plan that begins with a shadow, through a real Envoy: copies first, their verdict decides, and only then users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints, call, until
from tests.e2e.test_rollouts import asked, ended, rollout, shares

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(150)]

PLAN: dict[str, Any] = {
    "baseline": "current",
    "canary": "challenger",
    "steps": [
        {"shadow": {"percentage": 100}},
        {"analysis": {"metrics": ["alike"]}},
        {"shadow": {"percentage": 0}},
        {"setWeight": 50},
        {"analysis": {"metrics": ["errors"]}},
    ],
    "metrics": [
        {"name": "alike", "interval": "500ms", "count": 8, "successCondition": "canary.shadow_agreement >= 0.95"},
        {"name": "errors", "interval": "500ms", "count": 2, "successCondition": "canary.error_rate < 0.05"},
    ],
    "noveltyPeriod": 0,
    "bakeTime": 0,
}


def shadows(at: Behind) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = at.api("GET", "/chat").get("shadows", [])
    return found


def asked_of(endpoints: Endpoints, pool: str) -> list[dict[str, Any]]:
    """The last requests that came to the pool's servers, a hundred of each, copies among them: look while they come."""
    return [each for name in endpoints.children if name.startswith(pool) for each in endpoints.requests(name)]


def copies(requests: list[dict[str, Any]]) -> int:
    return sum("x-extproc-shadow" in {name.lower() for name, _ in each["headers"]} for each in requests)


def users_of(requests: list[dict[str, Any]]) -> int:
    return len(requests) - copies(requests)


def test_the_shadow_agrees_and_users_follow(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> None:
    with behind(envoy_binary, endpoints, tmp_path) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        at.api("POST", "/chat/rollouts", PLAN)
        with asked(at):
            until(lambda: [each["entity"] for each in shadows(at)] == ["challenger"], within_s=20, what="requests are copied")
            assert shares(at) == {"current": 100, "challenger": 0}
            until(lambda: copies(asked_of(endpoints, "phi4")), what="copies come to the challenger's servers")
            until(lambda: shares(at)["challenger"] == 50, within_s=60, what="half of the users have the challenger")
            assert shadows(at) == []
            until(lambda: users_of(asked_of(endpoints, "phi4")), what="users come to the challenger's servers")
            ended(at, "Healthy")
        events = [each["words"] for each in rollout(at)["events"]]
        order = [words for words in events if words.startswith(("shadow", "weight", "promoted"))]
        assert [words.partition(":")[0] for words in order] == ["shadow 100 %", "shadow 0 %", "weight 50 %", "promoted"]
        entities = {each["name"]: each["entity_name"] for each in at.api("GET", "/chat")["config"]["served_entities"]}
        assert entities == {"current": "catalog.schema.model-B", "challenger": "catalog.schema.model-A"}


def test_a_shadow_that_fails_is_taken_back_before_any_user_had_it(
    envoy_binary: Path, endpoints: Endpoints, tmp_path: Path
) -> None:
    faulty = [name for name in endpoints.children if name.startswith("phi4")]
    try:
        for name in faulty:
            assert call(endpoints.url(name), "/sim/faults", {"fault": "500"}).status == 200
        with behind(envoy_binary, endpoints, tmp_path) as at:
            at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
            at.api("POST", "/chat/rollouts", PLAN)
            with asked(at):
                found = ended(at, "Degraded")
            assert found["reason"] == "alike: canary.shadow_agreement >= 0.95 does not hold"
            until(lambda: shadows(at) == [], what="nothing is copied any more")
            assert shares(at) == {"current": 100, "challenger": 0}
            told = at.api("GET", "/chat/measures?window=all")["measures"]
            challenger = next(each for each in told if each["served_entity"] == "challenger")
            assert challenger["requests"] == 0, "no user has ever had it"
            assert challenger["shadow"]["pairs"] > challenger["shadow"]["same"] == 0
    finally:
        for name in faulty:
            call(endpoints.url(name), "/sim/faults", method="DELETE")
