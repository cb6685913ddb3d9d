"""Serving endpoints of a whole gateway: changed at the desk, seen by the next request, kept over a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extproc.app.build import build
from extproc.app.endpoints import ServingEndpoints
from extproc.app.service import Service
from extproc.control.changes import Create, Delete, UpdateConfig
from extproc.control.store import StoreUnavailable
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.base import SettingsError
from extproc.settings.commands import GatewaySettings
from tests.app.running import chat, exchange, headers_of, part, running, until
from tests.control.desks import document, split
from tests.fakes.page import read_page

REQUESTS = "extproc_serving_requests_total"
HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "secure_serving": False,
}


def gateway(directory: Path, **settings: Any) -> Service:
    """Two pools, whose models an endpoint may name; the second one by a name of its own."""
    file = directory / "gateway.yaml"
    routes = [
        {"models": ["model-A"], "pool": "one"},
        {"models": ["model-B"], "pool": "two", "entities": [{"name": "main.models.b", "version": 2, "path": "/predict"}]},
    ]
    pools = [{"name": name, "endpoints": {"static": [f"127.0.0.1:{port}"]}} for name, port in (("one", 1), ("two", 2))]
    config = {"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": pools, "routes": routes}
    file.write_text(json.dumps(config))
    return build(GatewaySettings(**HERE, config_file=str(file), **settings))


def desk_of(service: Service) -> Any:
    return part(service, ServingEndpoints).desk


async def asked(port: int, path: str, body: bytes) -> tuple[dict[str, str], pb.ProcessingResponse]:
    answers = await exchange(port, chat(body, path=path))
    return headers_of(answers[0]), answers[-1]


async def test_a_change_is_seen_by_the_next_request(tmp_path: Path) -> None:
    service = gateway(tmp_path)
    async with running(service) as ports:
        desk = desk_of(service)
        path, body = "/serving-endpoints/chat/invocations", b'{"messages":[]}'
        answers = await exchange(ports.grpc, chat(body, path=path))
        assert answers[0].immediate_response.status.code == 404
        assert json.loads(answers[0].immediate_response.body)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
        await desk.apply(Create(document(a=100, b=0)), "test")
        headers, last = await asked(ports.grpc, path, body)
        assert headers[":path"] == "/v1/chat/completions"
        assert headers["x-gateway-destination-endpoint"] == "127.0.0.1:1"
        assert b'"model":"model-A"' in last.request_body.response.body_mutation.streamed_response.body
        await desk.apply(UpdateConfig("chat", split(a=0, b=100)), "test")
        headers, _ = await asked(ports.grpc, path, body)
        assert headers["x-gateway-destination-endpoint"] == "127.0.0.1:2"
    counted = read_page(service.telemetry.instruments, REQUESTS)
    assert counted[f'{REQUESTS}{{reason="only entity",served_entity="b",serving_endpoint="chat"}}'] == 1


async def test_an_entity_is_what_a_route_lists(tmp_path: Path) -> None:
    service = gateway(tmp_path)
    async with running(service) as ports:
        entity = {"name": "b", "entity_name": "main.models.b", "entity_version": "2"}
        await desk_of(service).apply(Create({"name": "e", "config": {"served_entities": [entity]}}), "test")
        headers, _ = await asked(ports.grpc, "/serving-endpoints/e/invocations", b'{"instances":[1]}')
        assert headers[":path"] == "/predict"
        assert headers["x-gateway-destination-endpoint"] == "127.0.0.1:2"


async def test_a_database_keeps_them_over_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/endpoints.db"
    first = gateway(tmp_path, database_url=url)
    async with running(first):
        await desk_of(first).apply(Create(document(a=50, b=50)), "test")
    second = gateway(tmp_path, database_url=url)
    async with running(second) as ports:
        headers, _ = await asked(ports.grpc, "/v1/chat/completions", b'{"model":"chat","user":"u"}')
        assert headers["x-gateway-destination-endpoint"] in ("127.0.0.1:1", "127.0.0.1:2")


async def test_what_was_counted_of_an_endpoint_goes_with_it(tmp_path: Path) -> None:
    service = gateway(tmp_path)
    endpoints = part(service, ServingEndpoints)
    endpoints._look_s = 0.01
    for grace in endpoints._counting._graces:
        grace._grace_s = 0.05
    async with running(service) as ports:
        await endpoints.desk.apply(Create(document(a=100)), "test")
        await asked(ports.grpc, "/v1/chat/completions", b'{"model":"chat"}')
        assert read_page(service.telemetry.instruments, REQUESTS)
        await endpoints.desk.apply(Delete("chat"), "test")

        async def forgotten() -> bool:
            return not read_page(service.telemetry.instruments, REQUESTS)

        await until(forgotten)


async def test_a_store_that_can_t_be_asked_keeps_the_service_unready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = gateway(tmp_path)
    endpoints = part(service, ServingEndpoints)
    store = endpoints.desk._replica.store
    away = True
    load = store.load

    async def loads() -> object:
        if away:
            raise StoreUnavailable("nobody is there")
        return await load()

    monkeypatch.setattr(store, "load", loads)
    async with running(service):
        assert endpoints.missing() == "serving endpoints, whose store can't be asked"
        away = False

        async def there() -> bool:
            return endpoints.missing() is None

        await until(there)


def test_an_address_that_is_none_is_told_with_all_other_problems(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--database-url: has the unknown scheme 'mysql'"):
        gateway(tmp_path, database_url="mysql://u:secret@host/x")


async def test_explaining_says_whom_an_external_entity_asks(tmp_path: Path) -> None:
    service = gateway(tmp_path, external_allow=("127.0.0.1:9",))
    async with running(service) as ports:
        model = {
            "name": "gpt",
            "provider": "openai",
            "task": "llm/v1/chat",
            "openai_config": {"openai_api_base": "http://127.0.0.1:9/v1", "openai_api_key_plaintext": "sk-not-shown"},
        }
        created = Create({"name": "ext", "config": {"served_entities": [{"name": "gpt", "external_model": model}]}})
        await desk_of(service).apply(created, "test")
        question = {"path": "/serving-endpoints/ext/invocations", "body": {"messages": []}}
        status, told = await post(ports.metrics, "/debug/explain", question)
    assert status == 200
    assert told["AskProvider"] == {"provider": "openai", "model": "gpt", "authority": "127.0.0.1:9", "address": "127.0.0.1:9"}
    assert "sk-not-shown" not in json.dumps(told)


async def post(port: int, path: str, question: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}{path}", json=question) as answer,
    ):
        return answer.status, await answer.json()
