"""Requests that are no LLM API's, through whole services: what a client sees with one pool and with several."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from extproc.app.build import build
from extproc.app.service import Service
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.commands import EppSettings, GatewaySettings
from tests.app.running import chat, exchange, headers_of, running
from tests.fakes.page import read_page
from tests.fakes.serving import TransportName

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "secure_serving": False,
    "max_body_bytes": 1000,
}
ONE, TWO = "127.0.0.1:1", "127.0.0.1:2"
"""Nobody listens there, which picks do not mind."""
PASSTHROUGH = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: passthrough-parser}, {type: queue-scorer}]
requestHandler: {parsers: [{pluginRef: passthrough-parser}]}
"""
ANYTHING = [b"{", b"[1]", b'"x"', b"\x00\x01", b'{"model":1}']


def gateway(directory: Path, pools: int, **more: object) -> Service:
    file = directory / "gateway.yaml"
    names = ["one", "two"][:pools]
    document = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [{"name": name, "endpoints": {"static": [at]}} for name, at in zip(names, (ONE, TWO), strict=False)],
        "routes": [{"models": [f"model-{name}"], "pool": name} for name in names],
        **more,
    }
    file.write_text(json.dumps(document))
    return build(GatewaySettings(**HERE, config_file=str(file)))


def epp(config_text: str | None = None, transport: TransportName = "h2") -> Service:
    return build(EppSettings(**HERE, endpoints=(ONE,), config_text=config_text, transport=transport))


def said(answers: list[pb.ProcessingResponse]) -> str:
    """Where the request goes, or status and code of the error."""
    first = answers[0]
    if first.HasField("immediate_response"):
        body = first.immediate_response.body
        return f"{first.immediate_response.status.code} {json.loads(body)['error']['code']}"
    return headers_of(first)["x-gateway-destination-endpoint"]


async def ask(service: Service, *requests: list[pb.ProcessingRequest]) -> list[str]:
    async with running(service) as ports:
        return [said(await exchange(ports.grpc, request)) for request in requests]


def asked(method: str, path: str, body: bytes = b"", **headers: str) -> list[pb.ProcessingRequest]:
    request = chat(body, path, **headers)
    for header in request[0].request_headers.headers.headers:
        if header.key == ":method":
            header.raw_value = method.encode()
    return request


async def test_a_picker_with_passthrough_alone_judges_no_body_and_holds_none() -> None:
    service = epp(PASSTHROUGH)
    assert await ask(service, *(chat(body) for body in ANYTHING), chat(b"{}"), chat(b"x" * 5000)) == [ONE] * 7
    unread = read_page(service.telemetry.instruments, "extproc_request_body_unread")
    assert unread == {'extproc_request_body_unread_total{reason="passthrough-parser"}': 7}


async def test_its_answer_does_not_wait_for_the_body() -> None:
    async with running(epp(PASSTHROUGH)) as ports:
        request = chat(b"x")
        request[1].request_body.end_of_stream = False
        (headers, piece) = await exchange(ports.grpc, request)
    assert headers_of(headers)["x-gateway-destination-endpoint"] == ONE
    assert piece.request_body.response.body_mutation.streamed_response.body == b"x"


async def test_with_another_parser_beside_it_llm_apis_are_judged() -> None:
    both = PASSTHROUGH.replace("[{type: passthrough", "[{type: openai-parser}, {type: passthrough").replace(
        "parsers: [", "parsers: [{pluginRef: openai-parser}, "
    )
    assert await ask(epp(both), chat(b"{"), chat(b"{", "/mcp")) == ["400 invalid_body", ONE]


@pytest.mark.parametrize("config", [None, PASSTHROUGH], ids=["upgrade", "passthrough"])
async def test_nobody_waits_for_a_second_message(config: str | None, transport: TransportName) -> None:
    """A transport that reads the first two messages at once must not do so where one is all that will come."""
    upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
    first = asked("GET", "/v1/realtime", b"never sent", **upgrade)[0]
    service = epp(config, transport=transport)
    async with running(service) as ports, aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        call: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )()
        await call.write(first)
        async with asyncio.timeout(5):
            answer = await call.read()
        assert headers_of(answer)["x-gateway-destination-endpoint"] == ONE
        await call.done_writing()


@pytest.mark.parametrize("path", ["/mcp", "/upload", "/files/1", "/v1/threads/t/messages"])
async def test_a_picker_judges_no_other_path(path: str) -> None:
    assert await ask(epp(), *(chat(body, path) for body in ANYTHING)) == [ONE] * len(ANYTHING)


async def test_a_gateway_of_one_pool_neither(tmp_path: Path) -> None:
    requests = [chat(body, "/mcp") for body in ANYTHING]
    assert await ask(gateway(tmp_path, 1), *requests, chat(b"{")) == [ONE] * len(ANYTHING) + ["400 invalid_body"]


async def test_a_gateway_of_several_pools_needs_a_model_or_a_default_pool(tmp_path: Path) -> None:
    requests = [chat(body, "/mcp") for body in ANYTHING]
    named = chat(b'{"model":"model-two"}', "/mcp")
    assert await ask(gateway(tmp_path, 2), *requests, named) == ["400 model_required"] * len(ANYTHING) + [TWO]
    assert await ask(gateway(tmp_path, 2, defaultPool="two"), *requests) == [TWO] * len(ANYTHING)
    assert await ask(gateway(tmp_path, 2, defaultPool="two"), chat(b"{}")) == ["400 model_required"]


async def test_a_default_pool_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"defaultPool: no pool is called 'three' \(there are: one, two\)"):
        gateway(tmp_path, 2, defaultPool="three")


@pytest.mark.parametrize("pools", [1, 2])
async def test_what_browsers_and_checks_ask(tmp_path: Path, pools: int) -> None:
    asked_for = [
        asked("OPTIONS", "/v1/chat/completions", origin="http://x", access_control_request_method="POST"),
        asked("HEAD", "/v1/chat/completions"),
        asked("GET", "/health"),
        asked("GET", "/v1/responses/resp_1"),
        asked("DELETE", "/v1/responses/resp_1"),
        asked("POST", "/v1/responses/resp_1/cancel"),
        asked("GET", "/v1/threads/t/messages"),
    ]
    assert await ask(gateway(tmp_path, pools), *asked_for) == [ONE] * len(asked_for)


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_list_of_models(tmp_path: Path, path: str, method: str) -> None:
    async with running(gateway(tmp_path, 2)) as ports:
        (answer,) = await exchange(ports.grpc, asked(method, path))
    assert answer.immediate_response.status.code == 200
    assert [each["id"] for each in json.loads(answer.immediate_response.body)["data"]] == ["model-one", "model-two"]
