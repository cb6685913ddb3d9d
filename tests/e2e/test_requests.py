"""What a client sees through a real Envoy, with both of our configs."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from urllib.parse import quote

import openai
import pytest

from extproc.demo.stack import LLAMA, PHI4, PoolPlan
from extproc.demo.traffic import usage_tokens
from tests.e2e import raw
from tests.e2e.parts import JSON, Endpoints, Stack, call, chat, until

pytestmark = [pytest.mark.e2e, pytest.mark.every_transport]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, http_client=http_client) as client:
        yield client


@pytest.mark.parametrize("pool", ["llama", "phi4"])
def test_chat(stack: Stack, endpoints: Endpoints, pool: str) -> None:
    body = json.dumps(chat(pool), indent=1).encode()
    answer = call(stack.url, CHAT, body, {"x-request-id": f"chat-{pool}"})
    assert answer.status == 200, answer
    assert answer.endpoint.startswith(f"{pool}-")
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()
    assert usage_tokens(answer.body, stream=False) == 5
    assert answer.headers["x-request-id"] == f"chat-{pool}"
    assert stack.decision(f"chat-{pool}")["endpoint"] == endpoints.address(answer.endpoint)


def test_completion_and_generated_request_id(stack: Stack) -> None:
    answer = call(stack.url, COMPLETIONS, {"model": PHI4.model, "prompt": "one two", "max_tokens": 3})
    assert (answer.status, usage_tokens(answer.body, stream=False)) == (200, 3)
    assert stack.decision(answer.headers["x-request-id"])["model"] == PHI4.model


def test_openai_client(stack: Stack, client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model=LLAMA.model, messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    assert told.usage
    assert told.usage.completion_tokens == 4
    with client.completions.create(
        model=PHI4.model, prompt="count", max_tokens=7, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 7
    assert sum(len(chunk.choices[0].text.split()) for chunk in chunks[:-1]) == 7


def test_openai_client_sees_our_error(stack: Stack, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    if stack.one_hop:
        assert LLAMA.model in caught.value.message
        assert PHI4.model in caught.value.message


def test_models(stack: Stack) -> None:
    answer = call(stack.url, "/v1/models")
    assert answer.status == 200
    listed = {card["id"] for card in answer.json["data"]}
    assert listed == ({LLAMA.model, PHI4.model} if stack.one_hop else {LLAMA.model})
    assert bool(answer.endpoint) is not stack.one_hop


def test_broken_json(stack: Stack) -> None:
    answer = call(stack.url, CHAT, b'{"model": "' + LLAMA.model.encode())
    assert (answer.status, answer.json["error"]["code"], answer.endpoint) == (400, "invalid_body", "")


def test_no_message_for_a_token(stack: Stack) -> None:
    def messages(tokens: int) -> tuple[int, int]:
        before = stack.messages()
        body = chat(max_tokens=tokens, stream=True, ignore_eos=True, stream_options={"include_usage": True})
        answer = call(stack.url, CHAT, body)
        assert usage_tokens(answer.body, stream=True) == tokens
        assert answer.body.count(b"\ndata: ") >= tokens
        until(stack.idle)
        after = stack.messages()
        return after[0] - before[0], after[1] - before[1]

    few, many = messages(2), messages(100)
    assert few == many
    assert sum(many) <= (8 if stack.one_hop else 14)


def test_the_stream_lasts_as_long_as_the_answer(stack: Stack) -> None:
    with raw.connected(stack.url) as connection:
        body = json.dumps(chat(max_tokens=200, stream=True, ignore_eos=True)).encode()
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}") + body)
        raw.read_until(connection, b"data: ")
        assert stack.in_flight() == 1
        raw.read_until(connection, b"[DONE]")
        until(lambda: stack.in_flight() == 0)


@pytest.mark.parametrize("mebibytes", [5, 30])
def test_large_body_is_untouched(stack: Stack, mebibytes: int) -> None:
    body = json.dumps({"user": os.urandom(mebibytes << 19).hex(), **chat("phi4")}).encode()
    answer = call(stack.url, CHAT, body)
    assert (answer.status, answer.headers["x-sim-body-bytes"]) == (200, str(len(body)))
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()


def test_slow_body(stack: Stack) -> None:
    body = json.dumps(chat("phi4")).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}"))
        until(lambda: stack.streams() == 1)
        for byte in body[:20]:
            connection.sendall(bytes([byte]))
            assert stack.in_flight() == 0
        connection.sendall(body[20:])
        assert b"\r\nx-sim-endpoint: phi4-" in raw.read_until(connection, b"\r\n\r\n")


def test_trailers(stack: Stack, endpoints: Endpoints) -> None:
    """They arrive, and the body arrives once. Those of HTTP/1 are dropped."""
    for name in ("phi4-1", "phi4-2"):
        endpoints.load(name, waiting=50, kv_usage=0.9)
    endpoints.kill("phi4-3")
    address = endpoints.address("phi4-3")
    until(lambda: stack.known()[address]["state"] == "down")
    body = json.dumps(chat("phi4", text="to the mirror")).encode()
    trailers = {"x-checksum": "4711", "x-signed": "yes"}
    with raw.mirror(endpoints.port_of["phi4-3"]):
        until(lambda: stack.known()[address]["state"] == "fresh")
        for name in ("phi4-1", "phi4-2"):
            until(lambda name=name: stack.known()[endpoints.address(name)]["signals"]["waiting"]["value"] == 50)  # type: ignore[misc]
        with_trailers = raw.h2_post(stack.url, CHAT, body, {**JSON, "trailer": "x-checksum, x-signed"}, trailers)
        until(stack.idle)
        without = raw.h2_post(stack.url, CHAT, body, JSON)
        until(stack.idle)
        with raw.connected(stack.url) as connection:
            sent = raw.chunked(body[:9], body[9:], trailers=("x-checksum: 4711",))
            connection.sendall(raw.head(CHAT, "transfer-encoding: chunked") + sent)
            over_http1 = raw.read_until(connection, b"}}").partition(b"\r\n\r\n")[2]
    assert json.loads(with_trailers) == {"body": body.decode(), "trailers": trailers}
    assert json.loads(without) == json.loads(over_http1) == {"body": body.decode(), "trailers": {}}


def test_spoofed_model_header(stack: Stack) -> None:
    spoof = {"X-Gateway-Model-Name": LLAMA.model, "X-Gateway-Base-Model-Name": LLAMA.model}
    assert call(stack.url, CHAT, chat("phi4"), spoof).endpoint.startswith("phi4-")
    nameless = call(stack.url, CHAT, {"messages": []}, spoof)
    assert (nameless.status, nameless.endpoint) == (400 if stack.one_hop else 404, "")
    models = call(stack.url, "/v1/models", headers={"x-gateway-model-name": PHI4.model})
    assert models.status == 200
    assert not models.endpoint.startswith("phi4-")


def test_spoofed_destination(stack: Stack, endpoints: Endpoints) -> None:
    elsewhere = endpoints.address("phi4-1")
    spoof = {
        "x-gateway-destination-endpoint": elsewhere,
        "x-gateway-destination-endpoint-subset": elsewhere,
        "x-gateway-destination-endpoint-served": elsewhere,
        "x-prefiller-host-port": "10.0.0.1:1",
        "x-request-id": f"spoofed-{stack.kind}",
    }
    answer = call(stack.url, CHAT, chat("llama"), spoof)
    assert answer.endpoint.startswith("llama-")
    arrived = {name.lower(): value for name, value in endpoints.requests(answer.endpoint)[-1]["headers"]}
    decision = stack.decision(f"spoofed-{stack.kind}")
    assert arrived["x-gateway-destination-endpoint"] == ",".join([decision["endpoint"], *decision["fallbacks"]])
    assert elsewhere not in arrived.values()
    assert "x-prefiller-host-port" not in arrived


def test_picks_the_least_loaded(stack: Stack, endpoints: Endpoints) -> None:
    for name, waiting in (("llama-1", 9), ("llama-2", 0), ("llama-3", 4)):
        endpoints.load(name, waiting=waiting, kv_usage=waiting / 10)
    until(lambda: stack.known()[endpoints.address("llama-1")]["signals"]["waiting"]["value"] == 9)
    until(lambda: stack.known()[endpoints.address("llama-3")]["signals"]["waiting"]["value"] == 4)
    for _ in range(5):
        until(stack.idle)
        assert call(stack.url, CHAT, chat("llama")).endpoint == "llama-2"


def test_half_a_request(stack: Stack) -> None:
    """A client that gives up before its body is whole leaves nothing behind."""
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, "content-length: 100") + b'{"model": ')
        until(lambda: stack.streams() == 1)
        connection.shutdown(socket.SHUT_RDWR)
    until(stack.idle)


@pytest.mark.parametrize("pool", [LLAMA, PHI4], ids=["llama", "phi4"])
def test_upgrades_are_decided_on_their_headers(stack: Stack, pool: PoolPlan) -> None:
    """Our model servers have no WebSocket, and say so: it is they who answer, at once, and not Envoy with 403."""
    asked = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "eA=="}
    answer = call(stack.url, f"/v1/realtime?model={quote(pool.model)}", None, {**asked, "x-request-id": f"ws-{pool.name}"})
    assert answer.status == 404, answer
    assert answer.endpoint.startswith(f"{pool.name}-")
    assert stack.decision(f"ws-{pool.name}")["model"] == pool.model
