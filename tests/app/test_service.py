"""Services as wholes, on real ports."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.app import Ports, PortsTaken, Service, build
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings, EppSettings, GatewaySettings
from tests.app.running import chat, exchange, headers_of, pages_served, running, until
from tests.fakes import messages

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
}


@pytest.fixture(autouse=True)
def _over_each_transport(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HERE, "transport", transport)


class Page:
    """A model server's metrics page."""

    def __init__(self) -> None:
        self.waiting = 0
        self.port = 0

    async def answer(self, _: web.Request) -> web.Response:
        return web.Response(
            text=f'vllm:num_requests_waiting{{engine="0"}} {self.waiting}.0\n'
            f'vllm:num_requests_running{{engine="0"}} 1.0\nvllm:kv_cache_usage_perc{{engine="0"}} 0.5\n'
        )


@pytest.fixture
async def pages() -> AsyncIterator[list[Page]]:
    found = [Page(), Page()]
    async with pages_served(*found):
        yield found


async def get(port: int, path: str, **kwargs: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}", **kwargs) as answer:
        return answer.status, await answer.text()


async def health(port: int, service: str) -> str:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


async def test_router_sets_the_model_and_echoes_the_body() -> None:
    body = json.dumps({"model": "llama", "messages": []}).encode()
    async with running(build(BbrSettings(**HERE))) as ports:
        answers = await exchange(ports.grpc, chat(body))
        assert headers_of(answers[0]) == {"x-gateway-model-name": "llama", "x-gateway-base-model-name": ""}
        assert answers[0].request_headers.response.clear_route_cache
        streamed = answers[1].request_body.response.body_mutation.streamed_response
        assert (streamed.body, streamed.end_of_stream) == (body, True)
        status, text = await get(ports.metrics, "/metrics")
        assert status == 200
        assert "bbr_success_total 1.0" in text
        assert 'bbr_model_requests_total{model="llama"} 1.0' in text


