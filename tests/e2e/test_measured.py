"""The real gateway with --response-metrics, behind an Envoy that sends it every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import raw
from tests.e2e.parts import Endpoints, Stack, call, chat, until

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
FDS = "FULL_DUPLEX_STREAMED"
OBJECTIVE = "inference_objective_"


@pytest.fixture(scope="module")
def measured_stack(
    envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("measured")
    stack = Stack(
        "one-hop", envoy_binary, session_endpoints, directory, answers="FULL_DUPLEX_STREAMED", flags=["--response-metrics"]
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(measured_stack: Stack, endpoints: Endpoints) -> Iterator[Stack]:
    yield measured_stack
    until(measured_stack.idle, what="nothing is under way after the test")


def counts(stack: Stack) -> dict[str, float]:
    wanted = [
        f"{OBJECTIVE}request_total",
        f"{OBJECTIVE}request_duration_seconds_count",
        f"{OBJECTIVE}running_requests",
        f"{OBJECTIVE}request_ttft_seconds_count",
        f"{OBJECTIVE}request_tpot_seconds_count",
        f"{OBJECTIVE}output_tokens_sum",
        f"{OBJECTIVE}response_sizes_sum",
        f"{OBJECTIVE}request_error_total",
        "llm_d_epp_request_streaming_itl_seconds_count",
    ]
    names = ("total", "ended", "running", "ttft", "tpot", "tokens", "bytes", "errors", "itl")
    return dict(zip(names, stack.counted(*wanted), strict=True))


def change(stack: Stack, before: dict[str, float]) -> dict[str, float]:
    until(stack.idle)
    return {name: value - before[name] for name, value in counts(stack).items()}


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_measured(stack: Stack, stream: bool) -> None:
    before = counts(stack)
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = call(stack.url, CHAT, chat(max_tokens=100, ignore_eos=True, **more))
    assert answer.status == 200
    told = change(stack, before)
    assert (told["total"], told["ended"], told["running"], told["errors"]) == (1, 1, 0, 0)
    assert (told["ttft"], told["tokens"], told["bytes"]) == (1, 100, len(answer.body))
    assert told["tpot"] == int(stream)
    assert (told["itl"] > 20) is stream
    if stream:
        assert answer.body.count(b"\n\n") >= 100
        assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_model_server_that_dies_in_the_middle(stack: Stack) -> None:
    before = counts(stack)
    body = json.dumps(chat(max_tokens=100, ignore_eos=True, stream=True)).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}", "x-sim-fault: drop-after=5") + body)
        with pytest.raises(ConnectionError, match="data: "):
            raw.read_until(connection, b"[DONE]")
    told = change(stack, before)
    assert (told["total"], told["ended"], told["running"], told["ttft"], told["tokens"]) == (1, 1, 0, 1, 0)


def test_a_client_that_leaves_in_the_middle(stack: Stack, endpoints: Endpoints) -> None:
    before = counts(stack)
    body = json.dumps(chat("phi4", max_tokens=400, ignore_eos=True, stream=True)).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, f"content-length: {len(body)}") + body)
        raw.read_until(connection, b"data: ")
        assert stack.in_flight() == 1
    told = change(stack, before)
    assert (told["total"], told["ended"], told["running"], told["ttft"], told["tokens"]) == (1, 1, 0, 1, 0)
    until(lambda: sum(endpoints.running(f"phi4-{n}") for n in (1, 2, 3)) == 0)


@pytest.mark.parametrize("status", [429, 503])
def test_an_error(stack: Stack, status: int) -> None:
    before = counts(stack)
    assert call(stack.url, CHAT, chat(), {"x-sim-fault": str(status)}).status == status
    told = change(stack, before)
    assert (told["ended"], told["errors"], told["ttft"]) == (1, 1, 0)


def test_a_retry_counts_where_it_is_served(stack: Stack, endpoints: Endpoints) -> None:
    (elsewhere,) = stack.counted("extproc_served_elsewhere_total")
    call(endpoints.url("llama-1"), "/sim/faults", {"fault": "drop", "count": 1})
    for name in ("llama-2", "llama-3"):
        endpoints.load(name, waiting=20, kv_usage=0.8)
        until(lambda name=name: stack.known()[endpoints.address(name)]["signals"]["waiting"]["value"] >= 20)  # type: ignore[misc]
    answer = call(stack.url, CHAT, chat(), {"x-request-id": "retried"})
    assert answer.status == 200
    assert answer.endpoint in ("llama-2", "llama-3")
    until(stack.idle)
    decision = stack.decision("retried")
    assert decision["endpoint"] == endpoints.address("llama-1")
    assert (decision["served"], decision["status"]) == (endpoints.address(answer.endpoint), 200)
    assert stack.counted("extproc_served_elsewhere_total") == [elsewhere + 1]
