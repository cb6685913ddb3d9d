"""The measures of two entities of different speed, behind a real Envoy with envoy/serving-endpoints.yaml."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.stack import LLAMA, PHI4
from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints, until

pytestmark = pytest.mark.e2e

FAST_S, SLOW_S = 0.05, 0.25
ASKED = 24
STREAM = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 8,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.fixture(scope="module")
def gateway(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """`current` is quick to begin, `challenger` takes five times as long."""
    flags = {pool.name: ("--time-to-first-token", f"{seconds}s") for pool, seconds in ((LLAMA, FAST_S), (PHI4, SLOW_S))}
    endpoints = Endpoints(tmp_path_factory.mktemp("endpoints"), flags)
    try:
        endpoints.start()
        with behind(envoy_binary, endpoints, tmp_path_factory.mktemp("gateway")) as at:
            yield at
    finally:
        endpoints.stop()


@pytest.fixture
def chat(gateway: Behind) -> Iterator[Behind]:
    config = own(current=50, challenger=50)
    config["served_entities"][1]["price"] = {"output_per_million": 1000.0, "currency": "EUR"}
    gateway.api("POST", "", {"name": "chat", "config": config})
    yield gateway
    gateway.forget()


def ask(at: Behind, user: str, body: dict[str, Any] = STREAM, **headers: str) -> tuple[str, str]:
    """Which entity answered, and the request's id."""
    got = at.call("POST", "/serving-endpoints/chat/invocations", body, x_user_id=user, **headers)
    assert got.status == 200, got
    return got.headers["served-model-name"], got.headers["x-request-id"]


def rows(at: Behind, requests: int, query: str = "") -> dict[str, Any]:
    """By entity, when so many requests are in them: what ends is counted a moment after the client has its answer."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update({row["served_entity"]: row for row in at.api("GET", f"/chat/measures{query}")["measures"]})
        return sum(int(row["requests"]) for row in found.values()) >= requests

    until(there, what=f"{requests} requests are measured")
    return found


def test_two_entities_of_different_speed(chat: Behind) -> None:
    with ThreadPoolExecutor(4) as pool:
        by = list(pool.map(lambda number: ask(chat, f"user-{number}")[0], range(ASKED)))
    found = rows(chat, ASKED)
    current, challenger = found["current"], found["challenger"]
    for name, row in found.items():
        asked = by.count(name)
        assert asked > 0
        assert (row["requests"], row["errors"], row["rejected"]) == (asked, 0, 0)
        assert row["ttft_s"]["n"] == row["tpot_s"]["n"] == row["e2e_s"]["n"] == row["headers_s"]["n"] == asked
        assert row["tokens"]["answers"] == asked
        assert row["tokens"]["output"] == 8 * asked
        assert row["finish_reasons"] == {"length": asked}
        assert row["queue_at_pick"]["n"] == asked
        assert row["headers_s"]["p50"] <= row["ttft_s"]["p50"] * 1.02 <= row["e2e_s"]["p50"] * 1.05
    assert current["ttft_s"]["p50"] >= FAST_S * 0.98
    assert challenger["ttft_s"]["p50"] >= SLOW_S * 0.98
    assert challenger["ttft_s"]["p50"] > 1.5 * current["ttft_s"]["p50"]
    assert challenger["ttft_s"]["log_mean"] > current["ttft_s"]["log_mean"]
    assert "cost" not in current
    assert challenger["cost"]["amount"] == pytest.approx(0.008 * challenger["requests"])
    page = chat.call("GET", "/api/2.0/serving-endpoints/chat/metrics").body.decode()
    assert 'extproc_entity_ttft_seconds_count{arm="",served_entity="current",serving_endpoint="chat"}' in page


def test_failures_and_documents(chat: Behind) -> None:
    """A model server that fails, one that breaks off, and an answer that does not stream."""
    user = next(f"u{number}" for number in range(100) if ask(chat, f"u{number}")[0] == "current")
    before = rows(chat, 1)["current"]["requests"]
    for fault in ("503", "drop-after=3"):
        with contextlib.suppress(http.client.IncompleteRead):
            got = chat.call("POST", "/serving-endpoints/chat/invocations", STREAM, x_user_id=user, x_sim_fault=fault)
            assert got.status == 503
    document = {key: value for key, value in STREAM.items() if key != "stream_options"}
    ask(chat, user, {**document, "stream": False})
    asked = before + 3

    def there() -> bool:
        return bool(rows(chat, 1)["current"]["requests"] >= asked)

    until(there, what="all are measured")
    row = rows(chat, asked)["current"]
    assert row["errors_by_kind"] == {"5xx": 1, "cut": 1}
    assert row["ttft_s"]["n"] == before, "neither what failed nor what does not stream has one"
    assert row["e2e_s"]["n"] == before + 1


def test_feedback_by_call_and_by_header(chat: Behind) -> None:
    name, first = ask(chat, "somebody")
    _, second = ask(chat, "somebody")
    assert chat.api("POST", "/chat/feedback", {"request_id": first, "good": True})["verdict"] == "counted"
    ask(chat, "somebody", x_extproc_feedback=f"{second};score=0.2")
    assert rows(chat, 3)[name]["feedback"] == {"good": 1, "bad": 1, "score": pytest.approx(0.6)}
    assert chat.call("POST", "/api/2.0/serving-endpoints/chat/feedback", {"request_id": first, "good": True}).status == 409
    asked = [each for name in chat.endpoints.children for each in chat.endpoints.requests(name)]
    assert asked
    assert not any("x-extproc-feedback" in str(each["headers"]).lower() for each in asked), "it goes no further"


def test_a_restart_begins_anew(chat: Behind) -> None:
    ask(chat, "somebody")
    rows(chat, 1)
    chat.stack.servers["gateway"].kill()
    chat.restart()
    chat.api("POST", "", {"name": "chat", "config": own(current=50, challenger=50)})
    found = chat.api("GET", "/chat/measures?window=all")["measures"]
    assert [(row["served_entity"], row["requests"]) for row in found] == [("current", 0), ("challenger", 0)]
