"""Rollouts through a real Envoy: a challenger with a 30 % worse time to the first token is taken back, a good one is promoted,
also when the gateway is killed in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.behind import API, MESSAGES, Behind, behind, own
from tests.e2e.parts import Endpoints, call, until
from tests.e2e.users import users

pytestmark = pytest.mark.e2e

USERS = 8
PLAN: dict[str, Any] = {
    "baseline": "current",
    "canary": "challenger",
    "steps": [{"setWeight": 50}, {"analysis": {"metrics": ["ttft"]}}],
    "metrics": [
        {"name": "ttft", "interval": "500ms", "compare": {"measure": "ttft", "margin": 0.15, "minimumSamples": 60}},
        {"name": "error-rate", "interval": "500ms", "compare": {"measure": "error_rate", "minimumSamples": 60}},
    ],
    "noveltyPeriod": 0,
    "bakeTime": 0,
}


@pytest.fixture
def slowed(endpoints: Endpoints) -> Iterator[Endpoints]:
    """Model servers that take their time."""
    yield endpoints
    for name in endpoints.children:
        call(endpoints.url(name), "/sim/faults", method="DELETE")


def takes(endpoints: Endpoints, pool: str, milliseconds: int) -> None:
    """Before anything comes of an answer."""
    for name in endpoints.children:
        if name.startswith(pool):
            assert call(endpoints.url(name), "/sim/faults", {"fault": f"slow={milliseconds}ms"}).status == 200


def asked(at: Behind) -> contextlib.AbstractContextManager[None]:
    """Users who ask one thing after the other, and try again when nobody is there."""

    def ask(number: int) -> bool:
        body = {**MESSAGES, "stream": True}
        return at.call("POST", "/serving-endpoints/chat/invocations", body, x_user_id=f"user-{number}").status == 200

    return users(USERS, ask)


def rollout(at: Behind) -> dict[str, Any]:
    """How far it is; nothing while the API is away."""
    got = at.call("GET", f"{API}/chat/rollouts")
    return dict(got.json) if got.status == 200 else {}


def ended(at: Behind, phase: str) -> dict[str, Any]:
    def over() -> dict[str, Any]:
        found = rollout(at)
        return found if found.get("phase") in ("Healthy", "Degraded") else {}

    found = until(over, within_s=45, what="the rollout is over")
    assert found["phase"] == phase, found
    return found


def shares(at: Behind) -> dict[str, int]:
    routes = at.api("GET", "/chat")["config"]["traffic_config"]["routes"]
    return {route["served_entity_name"]: route["traffic_percentage"] for route in routes}


@pytest.mark.timeout(120)
def test_a_slower_challenger_is_taken_back(envoy_binary: Path, slowed: Endpoints, tmp_path: Path) -> None:
    takes(slowed, "llama", 60)
    takes(slowed, "phi4", 78)
    with behind(envoy_binary, slowed, tmp_path) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        at.api("POST", "/chat/rollouts", PLAN)
        with asked(at):
            found = ended(at, "Degraded")
        assert found["reason"].startswith("ttft: the canary takes +")
        assert "it is slower, evidence" in found["reason"]
        until(lambda: shares(at) == {"current": 100, "challenger": 0}, what="the split is as before")
        assert set(at.served([f"u{number}" for number in range(20)]).values()) == {"current"}


@pytest.mark.timeout(120)
def test_a_good_one_is_promoted_although_the_gateway_is_killed(envoy_binary: Path, slowed: Endpoints, tmp_path: Path) -> None:
    takes(slowed, "llama", 60)
    takes(slowed, "phi4", 60)
    with behind(envoy_binary, slowed, tmp_path, "--database-url", f"sqlite:///{tmp_path}/state.db") as at:
        at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        begun = at.api("POST", "/chat/rollouts", PLAN)
        with asked(at):
            until(lambda: shares(at) == {"current": 50, "challenger": 50}, what="half of the traffic goes to the challenger")
            at.stack.servers["gateway"].kill()
            at.restart()
            assert rollout(at)["id"] == begun["id"]
            ended(at, "Healthy")
        until(lambda: shares(at) == {"current": 100, "challenger": 0}, what="it is called as the other was")
        entities = {each["name"]: each["entity_name"] for each in at.api("GET", "/chat")["config"]["served_entities"]}
        assert entities == {"current": "catalog.schema.model-B", "challenger": "catalog.schema.model-A"}
        answer = at.ask()
        assert answer.endpoint.startswith("phi4")
        assert answer.headers["served-model-name"] == "current"
