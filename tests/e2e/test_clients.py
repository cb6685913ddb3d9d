"""Databricks' article "serve multiple models", through one address: by plain HTTP and by the unchanged clients."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.traffic import Catalog, EndpointSpec, EntitySpec, ServingEndpoint
from tests.api.tokens import ALICE, QUENTIN, VICTOR
from tests.e2e.behind import API, MESSAGES, Behind, behind, own, split
from tests.e2e.parts import Endpoints, call

pytestmark = pytest.mark.e2e

USERS = [f"user-{number}" for number in range(300)]


@pytest.fixture(scope="module")
def standing(envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    with behind(envoy_binary, session_endpoints, tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def at(standing: Behind) -> Iterator[Behind]:
    """Without endpoints."""
    yield standing
    standing.forget()


def owners(name: str, current: int) -> dict[str, str]:
    """Who serves each user, by the buckets alone: the first ones are `current`'s."""
    entities = (EntitySpec("current", "m"), EntitySpec("challenger", "m"))
    endpoint = ServingEndpoint(EndpointSpec(name, entities, (50, 50)), Catalog())
    return {user: "current" if endpoint.bucket_of(user.encode()) < current * 100 else "challenger" for user in USERS}


@pytest.mark.parametrize(
    "shares", [{"current": 90, "challenger": 10}, {"current": "90", "challenger": "10"}], ids=["90", "'90'"]
)
def test_shares_hold_and_a_change_moves_whom_it_must_at_once(at: Behind, shares: dict[str, Any]) -> None:
    """90/10, then 50/50, under 16 connections: each user is served by whom its bucket says, before and after."""
    made = at.api("POST", "", {"name": "chat", "config": own(**shares)})
    assert [route["traffic_percentage"] for route in made["config"]["traffic_config"]["routes"]] == [90, 10]
    before = at.served(USERS)
    assert before == owners("chat", 90)
    at.api("PUT", "/chat/config", {"traffic_config": split(current=50, challenger=50)})
    moves = next(user for user in USERS if before[user] == "current" and owners("chat", 50)[user] == "challenger")
    while at.ask(x_user_id=moves).headers["served-model-name"] != "challenger":
        pass
    after = at.served(USERS)
    assert after == owners("chat", 50)
    assert not [user for user in USERS if before[user] == "challenger" and after[user] == "current"]


def test_requests_without_a_key_are_drawn(at: Behind) -> None:
    at.api("POST", "", {"name": "chat", "config": own(current=50, challenger=50)})
    by = Counter(at.ask().headers["served-model-name"] for _ in range(30))
    assert set(by) == {"current", "challenger"}


def test_provisioned_throughput(at: Behind) -> None:
    """60/40, as for the article's foundation models."""
    config = own(current=60, challenger=40)
    for entity in config["served_entities"]:
        del entity["workload_size"]
        entity["provisioned_model_units"] = 50
    made = at.api("POST", "/pt", {"name": "chat", "config": config})
    assert [route["traffic_percentage"] for route in made["config"]["traffic_config"]["routes"]] == [60, 40]
    assert at.served(USERS[:100]) == {user: owners("chat", 60)[user] for user in USERS[:100]}


@pytest.mark.parametrize("below", ["served-models", "served-entities"])
def test_one_entity_is_asked_directly(at: Behind, below: str) -> None:
    """Whatever the split and the user are."""
    at.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
    got = at.ask(below=f"/{below}/challenger", x_user_id="user-1")
    assert (got.status, got.headers["served-model-name"], got.json["model"]) == (200, "challenger", "chat")
    assert got.endpoint.startswith("phi4")
    missing = at.ask(below=f"/{below}/nobody")
    assert (missing.status, missing.json["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("which", ["sdk", "mlflow"])
def test_a_real_client(at: Behind, which: str) -> None:
    hosts = [at.providers[name].host for name in ("openai", "anthropic")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.clients", which, at.url, *hosts],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    if which == "mlflow":
        assert all(provider.sent for provider in at.providers.values())


def test_the_commands_of_the_page(at: Behind) -> None:
    """Those of docs/serving-endpoints.md, as a user pastes them."""
    page = (Path(__file__).parents[2] / "docs/serving-endpoints.md").read_text()
    section = page.partition("\n## Examples\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```", section, re.M | re.S)
    commands = "".join(blocks).replace("\n$ ", "\n").removeprefix("$ ").replace("http://127.0.0.1:10000", at.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={**os.environ, "TOKEN": ALICE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert '"error' not in done.stdout
    assert re.search(r"served-model-name: (current|challenger)\r?\n", done.stdout), done.stdout
    assert done.stdout.count('"chat.completion"') == 1, "one entity asked alone; of the other answer only a header is shown"
    shares = {
        each: [route["traffic_percentage"] for route in at.api("GET", f"/{each}")["config"]["traffic_config"]["routes"]]
        for each in ("chat", "chat-pt")
    }
    assert shares == {"chat": [50, 50], "chat-pt": [60, 40]}


def test_json_that_is_none_is_told_where(at: Behind) -> None:
    """As the article's first sample, the way it is printed."""
    got = at.call("POST", API, b'{\n "name": "chat",\n "config": {"served_entities": [],},\n}')
    assert (got.status, got.json["error_code"]) == (400, "MALFORMED_REQUEST")
    assert "line 3" in got.json["message"]


def test_tokens(at: Behind) -> None:
    """401 without one, 403 without the right; and no model server sees one."""
    for name in ("chat", "other"):
        at.api("POST", "", {"name": name, "config": own(current=100)})
    seen = [at.ask(token=None), at.ask(token="of-nobody-whatever"), at.ask(token=VICTOR), at.ask("other", token=QUENTIN)]
    assert [(each.status, each.json["error_code"]) for each in seen] == [
        (401, "UNAUTHENTICATED"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (403, "PERMISSION_DENIED"),
    ]
    assert all(set(each.json) == {"error_code", "message"} for each in seen)
    got = at.ask(token=QUENTIN)
    assert got.status == 200
    assert QUENTIN not in str(at.endpoints.requests(got.endpoint))
    # below /v1 a token is asked for only with --data-plane-auth=all
    assert call(at.url, "/v1/chat/completions", {"model": "chat", **MESSAGES}).status == 200


def test_a_limit_is_named(at: Behind) -> None:
    limits = [{"key": "endpoint", "calls": 2, "renewal_period": "minute"}]
    at.api("POST", "", {"name": "chat", "config": own(current=100), "ai_gateway": {"rate_limits": limits}})
    got = [at.ask() for _ in range(3)]
    assert [each.status for each in got] == [200, 200, 429]
    assert 1 <= int(got[2].headers["retry-after"]) <= 60
    assert got[2].json["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert got[2].json["message"].startswith("Endpoint `chat`: the limit of 2 calls per minute is used up")
