"""Fallback while model servers die: kill -9 of whole pools, the first or the first two of three, before the gateway knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.stack import LLAMA, PHI4
from tests.e2e.parts import Answer, Endpoints, Stack, call, chat, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

MODELS = {"a": LLAMA.model, "b": "third", "c": PHI4.model}
"""Of each entity: by the pool's first two servers, by its third alone, and by the other pool."""


def endpoint(name: str, entities: str) -> dict[str, Any]:
    served = [{"name": each, "entity_name": MODELS[each]} for each in entities]
    routes = [{"served_entity_name": each, "traffic_percentage": 100 if each == entities[0] else 0} for each in entities]
    return {
        "name": name,
        "config": {"served_entities": served, "traffic_config": {"routes": routes}},
        "ai_gateway": {"fallback_config": {"enabled": True}},
    }


@pytest.fixture(scope="module")
def standing(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Endpoints]]:
    directory = tmp_path_factory.mktemp("killed")
    endpoints = Endpoints(directory, {pool: ["--model", ",".join(MODELS.values())] for pool in ("llama", "phi4")})
    stack = Stack("serving-endpoints", envoy_binary, endpoints, directory)
    path = directory / "gateway.yaml"
    config = json.loads(path.read_text())
    first = config["pools"][0]["endpoints"]["static"]
    config["pools"].append({"name": "third", "endpoints": {"static": [first.pop()]}})
    config["routes"].append({"models": [MODELS["b"]], "pool": "third"})
    config["servingEndpoints"] = [endpoint("two", "ac"), endpoint("three", "abc")]
    path.write_text(json.dumps(config))
    try:
        endpoints.start()
        stack.start()
        yield stack, endpoints
    finally:
        stack.stop()
        endpoints.stop()


def ask(stack: Stack, name: str, *, below: bool, stream: bool) -> Answer:
    body = {**chat(stream=stream), "model": name}
    if below:
        del body["model"]
    return call(stack.url, f"/serving-endpoints/{name}/invocations" if below else "/v1/chat/completions", body)


@pytest.mark.parametrize(("name", "dead"), [("two", 2), ("three", 3)])
@pytest.mark.parametrize("below", [True, False], ids=["by the path", "by the model"])
def test_who_is_left_serves_at_once(standing: tuple[Stack, Endpoints], name: str, dead: int, below: bool) -> None:
    stack, endpoints = standing
    until(
        lambda: ask(stack, name, below=below, stream=False).headers.get("served-model-name") == "a", what="the first one serves"
    )
    victims = [f"llama-{number}" for number in range(1, dead + 1)]
    try:
        for victim in victims:
            endpoints.kill(victim)
        for number in range(6):
            answer = ask(stack, name, below=below, stream=number % 2 == 1)
            assert (answer.status, answer.headers["served-model-name"]) == (200, "c"), answer
            assert answer.body.endswith(b"data: [DONE]\n\n") == (number % 2 == 1)
    finally:
        endpoints.revive(*victims)
