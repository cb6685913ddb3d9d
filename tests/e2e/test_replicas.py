"""Two gateways on one PostgreSQL, each behind an Envoy of its own: all that users see of it, over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.behind import API, Behind, behind, own, split
from tests.e2e.parts import Answer, Endpoints, call, until
from tests.storage.server import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.long]

AGREED_S = 1.0
WRITERS, EACH = 8, 12
UP = "extproc_endpoints_store_up"


class Pair(NamedTuple):
    """The replicas."""

    a: Behind
    b: Behind
    database: PostgresServer

    def create(self, name: str, **shares: Any) -> None:
        """On A, and known on B."""
        self.a.api("POST", "", {"name": name, "config": own(**shares)})
        until(lambda: self.b.ask(name).status == 200, what=f"B knows {name}", within_s=AGREED_S)


@pytest.fixture(scope="module")
def pair(
    envoy_binary: Path, session_endpoints: Endpoints, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    url = postgres.url(postgres.new_schema())
    with contextlib.ExitStack() as running:
        a, b = (
            running.enter_context(behind(envoy_binary, session_endpoints, tmp_path_factory.mktemp(name), "--database-url", url))
            for name in "ab"
        )
        yield Pair(a, b, postgres)


def config_of(at: Behind, name: str) -> Any:
    return at.api("GET", f"/{name}")["config"]


def change(at: Behind, name: str, current: int, **more: Any) -> Answer:
    body = {"traffic_config": split(current=current, challenger=100 - current), **more}
    return at.call("PUT", f"{API}/{name}/config", body)


def both(pair: Pair, name: str, write: Any) -> list[Any]:
    """What WRITERS at once make of it, half of them on each replica."""
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(lambda number: write((pair.a, pair.b)[number % 2], name, number), range(WRITERS)))


def test_a_change_on_one_is_in_force_on_the_other(pair: Pair) -> None:
    """By real requests to the other, within a second, and back."""
    pair.create("seen", current=100, challenger=0)
    took: list[float] = []
    for turn in range(10):
        here, there = (pair.a, pair.b) if turn % 2 else (pair.b, pair.a)
        share, entity = (100, "current") if turn % 2 else (0, "challenger")
        assert change(here, "seen", share).status == 200
        began_s = time.monotonic()
        until(
            lambda there=there, entity=entity: there.ask("seen").headers["served-model-name"] == entity,  # type: ignore[misc]
            what="it is in force",
            within_s=AGREED_S,
        )
        took.append(time.monotonic() - began_s)
    assert max(took) < AGREED_S
    pair.a.api("DELETE", "/seen")
    until(lambda: pair.b.ask("seen").status == 404, what="B has forgotten it", within_s=AGREED_S)


def test_writes_to_both_at_once_are_one_after_the_other(pair: Pair) -> None:
    """Each has its own version, none is lost, and both agree on the last."""
    pair.create("written", current=50, challenger=50)

    def write(at: Behind, name: str, number: int) -> dict[int, int]:
        """The share that each acknowledged version has."""
        made = {}
        for turn in range(EACH):
            share = (number * EACH + turn) % 101
            got = change(at, name, share, reason=f"{number}-{turn}")
            assert got.status == 200, got
            made[got.json["config"]["config_version"]] = share
        return made

    found = both(pair, "written", write)
    made = {version: share for each in found for version, share in each.items()}
    assert sorted(made) == list(range(2, 2 + WRITERS * EACH)), "each has a version of its own, and none is left out"
    last = max(made)
    until(lambda: config_of(pair.a, "written") == config_of(pair.b, "written"), what="both agree", within_s=AGREED_S)
    config = config_of(pair.b, "written")
    shares = {each["served_model_name"]: each["traffic_percentage"] for each in config["traffic_config"]["routes"]}
    assert (config["config_version"], shares["current"]) == (last, made[last])
    assert sorted(pair.a.history("written").values()) == list(range(1, last + 1))
    assert pair.a.history("written") == pair.b.history("written")


def test_of_those_who_saw_the_same_version_one_may_change_it(pair: Pair) -> None:
    """On whichever replica; the others are told, by 409."""
    pair.create("expected", current=50, challenger=50)
    for turn in range(5):
        version = 1 + turn

        def write(at: Behind, name: str, number: int, version: int = version) -> int:
            return change(at, name, number, config_version=version).status

        assert sorted(both(pair, "expected", write)) == [200] + [409] * (WRITERS - 1)
    assert config_of(pair.a, "expected")["config_version"] == 6
    refused = change(pair.b, "expected", 1, config_version=3)
    assert (refused.status, refused.json["error_code"]) == (409, "RESOURCE_CONFLICT")


def test_when_one_is_killed_nothing_acknowledged_is_lost(pair: Pair) -> None:
    """The other one serves and takes changes meanwhile; the killed one comes back to the same state."""
    pair.create("killed", current=50, challenger=50)
    acknowledged: dict[str, int] = {}
    killed, over = threading.Event(), threading.Event()

    def write(at: Behind, name: str, number: int) -> None:
        turn = 0
        while not over.is_set() and not (at is pair.a and killed.is_set()):
            turn += 1
            try:
                got = change(at, name, (number + turn) % 101, reason=f"{number}-{turn}")
            except (OSError, http.client.HTTPException):
                continue
            if got.status == 200:
                acknowledged[f"{number}-{turn}"] = got.json["config"]["config_version"]

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(both, pair, "killed", write)
        try:
            until(lambda: len(acknowledged) >= 40, what="changes are acknowledged")
            pair.a.stack.servers["gateway"].kill()
            killed.set()
            seen = len(acknowledged)
            until(lambda: len(acknowledged) >= seen + 20, what="the other one takes changes")
            assert pair.b.ask("killed").status == 200
        finally:
            over.set()
        writing.result()
    there = pair.b.history("killed")
    assert acknowledged.items() <= there.items()
    versions = sorted(there.values())
    assert versions == list(range(1, versions[-1] + 1))
    pair.a.restart()
    assert pair.a.history("killed") == there
    assert config_of(pair.a, "killed") == config_of(pair.b, "killed")
    assert pair.a.ask("killed").status == 200


def test_without_the_database_both_route_on(pair: Pair) -> None:
    """Changes are 503, and metrics say why; when it is back, so is everything."""
    pair.create("alone", current=100, challenger=0)
    pair.database.stop()
    try:
        for at in (pair.a, pair.b):
            got = change(at, "alone", 50)
            assert (got.status, got.json["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            for _ in range(20):
                asked = at.ask("alone")
                assert (asked.status, asked.headers["served-model-name"]) == (200, "current")
            assert at.call("GET", f"{API}/alone").status == 200, "what is known can be read"
            until(lambda at=at: store_up(at) == 0, what="the metric says so")  # type: ignore[misc]
    finally:
        pair.database.start()
    for here, there, entity in ((pair.a, pair.b, "challenger"), (pair.b, pair.a, "current")):
        share = 100 if entity == "current" else 0
        until(lambda here=here, share=share: change(here, "alone", share).status == 200, what="changes work")  # type: ignore[misc]
        until(
            lambda there=there, entity=entity: there.ask("alone").headers["served-model-name"] == entity,  # type: ignore[misc]
            what="they are in force on the other one",
        )
        until(lambda here=here: store_up(here) == 1, what="the metric says so")  # type: ignore[misc]


def store_up(at: Behind) -> float:
    page = call(at.stack.pages["gateway"], f"/metrics?name[]={UP}").body.decode()
    (line,) = [each for each in page.splitlines() if each.startswith(f"{UP} ")]
    return float(line.split()[1])
