"""Rules, segments and experiments through a real Envoy, as docs/experiments.md has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from extproc.app.endpoints import ServingEndpoints
from extproc.control.changes import UpdateConfig
from tests.app.running import part
from tests.e2e.parts import Answer, call
from tests.e2e.test_served_entities import INVOCATIONS, MESSAGES, Running, gateway, spec
from tests.fakes.page import read_page

pytestmark = pytest.mark.e2e

SEGMENTS: list[dict[str, Any]] = [
    {"name": "gold", "header": {"name": "x-tier", "exact": "gold"}},
    {"name": "vip", "keys": ["ann", *(f"vip-{user}" for user in range(40))]},
]
RULES: list[dict[str, Any]] = [
    {"name": "closed", "match": {"body": {"metadata.trial": True}}, "refuse": {"status": 403, "message": "The trial is over"}},
    {"name": "beta", "match": {"headers": {"x-beta": {"present": True}}}, "entity": "b"},
    {"name": "long", "match": {"expression": 'size(body.messages) > 2 && !("x-urgent" in headers)'}, "entity": "c"},
]
EXPERIMENT: dict[str, Any] = {
    "name": "checkout",
    "match": {"segments": ["vip", "gold"]},
    "arms": [{"name": "control", "weight": 50, "entity": "a"}, {"name": "treatment", "weight": 50, "entity": "b"}],
    "overrides": {"ann": "treatment"},
}
EXPOSURES = "extproc_experiment_exposures_total"


@pytest_asyncio.fixture
async def running_gateway(envoy_binary: Path, tmp_path: Path) -> AsyncIterator[Running]:
    endpoint = {**spec(a=100, b=0, c=0, fallback=False), "rules": RULES, "experiments": [EXPERIMENT]}
    async with gateway(envoy_binary, tmp_path, endpoint, segments=SEGMENTS) as made:
        yield made


async def ask(gateway: Running, body: dict[str, Any] = {}, path: str = INVOCATIONS, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.to_thread(call, gateway.url, path, MESSAGES | body, named)


def served(answer: Answer) -> str:
    assert answer.status == 200, answer
    return answer.headers["served-model-name"]


async def test_a_rule_sends_and_a_rule_refuses(running_gateway: Running) -> None:
    assert served(await ask(running_gateway)) == "a"
    assert served(await ask(running_gateway, x_beta="1")) == "b"
    turns = [{"role": "user", "content": "hello"}] * 3
    assert served(await ask(running_gateway, {"messages": turns})) == "c"
    assert served(await ask(running_gateway, {"messages": turns}, x_urgent="1")) == "a"
    for path in (INVOCATIONS, "/serving-endpoints/chat/served-models/a/invocations"):
        refused = await ask(running_gateway, {"metadata": {"trial": True}}, path)
        assert refused.status == 403
        assert b"The trial is over (rule `closed`)" in refused.body


async def test_an_experiment_of_a_segment(running_gateway: Running) -> None:
    users = [f"vip-{user}" for user in range(40)]
    first = {user: served(await ask(running_gateway, x_user_id=user)) for user in users}
    assert set(first.values()) == {"a", "b"}
    assert {user: served(await ask(running_gateway, x_user_id=user)) for user in users} == first
    assert served(await ask(running_gateway, x_user_id="ann")) == "b"
    assert {served(await ask(running_gateway, x_user_id=f"other-{user}")) for user in range(20)} == {"a"}
    counted = read_page(running_gateway.service.telemetry.instruments, EXPOSURES)
    assert sum(counted.values()) == 81
    assert [value for labels, value in counted.items() if 'how="override"' in labels] == [1]

    more = [{**EXPERIMENT, "arms": [{**EXPERIMENT["arms"][0], "weight": 20}, {**EXPERIMENT["arms"][1], "weight": 80}]}]
    desk = part(running_gateway.service, ServingEndpoints).desk
    await desk.apply(UpdateConfig("chat", {"experiments": more}), "test")
    then = {user: served(await ask(running_gateway, x_user_id=user)) for user in users}
    assert all(then[user] == "b" for user in users if first[user] == "b"), "who is in an arm that grows stays there"
    assert sum(entity == "b" for entity in then.values()) > sum(entity == "b" for entity in first.values())
