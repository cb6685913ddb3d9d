"""A server over real sockets: what is answered, who answered, what was received, and what is left behind."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from extproc.simulator import tokens
from extproc.simulator.server import Simulator
from tests.simulator.helpers import eventually, fast


@pytest.fixture
async def server() -> AsyncIterator[Simulator]:
    async with Simulator(fast(model=["tiny"], lora=["adapter"], output_tokens=8, max_model_len=4096)) as simulator:
        yield simulator


async def post(client: aiohttp.ClientSession, server: Simulator, path: str, **body: Any) -> dict[str, Any]:
    async with client.post(server.url + path, json=body) as response:
        answer: dict[str, Any] = await response.json()
    return answer


def chat(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]


async def test_a_conversation_finds_its_own_history_cached(client: aiohttp.ClientSession, server: Simulator) -> None:
    question = "why is the sky blue? " * 20
    first = await post(client, server, "/v1/chat/completions", model="tiny", messages=chat(question))
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    said = first["choices"][0]["message"]["content"]
    assert first["choices"][0]["finish_reason"] == "stop"
    second = await post(client, server, "/v1/chat/completions", messages=chat(question, said, "and red?"))
    before = first["usage"]["total_tokens"] - 1  # the last answer token itself was never computed
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == before // 16 * 16


async def test_adapters_have_a_cache_and_a_name_of_their_own(client: aiohttp.ClientSession, server: Simulator) -> None:
    for model, cached in (("tiny", 0), ("adapter", 0), ("adapter", 48)):
        answer = await post(client, server, "/v1/completions", model=model, prompt="x" * 200, max_tokens=1)
        assert (answer["model"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]) == (model, cached)


async def test_several_prompts_and_choices(client: aiohttp.ClientSession, server: Simulator) -> None:
    answer = await post(client, server, "/v1/completions", prompt=["one", "twice"], n=2, max_tokens=3)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"] | {"prompt_tokens_details": None, "completion_tokens_details": None} == {
        "prompt_tokens": 3,
        "completion_tokens": 12,
        "total_tokens": 15,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


async def test_stop_strings_limits_and_echo(client: aiohttp.ClientSession, server: Simulator) -> None:
    whole = (await post(client, server, "/v1/completions", prompt="p", max_tokens=5, ignore_eos=True))["choices"][0]
    stop = whole["text"][6:9]
    cut = await post(client, server, "/v1/completions", prompt="p", max_tokens=5, stop=stop, echo=True)
    choice = cut["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("p" + whole["text"][:6], "stop", stop)
    limited = await post(client, server, "/v1/chat/completions", messages=chat("x"), max_tokens=9, max_completion_tokens=2)
    assert limited["usage"]["completion_tokens"] == 2


async def test_a_stream_is_the_answer_in_pieces(client: aiohttp.ClientSession, server: Simulator) -> None:
    request = {"messages": chat("tell"), "max_tokens": 30, "n": 2}
    whole = await post(client, server, "/v1/chat/completions", **request)
    streamed = {0: "", 1: ""}
    finished = {}
    async with client.post(server.url + "/v1/chat/completions", json=request | {"stream": True}) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                streamed[choice["index"]] += choice["delta"].get("content", "")
                if choice["finish_reason"]:
                    finished[choice["index"]] = choice["finish_reason"]
    assert [streamed[c["index"]] for c in whole["choices"]] == [c["message"]["content"] for c in whole["choices"]]
    assert finished == {c["index"]: c["finish_reason"] for c in whole["choices"]}


async def test_every_answer_is_signed(client: aiohttp.ClientSession, server: Simulator) -> None:
    body = json.dumps({"prompt": "naïve " * 100_000, "max_tokens": 1}).encode()
    for method, path, sent in (
        ("POST", "/v1/completions", body),
        ("POST", "/v1/completions", b"\x00 no json"),
        ("POST", "/nowhere", b"x"),
        ("GET", "/metrics", b""),
        ("POST", "/v1/completions", b'{"prompt":"x","stream":true}'),
    ):
        headers = {"content-type": "application/json"}
        async with client.request(
            method, server.url + path, data=io.BytesIO(sent) if sent else None, headers=headers
        ) as response:
            await response.read()
        assert response.headers["x-sim-endpoint"] == f"127.0.0.1:{server.port}"
        assert response.headers["x-sim-body-sha256"] == hashlib.sha256(sent).hexdigest()
        assert response.headers["x-sim-body-bytes"] == str(len(sent))


async def test_a_compressed_body_is_taken_as_it_came(client: aiohttp.ClientSession, server: Simulator) -> None:
    body = gzip.compress(b'{"prompt":"x"}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with client.post(server.url + "/v1/completions", data=body, headers=headers) as response:
        assert response.status == 400
    assert response.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()


async def test_a_body_beyond_the_limit_is_refused(client: aiohttp.ClientSession) -> None:
    async with Simulator(fast(max_body="1Ki")) as small:
        async with client.post(small.url + "/v1/completions", data=b"x" * 1100) as response:
            assert response.status == 413
        async with client.post(small.url + "/v1/completions", json={"prompt": "x" * 900}) as response:
            assert response.status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_its_blocks(client: aiohttp.ClientSession, stream: bool) -> None:
    async with Simulator(fast(decode_step="5ms", max_num_seqs=1)) as server:
        body = {"prompt": "x" * 400, "max_tokens": 9999, "ignore_eos": True, "stream": stream}
        calls = [asyncio.create_task(client.post(server.url + "/v1/completions", json=body)) for _ in range(2)]
        await eventually(lambda: bool(server.engine.running and server.engine.waiting))
        assert server.engine.kv.used > 0
        if stream:
            await eventually(lambda: server.engine.running[0].emitted > 0)
        for call in calls:
            call.cancel()
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, aiohttp.ClientResponse):
                answer.close()  # a stream's headers have come, so there is an answer to leave
        await eventually(lambda: not server.engine.has_work and server.driver.idle)
        assert server.engine.kv.used == 0
        await eventually(lambda: server.generation.in_flight == 0)


async def test_metrics_with_and_without_the_slash(client: aiohttp.ClientSession, server: Simulator) -> None:
    query = "?name[]=vllm:num_requests_running"
    async with client.get(server.url + "/metrics" + query) as response:
        whole = await response.text()
    assert response.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert whole.count("# TYPE") > 80
    async with client.get(server.url + "/metrics/" + query) as response:
        assert (await response.text()).count("# TYPE") == 1
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_requests_are_counted_as_the_real_server_counts_them(client: aiohttp.ClientSession, server: Simulator) -> None:
    await post(client, server, "/v1/completions", model="tiny", prompt="x")
    for path in ("/v1/models", "/nowhere", "/health", "/sim/state", "/metrics", "/version"):
        async with client.get(server.url + path) as response:
            await response.read()
    async with client.get(server.url + "/metrics") as response:
        lines = (await response.text()).splitlines()
    counted = {line for line in lines if line.startswith("http_requests_total{")}
    assert counted == {
        'http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 1.0',
        'http_requests_total{handler="/v1/models",method="GET",status="2xx"} 1.0',
        'http_requests_total{handler="none",method="GET",status="4xx"} 1.0',
    }


async def test_tokenize_and_back(client: aiohttp.ClientSession, server: Simulator) -> None:
    answer = await post(client, server, "/tokenize", prompt="hello world")
    assert (answer["count"], answer["max_model_len"]) == (3, 4096)
    assert (await post(client, server, "/detokenize", tokens=answer["tokens"])) == {"prompt": "hello world"}
    chatted = await post(client, server, "/tokenize", messages=chat("hi"), add_generation_prompt=False)
    assert chatted["tokens"] == [tokens.BEGIN, tokens.USER, *tokens.encode([b"hi"]), tokens.END]
    assert (await post(client, server, "/tokenize"))["error"]["param"] == "prompt"


async def test_a_prompt_that_fills_the_context(client: aiohttp.ClientSession, server: Simulator) -> None:
    answer = await post(client, server, "/v1/completions", prompt="x" * 4 * 4095, max_tokens=50)
    assert answer["usage"]["total_tokens"] == 4096
    over = await post(client, server, "/v1/completions", prompt="x" * 4 * 4096)
    assert over["error"]["message"].startswith("max_tokens must be at least 1, got 0.")
    far = await post(client, server, "/v1/completions", prompt="x" * 4 * 5000)
    assert "maximum context length is 4096 tokens. However, your prompt contains 5000" in far["error"]["message"]


async def test_many_servers_in_one_process(client: aiohttp.ClientSession) -> None:
    servers = [Simulator(fast(name=f"pod-{n}")) for n in range(6)]
    ports = [await server.start() for server in servers]
    assert len(set(ports)) == 6
    for server in servers:
        async with client.get(server.url + "/ping") as response:
            assert response.headers["x-sim-endpoint"] == server.name
    with pytest.raises(RuntimeError):
        await servers[0].start()
    for server in servers:
        await server.stop()
        await server.stop()
    assert repr(servers[0]) == "<Simulator pod-0 <Engine 0 running, 0 waiting, <KvCache 0/8192 used, 0 cached>>>"


async def test_stopping_ends_what_is_under_way(client: aiohttp.ClientSession) -> None:
    server = Simulator(fast(decode_step="5ms"))
    await server.start()
    body = {"prompt": "x", "max_tokens": 9999, "ignore_eos": True, "stream": True}
    async with client.post(server.url + "/v1/completions", json=body) as response:
        await response.content.readline()
        await server.stop()
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert server.driver.idle


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async with Simulator(fast()) as server:
        second = Simulator(fast(port=server.port))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.stop()


def test_an_ipv6_address_is_written_with_brackets() -> None:
    assert Simulator(fast(host="::1", port=8000)).address == "[::1]:8000"
