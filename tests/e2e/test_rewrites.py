"""Rewrites and shedding with a real Envoy: what the model server gets, and what the client sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.stack import LLAMA
from extproc.domain import Endpoint
from extproc.protocol import StreamLimits
from extproc.request import scanner_of
from extproc.traffic import ModelRewrite, ObjectiveTable, RewriteRule, RewriteTable, RewriteTarget
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.deployment import Deployment
from tests.fakes.encoders import encode
from tests.fakes.serving import TransportName

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

CHAT = "/v1/chat/completions"
FDS = "FULL_DUPLEX_STREAMED"
NEW = "the/model-that-serves-é"
SPELLED = json.dumps(NEW, ensure_ascii=False).encode()
RULE = RewriteTable([ModelRewrite("ns/r", 0.0, (RewriteRule(("m",), (RewriteTarget(NEW),)),))])
BODY = b'{ "temperature": 1.0, "n": 12345678901234567890, "model" : "m", "messages": ["\\u00e9"] }'


class Passage:
    """Envoy, an endpoint picker of ours, and a model server that answers in the name that it was asked for."""

    def __init__(self, url: str, deployment: Deployment) -> None:
        self.url = url
        self.deployment = deployment
        self.came: list[Exchange] = []

    async def ask(self, body: bytes = BODY, path: str = CHAT, **headers: str) -> Answer:
        return await asyncio.to_thread(call, self.url, path, body, {k.replace("_", "-"): v for k, v in headers.items()})

    @property
    def last(self) -> Exchange:
        return self.came[-1]

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}: (.*)\r$", self.last.head.decode("latin-1"))
        return found[1] if found else None

    async def answer(self, exchange: Exchange) -> None:
        self.came.append(exchange)
        named = re.search(rb'"model"\s*:\s*("[^"]*")', exchange.body)
        model = named[1] if named else b'"none"'
        if b'"stream":true' in exchange.body:
            await exchange.begin("text/event-stream")
            for piece in (b'data: {"id":1,"mod', b'el":', model[:5], model[5:], b',"n":1}\n\n', b"data: [DONE]\n\n"):
                await exchange.chunk(piece)
        else:
            await exchange.begin("application/json")
            await exchange.chunk(b'{"model": %b, "choices": []}' % model)
        await exchange.end()


@contextlib.asynccontextmanager
async def passage(
    binary: Path, directory: Path, transport: TransportName, mode: str = FDS, *, early: bool = False
) -> AsyncIterator[Passage]:
    deployment = Deployment()
    through: Passage | None = None

    async def answer(exchange: Exchange) -> None:
        assert through is not None
        await through.answer(exchange)

    upstream = Upstream(answer)
    ports = upstream.ports

    def change(document: Any) -> None:
        manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        for each in manager["http_filters"]:
            if each["name"].endswith("ext_proc"):
                each["typed_config"]["processing_mode"]["request_body_mode"] = mode
                if mode != FDS:
                    each["typed_config"]["processing_mode"]["request_trailer_mode"] = "SKIP"
                if mode == "STREAMED":
                    each["typed_config"]["send_body_without_waiting_for_header_response"] = True

    deployment.add_pool("p", [Endpoint("127.0.0.1", ports[LLAMA.ports[0]])])
    deployment.traffic["p"].rewrites.replace(RULE)
    director = deployment.director(deployment.rewriter(), deployment.admission(), deployment.picker(model_required=True))
    limits = StreamLimits(scanner_of=scanner_of if early else None)
    async with (
        upstream.listening(),
        envoy_before(director, binary, directory, FDS, ports=ports, change=change, transport=transport, limits=limits) as front,
    ):
        through = Passage(front.url, deployment)
        yield through


def renamed(body: bytes = BODY) -> bytes:
    return body.replace(b'"m"', SPELLED)


@pytest.mark.parametrize("mode", [FDS, "BUFFERED", "BUFFERED_PARTIAL", "STREAMED"])
async def test_only_the_name_changes(envoy_binary: Path, tmp_path: Path, transport: TransportName, mode: str) -> None:
    async with passage(envoy_binary, tmp_path, transport, mode) as through:
        answer = await through.ask(content_md5="x", x_llm_d_inference_objective="o", x_gateway_model_name_rewrite="other")
        assert (answer.status, answer.body) == (200, b'{"model": "m", "choices": []}')
        assert through.last.body == renamed()
        assert through.header("content-length") in (None, str(len(renamed())))
        for gone in ("content-md5", "x-llm-d-inference-objective", "x-gateway-model-name-rewrite"):
            assert through.header(gone) is None, gone
        assert (await through.ask(BODY.replace(b'"m"', b'"x"'))).json["model"] == "x"
        assert through.last.body == BODY.replace(b'"m"', b'"x"')


@pytest.mark.parametrize("mode", [FDS, "STREAMED", "BUFFERED"])
async def test_the_name_that_a_header_asks_for(envoy_binary: Path, tmp_path: Path, transport: TransportName, mode: str) -> None:
    async with passage(envoy_binary, tmp_path, transport, mode) as through:
        through.deployment.traffic["p"].rewrites.replace(RewriteTable())
        assert (await through.ask(x_llm_d_model_name_rewrite="n")).json["model"] == "m"
        assert through.last.body == BODY.replace(b'"m"', b'"n"')
        assert through.header("content-length") in (None, str(len(BODY)))


async def test_requests_are_split_by_weight(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    targets = (RewriteTarget("stable", 3), RewriteTarget("canary", 1))
    async with passage(envoy_binary, tmp_path, transport) as through:
        through.deployment.traffic["p"].rewrites.replace(
            RewriteTable([ModelRewrite("ns/r", 0.0, (RewriteRule(("m",), targets),))])
        )
        answers = await asyncio.gather(*[through.ask() for _ in range(80)])
        assert {answer.json["model"] for answer in answers} == {"m"}
        served = Counter(json.loads(exchange.body)["model"] for exchange in through.came)
        assert set(served) == {"stable", "canary"}
        assert 45 <= served["stable"] <= 75, served


async def test_an_answer_that_streams_names_the_clients_model(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    async with passage(envoy_binary, tmp_path, transport) as through:
        answer = await through.ask(b'{"model":"m","stream":true}')
        assert through.last.body == b'{"model":%b,"stream":true}' % SPELLED
        assert answer.body == b'data: {"id":1,"model":"m","n":1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("early", [False, True])
async def test_a_large_body(envoy_binary: Path, tmp_path: Path, transport: TransportName, early: bool) -> None:
    body = b'{"model":"m","user":"%b"}' % os.urandom(5 << 19).hex().encode()
    async with passage(envoy_binary, tmp_path, transport, early=early) as through:
        assert (await through.ask(body)).status == 200
        assert through.last.body == renamed(body)


async def test_a_compressed_body_goes_on_plain(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    async with passage(envoy_binary, tmp_path, transport) as through:
        for encoding in ("gzip", "br", "zstd", "deflate"):
            assert (await through.ask(encode(BODY, encoding), content_encoding=encoding)).status == 200
            assert (through.last.body, through.header("content-encoding")) == (renamed(), None)
        answer = await through.ask(BODY, content_encoding="rot13")
        assert (answer.status, answer.json["error"]["code"]) == (415, "unsupported_encoding")


async def test_a_path(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    async with passage(envoy_binary, tmp_path, transport) as through:
        assert (await through.ask(b'{"inputs":[]}', "/v2/models/m/infer?x=1")).status == 200
        assert through.last.head.startswith(b"POST /v2/models/the%2Fmodel-that-serves-%C3%A9/infer?x=1 HTTP/1.1\r\n")
        assert through.last.body == b'{"inputs":[]}'


async def test_early_a_name_that_comes_again_stops_the_request(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    body = b'{"model":"m","user":"%b","model":"m"}' % os.urandom(1 << 19).hex().encode()
    async with passage(envoy_binary, tmp_path, transport, early=True) as through:
        answer = await through.ask(body)
        assert (answer.status, answer.json["error"]["code"]) == (400, "conflicting_model")
        assert through.came == []


async def test_a_body_that_is_not_sent(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    async with passage(envoy_binary, tmp_path, transport, "NONE") as through:
        answer = await through.ask()
        assert (answer.status, answer.json["error"]["code"]) == (500, "body_not_seen")
        through.deployment.traffic["p"].rewrites.replace(RewriteTable())
        assert (await through.ask()).status == 200


async def test_what_may_be_shed_is(envoy_binary: Path, tmp_path: Path, transport: TransportName) -> None:
    async with passage(envoy_binary, tmp_path, transport) as through:
        through.deployment.traffic["p"].objectives.replace(ObjectiveTable({"batch": -1}))
        assert (await through.ask(x_llm_d_inference_objective="batch")).status == 200
        through.deployment.clock.advance(1.0)  # the page is stale
        shed = await through.ask(x_gateway_inference_objective="batch")
        assert (shed.status, shed.json["error"]["code"]) == (429, "pool_saturated")
        assert shed.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert (await through.ask()).status == 200
