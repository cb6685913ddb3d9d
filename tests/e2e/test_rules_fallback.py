"""Rules and fallback together, through a real Envoy: every attempt at a request is decided under the rule of the first, and
the audit has all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from extproc.cli.audit import COMMAND
from tests.e2e.attempts import cuts, says
from tests.e2e.parts import Answer, call
from tests.e2e.test_served_entities import BOTH, MESSAGES, Running, gateway, spec

pytestmark = [pytest.mark.e2e, pytest.mark.long]

HALF: dict[str, Any] = {"name": "half", "match": {"percentage": 50}, "entity": "b"}
BETA: dict[str, Any] = {"name": "beta", "match": {"headers": {"x-beta": {"present": True}}}, "entity": "b"}
TRIAL: dict[str, Any] = {"name": "trial", "match": {"body": {"metadata.trial": True}}, "split": {"b": 50, "c": 50}}
LONG: dict[str, Any] = {"name": "long", "match": {"expression": "size(body.messages) > 2"}, "entity": "b"}


def ruled(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**spec(a=100, b=0, c=0, **more), "rules": list(rules)}


async def ask(at: Running, path: str, request_id: str, body: dict[str, Any] = {}, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"x-request-id": request_id}
    model = {} if "invocations" in path else {"model": "chat"}
    return await asyncio.to_thread(call, at.url, path, MESSAGES | model | body, named)


async def rows(folder: Path, request_id: str, count: int) -> list[dict[str, Any]]:
    """Of the audit, the first attempt first, once so many are written."""
    async with asyncio.timeout(10):
        while True:
            flags = ["--audit-dir", str(folder), "--request-id", request_id, "--json"]
            result = await asyncio.to_thread(CliRunner().invoke, COMMAND, flags)
            assert result.exit_code == 0, result.output
            found = orjson.loads(result.stdout)["decisions"]
            if len(found) >= count:
                return sorted(found, key=lambda row: int(row["attempt"]))
            await asyncio.sleep(0.05)  # they are written four times a second


def told(row: dict[str, Any]) -> tuple[int, str, str, str, int]:
    return row["attempt"], row.get("rule", ""), row["entity"], row["why"], row["status"]


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize(
    ("rule", "body", "headers"),
    [(BETA, {}, {"x_beta": "1"}), (LONG, {"messages": MESSAGES["messages"] * 3}, {})],
    ids=["by a header", "by an expression"],
)
async def test_a_rule_s_entity_fails_and_the_next_is_asked_under_the_same_rule(
    envoy_binary: Path, tmp_path: Path, path: str, rule: dict[str, Any], body: dict[str, Any], headers: dict[str, str]
) -> None:
    async with gateway(envoy_binary, tmp_path, ruled(rule), {"b": says(503)}, audit=tmp_path / "audit") as at:
        got = await ask(at, path, "one", body, **headers)
        assert (got.status, got.headers["served-model-name"]) == (200, "a")
        assert at.servers.models[-1] == "model-a"
        assert [told(row) for row in await rows(tmp_path / "audit", "one", 2)] == [
            (1, rule["name"], "b", f"rule: {rule['name']}", 503),
            (2, rule["name"], "a", "fallback", 200),
        ]
        assert at.servers.models.count("model-a") == 1


async def test_a_rule_s_split_fails_on_one_side(envoy_binary: Path, tmp_path: Path) -> None:
    """Requests without a key are drawn, and every attempt has the draw of the first."""
    endpoint = ruled(TRIAL, sticky=False)
    async with gateway(envoy_binary, tmp_path, endpoint, {"b": cuts}, audit=tmp_path / "audit") as at:
        seen: Counter[tuple[str, ...]] = Counter()
        for number in range(24):
            got = await ask(at, BOTH[number % 2], f"trial-{number}", {"metadata": {"trial": True}})
            assert got.status == 200
            first = await rows(tmp_path / "audit", f"trial-{number}", 1)
            count = 2 if first[0]["entity"] == "b" else 1
            found = await rows(tmp_path / "audit", f"trial-{number}", count)
            assert {row["rule"] for row in found} == {"trial"}
            assert found[-1]["entity"] == got.headers["served-model-name"]
            seen[tuple(row["entity"] for row in found)] += 1
        assert set(seen) == {("b", "a"), ("c",)}


async def test_a_rule_for_a_share_of_requests_holds_for_all_attempts_of_one(envoy_binary: Path, tmp_path: Path) -> None:
    """Both sides fail at first, so each request has two attempts: none changes sides between them."""
    does = {"a": says(503), "b": says(503)}
    async with gateway(envoy_binary, tmp_path, ruled(HALF, sticky=False), does, audit=tmp_path / "audit") as at:
        sides: Counter[str] = Counter()
        for number in range(24):
            got = await ask(at, BOTH[number % 2], f"half-{number}")
            assert (got.status, got.headers["served-model-name"]) == (200, "c")
            found = await rows(tmp_path / "audit", f"half-{number}", 3)
            (rule,) = {row.get("rule", "") for row in found}
            assert [row["entity"] for row in found] == (["b", "a", "c"] if rule else ["a", "b", "c"])
            sides[rule] += 1
        assert set(sides) == {"", "half"}


async def test_an_arm_s_entity_fails_and_the_request_stays_in_its_arm(envoy_binary: Path, tmp_path: Path) -> None:
    arms = [{"name": "control", "weight": 50, "entity": "a"}, {"name": "treatment", "weight": 50, "entity": "b"}]
    endpoint = {**spec(a=100, b=0, c=0), "experiments": [{"name": "checkout", "arms": arms, "overrides": {"ann": "treatment"}}]}
    async with gateway(envoy_binary, tmp_path, endpoint, {"b": says(503)}, audit=tmp_path / "audit") as at:
        got = await ask(at, BOTH[0], "ann-1", x_user_id="ann")
        assert (got.status, got.headers["served-model-name"]) == (200, "a")
        found = await rows(tmp_path / "audit", "ann-1", 2)
        assert [(row["entity"], row["arms"], row["status"]) for row in found] == [
            ("b", ["checkout/treatment"], 503),
            ("a", ["checkout/treatment"], 200),
        ]
