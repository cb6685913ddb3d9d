"""What goes wrong around us, with a real Envoy and processes that die: no request more than need be is lost, nothing leaks."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from extproc.demo.traffic import usage_tokens
from tests.e2e import raw
from tests.e2e.parts import Answer, Endpoints, Stack, call, chat, until

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
LONG: dict[str, Any] = {"stream": True, "ignore_eos": True}


def favour(stack: Stack, endpoints: Endpoints, pool: str, favourite: str) -> None:
    """Load on all others of the pool, seen by the picker."""
    others = [name for name in endpoints.children if name.startswith(pool) and name != favourite]
    for name in others:
        endpoints.load(name, waiting=20, kv_usage=0.8)
    for name in others:
        until(lambda name=name: stack.known()[endpoints.address(name)]["signals"]["waiting"]["value"] >= 20)  # type: ignore[misc]


def test_killed_endpoint_costs_no_request(stack: Stack, endpoints: Endpoints) -> None:
    favour(stack, endpoints, "llama", "llama-1")
    begun = threading.Semaphore(0)
    killed = threading.Event()

    def one(number: int) -> Answer:
        begun.release()
        return call(stack.url, CHAT, chat(text=f"number {number}", max_tokens=12), {"x-request-id": f"kill-{number}"})

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(one, number) for number in range(80)]
        for _ in range(20):
            begun.acquire()
        until(lambda: endpoints.running("llama-1") > 0)
        endpoints.kill("llama-1")
        killed.set()
        answers = [future.result() for future in futures]
    assert Counter(answer.status for answer in answers) == {200: 80}
    served = Counter(answer.endpoint for answer in answers)
    assert served["llama-1"] > 0
    assert served["llama-2"] + served["llama-3"] > 40
    dead = endpoints.address("llama-1")
    until(lambda: stack.known()[dead]["state"] == "down")
    for number in range(5):
        assert call(stack.url, CHAT, chat(), {"x-request-id": f"after-{number}"}).status == 200
        assert stack.decision(f"after-{number}")["endpoint"] != dead
    endpoints.revive("llama-1")
    until(lambda: stack.known()[dead]["state"] == "fresh")
    until(lambda: call(stack.url, CHAT, chat()).endpoint == "llama-1")


def test_endpoint_that_drops_a_request(stack: Stack, endpoints: Endpoints) -> None:
    favour(stack, endpoints, "phi4", "phi4-2")
    call(endpoints.url("phi4-2"), "/sim/faults", {"fault": "drop", "count": 1})
    answer = call(stack.url, CHAT, chat("phi4"))
    assert answer.status == 200
    assert answer.endpoint in ("phi4-1", "phi4-3")


def test_whole_pool_is_gone(stack: Stack, endpoints: Endpoints) -> None:
    for number in (1, 2, 3):
        endpoints.kill(f"phi4-{number}")
    answer = call(stack.url, CHAT, chat("phi4"))
    assert answer.status == 503
    assert not answer.endpoint  # above all not an endpoint of another pool
    assert call(stack.url, CHAT, chat("llama")).status == 200


def test_error_of_an_endpoint_is_passed_on(stack: Stack) -> None:
    answer = call(stack.url, CHAT, chat(), {"x-sim-fault": "500"})
    assert answer.status == 500
    assert answer.endpoint


@pytest.mark.every_transport
def test_client_goes_away(stack: Stack, endpoints: Endpoints) -> None:
    body = json.dumps(chat("phi4", max_tokens=400, **LONG)).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}") + body)
        raw.read_until(connection, b"data: ")
        assert stack.in_flight() == 1
    until(stack.idle)
    until(lambda: sum(endpoints.running(f"phi4-{n}") for n in (1, 2, 3)) == 0)


def test_envoy_is_killed(stack: Stack) -> None:
    def lost() -> str:
        try:
            return str(call(stack.url, CHAT, chat(), {"x-sim-fault": "hang"}).status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(lost) for _ in range(4)]
        with raw.connected(stack.url) as connection:  # and one that is still sending
            connection.sendall(raw.head(CHAT, "content-length: 100") + b'{"model": ')
            until(lambda: stack.in_flight() == 4 and stack.streams() == 5)
            stack.envoy.kill()
        assert all(not future.result().isdigit() for future in futures)
    until(stack.idle)
    stack.start_envoy()
    assert call(stack.url, CHAT, chat()).status == 200


def test_server_is_killed_and_returns(stack: Stack) -> None:
    for name, child in stack.servers.items():
        pool = "phi4" if name.endswith("phi4") else "llama"
        child.kill()
        answer = call(stack.url, CHAT, chat(pool))
        assert answer.status == 503, name
        assert not answer.endpoint
        child.start()
        stack.wait_server(name)
        until(lambda pool=pool: call(stack.url, CHAT, chat(pool)).status == 200)  # type: ignore[misc]


@pytest.mark.every_transport
def test_server_is_stopped_while_an_answer_streams(stack: Stack) -> None:
    """SIGTERM lets the answer end: its stream is the server's to wait for."""
    body = json.dumps(chat(max_tokens=150, stream_options={"include_usage": True}, **LONG)).encode()
    picker = stack.pickers[0]
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}") + body)
        first = raw.read_until(connection, b"data: ")
        stopped = threading.Thread(target=stack.servers[picker].stop, args=(10.0,))
        stopped.start()
        answer = first + raw.read_until(connection, b"[DONE]")
        stopped.join()
    assert usage_tokens(_events(answer), stream=True) == 150


def test_server_dies_while_an_answer_streams(stack: Stack) -> None:
    """What our envoy configs say of it: the answer is cut, and cut visibly."""
    body = json.dumps(chat(max_tokens=150, **LONG)).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}") + body)
        raw.read_until(connection, b"data: ")
        stack.servers[stack.pickers[0]].kill()
        with pytest.raises(ConnectionError):
            raw.read_until(connection, b"\r\n0\r\n")


def _events(answer: bytes) -> bytes:
    """The lines of a chunked event stream without the chunk sizes between them."""
    return b"\n".join(line for line in answer.splitlines() if line.startswith(b"data: "))
