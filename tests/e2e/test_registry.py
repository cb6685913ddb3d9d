"""Serving endpoints follow a real MLflow registry, through a real Envoy: also when it dies, and while it is dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.behind import API, Behind, behind, split
from tests.e2e.mlflow import Mlflow, installed
from tests.e2e.parts import Endpoints, call, until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

USERS = [f"user-{number}" for number in range(100)]


@pytest.fixture(scope="module")
def mlflow(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    server = Mlflow(installed(), tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def at(
    mlflow: Mlflow, envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("registry")
    more = {"registry": {"uri": mlflow.url, "interval": "200ms", "timeout": "5s"}}
    flags = ("--database-url", f"sqlite:///{directory}/state.db")
    with behind(envoy_binary, session_endpoints, directory, *flags, more=more) as made:
        yield made


def metric(at: Behind, name: str) -> float:
    """Its value; 0 when there is none."""
    for line in call(at.stack.pages["gateway"], "/metrics").body.decode().splitlines():
        if line.startswith((f"{name} ", f"{name}{{")):
            return float(line.rpartition(" ")[2])
    return 0.0


def entity(at: Behind, endpoint: str, name: str = "current") -> dict[str, Any]:
    found: list[dict[str, Any]] = at.api("GET", f"/{endpoint}")["config"]["served_entities"]
    return next(each for each in found if each["name"] == name)


def version(at: Behind, endpoint: str, name: str = "current") -> str:
    return str(entity(at, endpoint, name)["registry"]["version"])


def pools(at: Behind, endpoint: str) -> set[str]:
    """Whose servers answer."""
    return {at.ask(endpoint, x_user_id=user).endpoint.partition("-")[0] for user in USERS[:20]}


def create(at: Behind, endpoint: str, model: str, **more: Any) -> None:
    served = [{"name": "current", "entity_name": model, "entity_version": "@champion"}]
    at.api("POST", "", {"name": endpoint, "config": {"served_entities": served}, **more})


def test_an_endpoint_follows_its_alias(at: Behind, mlflow: Mlflow) -> None:
    mlflow.model("churn", "llama", "phi4", "")
    mlflow.alias("churn", "champion", 1)
    at.api(
        "POST",
        "",
        {"name": "chat", "config": {"served_entities": [{"name": "current", "entity_name": "models:/churn@champion"}]}},
    )
    shown = entity(at, "chat")
    assert (shown["entity_name"], shown["entity_version"], shown["registry"]["version"]) == ("churn", "@champion", "1")
    assert pools(at, "chat") == {"llama"}
    mlflow.alias("churn", "champion", 2)
    until(lambda: version(at, "chat") == "2", what="the endpoint is on version 2")
    assert pools(at, "chat") == {"phi4"}
    newest = at.api("GET", "/chat/history")["history"][0]
    assert newest["author"] == "registry:mlflow"
    assert newest["reason"] == "current: churn@champion moved from version 1 to 2"
    assert newest["config_version"] == 2

    mlflow.alias("churn", "champion", 3)  # which no pool serves
    until(lambda: metric(at, "extproc_registry_held"), what="it is said that version 3 can't be served")
    (problem,) = at.api("GET", "/chat")["gateway_problems"]
    assert "no pool serves version 3" in problem
    assert pools(at, "chat") == {"phi4"}
    mlflow.tag("churn", 3, "llama")
    until(lambda: version(at, "chat") == "3", what="the tag is followed")
    assert pools(at, "chat") == {"llama"}

    mlflow.delete("churn", 3)  # and its alias with it
    until(lambda: metric(at, "extproc_registry_held"), what="it is said that the alias is gone")
    assert pools(at, "chat") == {"llama"}
    assert version(at, "chat") == "3"
    refused = at.call(
        "POST", API, {"name": "other", "config": {"served_entities": [{"entity_name": "churn", "entity_version": "@champion"}]}}
    )
    assert refused.status == 400
    assert refused.json["message"].startswith(
        "config.served_entities[0].entity_version: got '@champion' of 'churn'; expected an alias"
    )


def test_a_dead_registry_breaks_nothing_and_is_caught_up_with(at: Behind, mlflow: Mlflow) -> None:
    mlflow.model("fraud", "llama", "phi4")
    mlflow.alias("fraud", "champion", 1)
    create(at, "fraud", "fraud")
    until(lambda: metric(at, "extproc_registry_up") == 1, what="the registry answers")
    mlflow.kill()
    until(lambda: metric(at, "extproc_registry_up") == 0, what="the metric says that the registry is away")
    assert pools(at, "fraud") == {"llama"}

    at.stack.servers["gateway"].kill()
    at.restart()
    assert pools(at, "fraud") == {"llama"}
    assert version(at, "fraud") == "1"
    create(at, "again", "fraud")  # by what is kept of the registry
    assert pools(at, "again") == {"llama"}
    served = [{"entity_name": "unheard", "entity_version": "@champion"}]
    refused = at.call("POST", API, {"name": "other", "config": {"served_entities": served}})
    assert refused.status == 503
    assert "got '@champion' of 'unheard'" in refused.json["message"]
    assert metric(at, "extproc_registry_up") == 0

    mlflow.start()
    mlflow.alias("fraud", "champion", 2)
    until(lambda: version(at, "fraud") == version(at, "again") == "2", within_s=90, what="both have caught up")
    assert pools(at, "fraud") == {"phi4"}
    assert metric(at, "extproc_registry_up") == 1
    assert metric(at, "extproc_registry_answer_age_seconds") < 30


PLAN: dict[str, Any] = {
    "baseline": "current",
    "canary": "next",
    "steps": [{"setWeight": 50}, {"pause": {}}],
    "noveltyPeriod": 0,
    "bakeTime": 0,
}


def test_an_alias_that_moves_begins_the_plan_of_the_endpoint(at: Behind, mlflow: Mlflow) -> None:
    mlflow.model("rank", "llama", "phi4", "phi4")
    mlflow.alias("rank", "champion", 1)
    served = [{"name": name, "entity_name": "rank", "entity_version": "@champion"} for name in ("current", "next")]
    config = {"served_entities": served, "traffic_config": split(current=100, next=0)}
    at.api("POST", "", {"name": "rank", "config": config, "rollout": PLAN})

    def phase() -> str:
        got = at.call("GET", f"{API}/rank/rollouts")
        return str(got.json["phase"]) if got.status == 200 else ""

    def half() -> bool:
        by = Counter(at.ask("rank", x_user_id=user).endpoint.partition("-")[0] for user in USERS)
        return 25 <= by["phi4"] <= 75 and by["llama"] + by["phi4"] == len(USERS)

    mlflow.alias("rank", "champion", 2)
    until(half, within_s=30, what="half of the users are on version 2")
    assert (version(at, "rank"), version(at, "rank", "next")) == ("1", "2")
    begun = at.api("GET", "/rank/rollouts")
    assert begun["events"][0]["who"] == "registry:mlflow"

    mlflow.alias("rank", "champion", 1)
    until(lambda: pools(at, "rank") == {"llama"}, within_s=30, what="the rollout is taken back with its alias")
    assert phase() == "Degraded"

    mlflow.alias("rank", "champion", 3)
    until(lambda: at.api("GET", "/rank/rollouts")["id"] != begun["id"], within_s=30, what="version 3 has a rollout of its own")
    until(half, within_s=30, what="half of the users are on version 3")
    at.api("POST", "/rank/rollouts/promote?full=true")
    until(lambda: version(at, "rank") == "3", within_s=30, what="version 3 is promoted")
    until(lambda: pools(at, "rank") == {"phi4"}, within_s=30, what="everybody is on version 3")
    assert phase() == "Healthy"
    assert version(at, "rank", "next") == "1"
    assert entity(at, "rank")["entity_version"] == "@champion"