@pytest.mark.parametrize("command", ["bbr", "epp", "gateway"])
async def test_the_limit_of_inflated_bodies(command: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    pool = {"name": "p", "endpoints": {"static": ["127.0.0.1:1"]}}
    routes = [{"models": ["m"], "pool": "p"}]
    kind = {"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway"}
    file.write_text(json.dumps({**kind, "pools": [pool], "routes": routes}))
    flags = {**HERE, "max_inflated_body_bytes": "100"}
    service = {
        "bbr": lambda: build(BbrSettings(**flags)),
        "epp": lambda: build(EppSettings(**flags, endpoints=("127.0.0.1:1",))),
        "gateway": lambda: build(GatewaySettings(**flags, config_file=str(file))),
    }[command]()
    async with running(service) as ports:
        fits = chat(gzip.compress(b'{"model": "m"}'), content_encoding="gzip")
        assert not (await exchange(ports.grpc, fits))[0].HasField("immediate_response")
        large = chat(gzip.compress(b'{"model": "m", "prompt": "%s"}' % bytes(100).hex().encode()), content_encoding="gzip")
        (answer,) = await exchange(ports.grpc, large)
    assert answer.immediate_response.status.code == 413
    error = json.loads(answer.immediate_response.body)["error"]
    assert error["code"] == "body_too_large"
    assert error["message"] == "request body, inflated from gzip, is larger than the limit of 100 bytes"


async def test_early_mode_answers_before_the_body_is_whole(pages: list[Page], tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    pool = {"name": "p", "endpoints": {"static": [f"127.0.0.1:{pages[0].port}"]}}
    routes = [{"models": ["llama"], "pool": "p"}]
    config = {"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": [pool], "routes": routes}
    file.write_text(json.dumps(config))
    services = [
        build(BbrSettings(**HERE, early=True)),
        build(GatewaySettings(**HERE, early=True, config_file=str(file))),
    ]
    for service in services:
        async with running(service) as ports, aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
            stream: Any = channel.stream_stream(EXT_PROC_METHOD)()
            first, second = chat(b'{"model": "llama", "messages": [')
            second.request_body.end_of_stream = False
            await stream.write(first.SerializeToString())
            await stream.write(second.SerializeToString())
            assert headers_of(pb.ProcessingResponse.FromString(await stream.read()))["x-gateway-model-name"] == "llama"
            echoed = pb.ProcessingResponse.FromString(await stream.read()).request_body.response.body_mutation
            assert echoed.streamed_response.body == second.request_body.body
            await stream.done_writing()
            assert await stream.read() is aio.EOF


async def test_a_request_that_does_not_arrive_in_time() -> None:
    service = build(BbrSettings(**HERE | {"request_timeout": "160ms"}))
    async with running(service) as ports, aio.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        streams: list[Any] = [channel.stream_stream(EXT_PROC_METHOD)() for _ in range(3)]
        undecided, half, decided = streams
        whole = [message.SerializeToString() for message in chat(b'{"model": "llama"}')]
        piece = pb.ProcessingRequest()
        piece.request_body.body = b'{"model"'
        await undecided.write(whole[0])
        await half.write(whole[0])
        await half.write(piece.SerializeToString())
        for message in whole:
            await decided.write(message)
        assert [await decided.read(), await decided.read()]
        for late in (undecided, half):
            answer = pb.ProcessingResponse.FromString(await late.read()).immediate_response
            assert (answer.status.code, json.loads(answer.body)["error"]["code"]) == (408, "request_timeout")
            assert await late.read() is aio.EOF
            assert await late.code() is grpc.StatusCode.OK
        text = (await get(ports.metrics, "/metrics"))[1]
        assert 'extproc_request_errors_total{code="request_timeout"} 2.0' in text
        assert "extproc_streams_inflight 1.0" in text
        await decided.done_writing()
        assert await decided.read() is aio.EOF
        assert await decided.code() is grpc.StatusCode.OK


async def test_router_follows_its_adapters_file(tmp_path: Path) -> None:
    file = tmp_path / "adapters.yaml"
    file.write_text("base: [one]\n")
    async with running(build(BbrSettings(**HERE, adapters_file=str(file)))) as ports:

        async def base_of(model: str) -> str:
            return headers_of((await exchange(ports.grpc, chat(b'{"model": "%s"}' % model.encode())))[0])[
                "x-gateway-base-model-name"
            ]

        assert await base_of("one") == "base"
        file.write_text("base: [one, two]\n")
        await until(lambda: _is(base_of("two"), "base"))
        file.write_text("base: {broken\n")

        async def broken() -> bool:
            return f'extproc_file_errors{{file="{file}"}} 1.0' in (await get(ports.metrics, "/metrics"))[1]

        await until(broken)
        assert await base_of("two") == "base"
        file.write_text("base: [three]\n")
        await until(lambda: _is(base_of("three"), "base"))
        assert f'extproc_file_errors{{file="{file}"}} 0.0' in (await get(ports.metrics, "/metrics"))[1]


async def _is(value: Any, expected: object) -> bool:
    return bool(await value == expected)


async def test_picker_is_ready_after_the_first_pages_and_prefers_the_short_queue(pages: list[Page]) -> None:
    pages[0].waiting = 5
    endpoints = [f"127.0.0.1:{page.port}" for page in pages]
    async with running(build(EppSettings(**HERE, endpoints=tuple(endpoints)))) as ports:
        await until(lambda: _is(health(ports.health, "envoy.service.ext_proc.v3.ExternalProcessor"), "SERVING"))
        assert await health(ports.health, "inference-extension") == "SERVING"
        assert await health(ports.grpc, "") == "SERVING"
        answers = await exchange(ports.grpc, chat(b'{"model": "m"}', x_request_id="r1"))
        assert headers_of(answers[0]) == {"x-gateway-destination-endpoint": endpoints[1]}
        told = answers[0].dynamic_metadata.fields["envoy.lb"].struct_value.fields
        assert told["x-gateway-destination-endpoint"].string_value == endpoints[1]
        bodyless = await exchange(ports.grpc, chat(b"", path="/v1/models"))
        assert headers_of(bodyless[0]) == {"x-gateway-destination-endpoint": endpoints[1]}

        status, text = await get(ports.metrics, "/debug/endpoints")
        assert status == 200
        rows = {row["endpoint"]: row for row in json.loads(text)["pools"][0]["endpoints"]}
        assert rows[endpoints[0]]["signals"]["waiting"]["value"] == 5
        assert rows[endpoints[0]]["signals"]["waiting"]["age_s"] < 2
        assert all(row["in_flight"] == 0 for row in rows.values())
        _, text = await get(ports.metrics, "/debug/decisions", params={"request_id": "r1"})
        (decision,) = json.loads(text)["decisions"]
        assert decision["endpoint"] == endpoints[1]
        assert "best of 2" in decision["reason"]
        _, text = await get(ports.metrics, "/metrics")
        assert 'inference_pool_ready_pods{name="epp"} 2.0' in text
        assert 'inference_objective_request_total{model_name="m",priority="0",target_model_name="m"} 1.0' in text
        assert 'inference_objective_running_requests{model_name="m"} 0.0' in text


async def test_answers_are_measured_when_asked_for(pages: list[Page], tmp_path: Path) -> None:
    endpoint = f"127.0.0.1:{pages[0].port}"
    file = tmp_path / "gateway.yaml"
    pool = {"name": "p", "endpoints": {"static": [endpoint]}}
    route = {"models": ["m"], "pool": "p"}
    file.write_text(json.dumps({"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": [pool], "routes": [route]}))
    ways: list[Literal["auto", "on", "off"]] = ["auto", "on", "off"]
    for asked in ways:
        for service in (
            build(EppSettings(**HERE, endpoints=(endpoint,), response_metrics=asked)),
            build(GatewaySettings(**HERE, config_file=str(file), response_metrics=asked)),
        ):
            async with running(service) as ports:
                request = chat(b'{"model": "m"}')
                request[0].protocol_config.response_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
                document = b'{"usage":{"prompt_tokens":3,"completion_tokens":2}}'
                response = [messages.response_headers(), messages.response_body(document, end=True)]
                answers = await exchange(ports.grpc, [*request, *(pb.ProcessingRequest.FromString(raw) for raw in response)])
                assert answers[-1].response_body.response.body_mutation.streamed_response.body == document
                _, text = await get(ports.metrics, "/metrics")
            counted = 'inference_objective_output_tokens_sum{model_name="m",target_model_name="m"} 2.0'
            assert (counted in text) is (asked != "off")
            assert ("inference_objective_request_ttft_seconds" in text) is (asked != "off")


async def test_by_default_answers_are_measured_where_they_are_sent_anyway(pages: list[Page]) -> None:
    async with running(build(EppSettings(**HERE, endpoints=(f"127.0.0.1:{pages[0].port}",)))) as ports:
        modes = processing_mode_pb2.ProcessingMode
        for mode in (modes.FULL_DUPLEX_STREAMED, modes.NONE):
            request = chat(b'{"model": "m"}')
            request[0].protocol_config.response_body_mode = mode
            response = [messages.response_headers()]
            if mode != modes.NONE:
                response.append(messages.response_body(b'{"usage":{"completion_tokens":2}}', end=True))
            await exchange(ports.grpc, [*request, *(pb.ProcessingRequest.FromString(raw) for raw in response)])
        _, text = await get(ports.metrics, "/metrics")
    assert 'inference_objective_output_tokens_sum{model_name="m",target_model_name="m"} 2.0' in text
    assert 'inference_objective_request_ttft_seconds_count{model_name="m",streaming="false",target_model_name="m"} 1.0' in text
    assert "extproc_responses_unread_total{" not in text, "nobody asked for them"


async def test_picker_wants_a_model_where_the_api_does(pages: list[Page]) -> None:
    async with running(build(EppSettings(**HERE, endpoints=(f"127.0.0.1:{pages[0].port}",)))) as ports:
        answers = await exchange(ports.grpc, chat(b"{}"))
        assert answers[0].immediate_response.status.code == 400
        assert json.loads(answers[0].immediate_response.body)["error"]["code"] == "model_required"


async def test_gateway_routes_models_to_pools(pages: list[Page], tmp_path: Path) -> None:
    (tmp_path / "phi.yaml").write_text(f"endpoints: [{{name: phi-0, address: 127.0.0.1, port: {pages[1].port}}}]")
    config = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [
            {"name": "llama", "endpoints": {"static": [f"127.0.0.1:{pages[0].port}"]}},
            {"name": "phi4", "endpoints": {"file": "phi.yaml"}},
        ],
        "routes": [{"models": ["llama"], "pool": "llama"}, {"models": ["phi"], "pool": "phi4"}],
        "adaptersFile": "adapters.yaml",
    }
    (tmp_path / "adapters.yaml").write_text("phi: [sql]\nnot-routed: [far]\n")
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config))
    async with running(build(GatewaySettings(**HERE, config_file=str(file)))) as ports:
        await until(lambda: _is(health(ports.health, ""), "SERVING"))
        for model, page in (("llama", pages[0]), ("phi", pages[1]), ("sql", pages[1])):
            answers = await exchange(ports.grpc, chat(b'{"model": "%s"}' % model.encode()))
            found = headers_of(answers[0])
            assert found["x-gateway-model-name"] == model
            assert found["x-gateway-destination-endpoint"] == f"127.0.0.1:{page.port}"
        (unknown,) = await exchange(ports.grpc, chat(b'{"model": "nobody"}'))
        assert unknown.immediate_response.status.code == 404
        error = json.loads(unknown.immediate_response.body)["error"]
        assert error["code"] == "model_not_found"
        assert "llama, phi" in error["message"]
        (models,) = await exchange(ports.grpc, chat(b"", path="/v1/models"))
        assert models.immediate_response.status.code == 200
        assert [card["id"] for card in json.loads(models.immediate_response.body)["data"]] == ["llama", "phi", "sql"]

        asked = {"path": "/v1/chat/completions", "body": {"model": "phi"}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{ports.metrics}/debug/explain", json=asked) as reply,
        ):
            told = await reply.json()
        assert told["RouteToPool"] == {"pool": "phi4"}
        (row,) = told["PickEndpoint"]["candidates"]
        assert row["signals"]["kv_usage"] == 0.5
        assert row["points"] == {
            "queue-scorer": 1.0,
            "kv-cache-utilization-scorer": 0.5,
            "prefix-cache-scorer": 0.0,
            "active-request-scorer": 1.0,
            "no-hit-lru-scorer": 1.0,
        }


