"""Two regions behind a real Envoy, as docs/regions.md has them: local first, away when that is empty or full, and back; and
what may not leave, does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.stack import LLAMA
from tests.e2e.parts import Answer, Endpoints, Stack, call, chat, until

pytestmark = pytest.mark.e2e

WEST, NORTH = "llama", "phi4"
"""The pools, by the names of their servers; both serve the same model here."""
PLAIN = "plain"
"""A model that no serving endpoint has."""
OTHER = "other"
REGIONS: dict[str, Any] = {
    "self": "eu-west",
    "names": ["eu-west", "eu-north"],
    "costs": {"eu-west": {"eu-north": 2.5}},
    "trustHeader": True,
    "spill": {"enter": 1.0, "leave": 0.7, "enterAfter": "200ms", "leaveAfter": "500ms"},
    "residency": [{"name": "clinics", "match": {"headers": {"x-tenant": "clinic"}}, "stay_in": "own"}],
}
ENDPOINT: dict[str, Any] = {
    "name": "chat",
    "config": {"served_entities": [{"name": "only", "entity_name": LLAMA.model}]},
    "residency": [
        {"name": "here", "match": {"headers": {"x-here": {"present": True}}}, "stay_in": ["eu-west"], "entities": ["only"]}
    ],
}

PAIR: dict[str, Any] = {
    "name": "pair",
    "config": {
        "served_entities": [{"name": "a", "entity_name": LLAMA.model}, {"name": "b", "entity_name": OTHER}],
        "traffic_config": {
            "routes": [
                {"served_entity_name": "a", "traffic_percentage": 100},
                {"served_entity_name": "b", "traffic_percentage": 0},
            ]
        },
    },
    "ai_gateway": {"fallback_config": {"enabled": True}},
    "residency": [
        {"name": "a-north", "entities": ["a"], "stay_in": ["eu-north"]},
        {"name": "b-clinics", "entities": ["b"], "match": {"headers": {"x-tenant": "clinic"}}, "stay_in": ["eu-north"]},
    ],
}

ALONE: dict[str, Any] = {
    "name": "alone",
    "config": {"served_entities": [{"name": "only", "entity_name": LLAMA.model}]},
    "ai_gateway": {"fallback_config": {"enabled": True}},
}


class World:
    """The gateway and its model servers."""

    def __init__(self, stack: Stack, endpoints: Endpoints) -> None:
        self.stack = stack
        self.endpoints = endpoints
        self._asked = 0

    def ask(self, model: str = PLAIN, more: Mapping[str, Any] = {}, /, **headers: str) -> tuple[Answer, dict[str, Any]]:
        """The answer, and the decision; with more in the body."""
        self._asked += 1
        given = {name.replace("_", "-"): value for name, value in headers.items()} | {"x-request-id": f"r{self._asked}"}
        answer = call(self.stack.url, "/v1/chat/completions", {**chat(), "model": model, **more}, given)
        return answer, self.stack.decision(f"r{self._asked}")

    def served(self, model: str = PLAIN, **headers: str) -> tuple[str | None, str | None]:
        """Region and reason."""
        answer, decision = self.ask(model, **headers)
        assert answer.status == 200, answer
        assert decision["pool"] == (WEST if decision["region"] == "eu-west" else NORTH)
        return decision["region"], decision["region_reason"]

    def of(self, pool: str) -> list[str]:
        return [name for name in self.endpoints.children if name.startswith(pool)]

    def spilling(self, reason: str, pool: str = WEST) -> bool:
        page = call(self.stack.pages["gateway"], "/metrics?name[]=extproc_region_spilling").body.decode()
        (line,) = [line for line in page.splitlines() if f'name="{pool}"' in line and f'reason="{reason}"' in line]
        return line.endswith(" 1.0")

    def share(self) -> float:
        """Of the requests for the pool at home that go elsewhere."""
        page = call(self.stack.pages["gateway"], "/metrics?name[]=extproc_region_spill_share").body.decode()
        (line,) = [line for line in page.splitlines() if f'name="{WEST}"' in line]
        return float(line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def standing(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("regions")
    endpoints = Endpoints(directory, {pool: ["--model", f"{PLAIN},{OTHER},{LLAMA.model}"] for pool in (WEST, NORTH)})
    stack = Stack("serving-endpoints", envoy_binary, endpoints, directory, flags=["--audit-dir", str(directory / "audit")])
    path = directory / "gateway.yaml"
    config = json.loads(path.read_text())
    for pool, region in zip(config["pools"], REGIONS["names"], strict=True):
        pool["region"] = region
    config["routes"] = [{"models": [PLAIN, OTHER, LLAMA.model], "pools": [WEST, NORTH]}]
    path.write_text(json.dumps({**config, "regions": REGIONS, "servingEndpoints": [ENDPOINT, PAIR, ALONE]}))
    try:
        endpoints.start()
        stack.start()
        yield World(stack, endpoints)
    finally:
        stack.stop()
        endpoints.stop()


@pytest.fixture
def world(standing: World) -> Iterator[World]:
    """Everything up and idle, and requests served in their region, before and after."""
    yield standing
    dead = [name for name, child in standing.endpoints.children.items() if child.pid is None]
    standing.endpoints.revive(*dead)
    for name in standing.endpoints.children:
        standing.endpoints.load(name)
    homes = {region: (region, "local") for region in REGIONS["names"]}
    until(lambda: {region: standing.served(x_gateway_region=region) for region in homes} == homes, what="all are at home again")


def test_each_is_served_in_its_own_region(world: World) -> None:
    for model in (PLAIN, "chat"):
        assert world.served(model) == ("eu-west", "local")
        assert world.served(model, x_gateway_region="eu-north") == ("eu-north", "local")
        assert world.served(model, x_gateway_region="mars") == ("eu-west", "local")
    assert world.stack.counted("extproc_region_unknown_total") == [2]


def test_the_local_pool_dies_and_comes_back(world: World) -> None:
    for name in world.of(WEST):
        world.endpoints.kill(name)
    until(lambda: world.ask()[0].status == 200, what="somebody else serves")
    for model in (PLAIN, "chat"):
        assert world.served(model) == ("eu-north", "spill_empty")
    assert world.ask()[1]["region_cost"] == 2.5
    assert world.spilling("empty")

    for model, header, rule, where in (
        (PLAIN, {"x_tenant": "clinic"}, "clinics", "eu-west"),
        ("chat", {"x_tenant": "clinic"}, "clinics", "eu-west"),
        ("chat", {"x_here": "1"}, "here", "eu-west"),
    ):
        refused, decision = world.ask(model, **header)
        assert (refused.status, decision) == (503, {})
        error = refused.json["error"]
        assert error["code"] == "region_forbidden"
        assert error["message"].startswith(
            f"the request has to stay in {where} (residency: {rule}), and no pool there can serve it"
        )
    assert world.served(x_tenant="clinic", x_gateway_region="eu-north") == ("eu-north", "local")

    world.endpoints.revive(*world.of(WEST))
    until(lambda: world.served() == ("eu-west", "local"), what="it is served at home again")
    assert not world.spilling("empty")
    assert world.served("chat", x_here="1", x_tenant="clinic") == ("eu-west", "local")


def test_a_full_pool_spills_until_it_has_room(world: World) -> None:
    for name in world.of(WEST):
        world.endpoints.load(name, waiting=20)
    until(lambda: world.served() == ("eu-north", "spill_saturated"), what="it spills")
    assert world.spilling("saturated")
    assert world.served(x_tenant="clinic") == ("eu-west", "local"), "full is no reason to leave where it has to stay"
    for name in world.of(NORTH):
        world.endpoints.load(name, waiting=20)
    until(lambda: world.served() == ("eu-west", "local"), what="nobody has room, so it stays")
    for name in world.of(NORTH):
        world.endpoints.load(name)
    until(lambda: world.served() == ("eu-north", "spill_saturated"), what="the other one has room again")
    for name in world.of(WEST):
        world.endpoints.load(name, waiting=1)
    until(lambda: world.served() == ("eu-west", "local"), what="it is served at home again")


def test_an_entity_that_may_not_serve_is_passed_over_for_the_next(world: World) -> None:
    assert world.served("pair") == ("eu-north", "residency")
    for name in world.of(NORTH):
        world.endpoints.kill(name)

    for _ in range(3):
        assert world.served("pair") == ("eu-west", "local")
    until(lambda: world.spilling("empty", NORTH), what="it is known that nobody is there")
    assert world.served("pair") == ("eu-west", "local")
    refused, _ = world.ask("pair", x_tenant="clinic")
    assert (refused.status, refused.json["error"]["code"]) == (503, "region_forbidden")


def test_an_attempt_goes_to_no_pool_where_one_has_failed(world: World) -> None:
    """At home it is full, so all of them go to the other region, which dies: who is left is home."""
    for name in world.of(WEST):
        world.endpoints.load(name, waiting=40)
    until(lambda: world.share() == 1.0, what="all of its requests go elsewhere")
    assert world.served("pair", x_user_id="ann") == ("eu-north", "residency")
    for name in world.of(NORTH):
        world.endpoints.kill(name)
    for number in range(3):
        answer, decision = world.ask("pair", x_user_id=f"user-{number}")
        assert (answer.status, answer.headers["served-model-name"], decision["region"]) == (200, "b", "eu-west"), answer


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_entity_is_served_elsewhere_before_it_is_known_that_its_pool_died(world: World, stream: bool) -> None:
    """There is no other entity to fall back to."""
    until(lambda: world.share() == 0.0, what="nobody spills any more for what was before")
    assert world.served("alone") == ("eu-west", "local")
    for name in world.of(WEST):
        world.endpoints.kill(name)
    answer, decision = world.ask("alone", {"stream": stream})
    assert (answer.status, decision["region"]) == (200, "eu-north"), answer
    assert decision["region_reason"] in ("spill_failed", "spill_empty")
    assert decision["served_entity_reason"] in ("fallback", "only entity")
    assert answer.body.endswith(b"data: [DONE]\n\n") == stream


def test_it_is_explained_and_counted(world: World) -> None:
    question = {
        "path": "/v1/chat/completions",
        "body": chat(),
        "headers": {"x-gateway-region": "eu-north", "x-tenant": "clinic"},
    }
    told = call(world.stack.pages["gateway"], "/debug/explain", question).json["ChooseRegion"]
    assert told == {
        "origin": "eu-north",
        "region": "eu-north",
        "pool": NORTH,
        "reason": "local",
        "cost": 0.0,
        "stay_in": ["eu-north"],
        "residency": ["clinics"],
        "pools": [
            {"pool": NORTH, "region": "eu-north", "cost": 0.0, "state": "open", "share_elsewhere": 0.0},
            {"pool": WEST, "region": "eu-west", "cost": 2.5, "state": "open", "share_elsewhere": 0.0},
        ],
    }
    (spills,) = world.stack.counted("extproc_region_spills_total")
    for name in world.of(WEST):
        world.endpoints.kill(name)
    until(lambda: world.ask()[0].status == 200, what="somebody else serves")
    world.ask()
    assert world.stack.counted("extproc_region_spills_total")[0] >= spills + 2
