"""One address for requests and for the API: what Envoy with envoy/serving-endpoints.yaml sends where."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from extproc.demo.envoy import config_path
from tests.e2e.attempts import Entity, attempts
from tests.e2e.parts import call
from tests.e2e.raw import IDLE_PAGE
from tests.e2e.upstream import Exchange, Upstream

pytestmark = pytest.mark.e2e

_API_PORT = 8101
"""By its usual number, of the server that stands in for the API."""


async def test_the_api_is_reached_without_ext_proc(envoy_binary: Path, tmp_path: Path) -> None:
    asked: list[Exchange] = []

    async def answer(exchange: Exchange) -> None:
        asked.append(exchange)
        await exchange.begin("application/json", status=409)
        await exchange.chunk(b'{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "it is there"}')
        await exchange.end()

    api = Upstream(answer)
    async with (
        api.listening(),
        attempts(envoy_binary, tmp_path, [Entity("a")], api=api.ports[_API_PORT]) as before,
    ):
        body = json.dumps({"name": "ep", "config": {"served_entities": []}}).encode()
        got = await before.ask(body, "/api/2.0/serving-endpoints?dry_run=true", {"authorization": "Bearer t"})
        assert (got.status, got.json["error_code"]) == (409, "RESOURCE_ALREADY_EXISTS")
        assert (asked[0].path, asked[0].body) == ("/api/2.0/serving-endpoints?dry_run=true", body)
        assert asked[0].headers["authorization"] == "Bearer t"
        got = await asyncio.to_thread(call, before.url, "/.well-known/databricks-config")
        assert (got.status, got.body) == (200, IDLE_PAGE)
        assert before.entities.attempts == []
        assert not await before.stats("ext_proc.streams_started")


@pytest.mark.parametrize("path", ["/api/chat", "/api/2.0", "/api/2.1/x", "/x/api/2.0/y", "/v1/x"])
async def test_all_else_is_asked_of_the_gateway(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    """Ollama's paths begin as the API's do."""
    async with attempts(envoy_binary, tmp_path, [Entity("a")]) as before:
        assert (await before.ask(path=path)).json == {"model": "a"}
        assert before.entities.attempts == [0, 1]


async def test_a_gateway_without_an_api_is_503_there_and_nowhere_else(envoy_binary: Path, tmp_path: Path) -> None:
    async with attempts(envoy_binary, tmp_path, [Entity("a")]) as before:
        assert (await before.ask(path="/api/2.0/serving-endpoints")).status == 503
        assert (await before.ask()).status == 200


def test_the_file_has_one_listener_for_the_world() -> None:
    """And the other has no socket."""
    document = yaml.safe_load(config_path("serving-endpoints.yaml").read_text())
    listeners = {each["name"]: each for each in document["static_resources"]["listeners"]}
    assert set(listeners) == {"clients", "attempts"}
    assert "address" not in listeners["attempts"]
    assert listeners["attempts"]["internal_listener"] == {}