async def test_everything_stale_fails_open_and_says_so() -> None:
    endpoints = ("127.0.0.1:1", "127.0.0.1:2")
    async with running(build(EppSettings(**HERE, endpoints=endpoints))) as ports:
        await until(lambda: _is(health(ports.health, ""), "SERVING"))
        answers = await exchange(ports.grpc, chat(b'{"model": "m"}'))
        assert headers_of(answers[0])["x-gateway-destination-endpoint"] in endpoints
        assert 'extproc_picks_without_load_total{name="epp"} 1.0' in (await get(ports.metrics, "/metrics"))[1]


async def test_a_peer_that_breaks_the_protocol_ends_its_stream_only() -> None:
    async with running(build(BbrSettings(**HERE))) as ports:
        twice = chat(b'{"model": "m"}')
        with pytest.raises(aio.AioRpcError, match="unexpected RequestHeaders"):
            await exchange(ports.grpc, [twice[0], twice[0]])
        assert len(await exchange(ports.grpc, twice)) == 2


async def test_ports_in_use_are_all_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken = {"grpc_port": one.getsockname()[1], "metrics_port": two.getsockname()[1]}
        with pytest.raises(PortsTaken) as caught:
            async with running(build(BbrSettings(**{**HERE, **taken}))):
                pass
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        f"ext_proc port {taken['grpc_port']}",
        f"metrics port {taken['metrics_port']}",
    ]


def test_every_problem_of_a_gateway_file_is_reported(tmp_path: Path) -> None:
    config = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [
            {"name": "a", "endpoints": {"static": ["nonsense", "127.0.0.1:99999"]}},
            {"name": "b", "endpoints": {"file": "missing.yaml"}},
        ],
        "routes": [{"models": ["m"], "pool": "a"}],
        "adaptersFile": "none.yaml",
        "scheduling": {"plugins": [{"type": "queue-scorr"}]},
    }
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config))
    with pytest.raises(SettingsError) as caught:
        build(GatewaySettings(**HERE, config_file=str(file)))
    text = str(caught.value)
    for part in (
        "scheduling.plugins[0].type",
        "pools[0].endpoints.static[0]",
        "pools[0].endpoints.static[1]",
        "missing.yaml: No such file",
        "adaptersFile",
    ):
        assert part in text
    assert text.count("queue-scorr") == 1


async def test_the_end_of_the_drain_lets_answers_go_on() -> None:
    """A stream whose answer is under way ends well, so that Envoy does not cut the answer; an undecided one is cancelled."""
    service = build(BbrSettings(**{**HERE, "drain_timeout": "50ms"}))
    stop = asyncio.Event()
    ports: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(service.run(stop, ports.set_result))
    async with aio.insecure_channel(f"127.0.0.1:{(await ports).grpc}") as channel:
        method: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        answering, undecided = method(), method()
        messages = chat(b'{"model": "m"}')
        for message in messages:
            await answering.write(message)
        assert (await answering.read()).HasField("request_headers")
        assert (await answering.read()).HasField("request_body")
        await answering.write(pb.ProcessingRequest(response_headers=pb.HttpHeaders()))
        assert (await answering.read()).HasField("response_headers")
        await undecided.write(messages[0])
        await until(lambda: _is(_streams(service), 2.0))
        stop.set()
        assert await answering.read() is aio.EOF
        assert await answering.code() is grpc.StatusCode.OK
        assert await undecided.code() is not grpc.StatusCode.OK
    await task


async def _streams(service: Service) -> float:
    return service.telemetry.streams.open.value
