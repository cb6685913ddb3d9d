"""The API as a part of a service: its port, its file of tokens, and what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extproc.app.api import ApiPort, Behind, TokensFile, api_parts, can_serve
from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.telemetry import Telemetry
from extproc.control.changes import Create
from extproc.files import watch
from extproc.pool import PoolStore
from extproc.settings.api import ApiSettings
from extproc.settings.base import SettingsError
from tests.app.running import until
from tests.control.desks import Bench, document
from tests.fakes.candidates import endpoints
from tests.fakes.clock import FakeClock
from tests.fakes.kube import FakeKube
from tests.fakes.page import counted

TOKENS = "tokens:\n- {{token: {}, subject: {}, role: manage}}\n"
ALICE, BOB = "dapi-token-of-alice", "dapi-token-of-bob00"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.01})


def parts(bench: Bench, **words: Any) -> list[Component]:
    cluster = words.pop("cluster", None)
    telemetry = words.pop("telemetry", None) or Telemetry()
    settings = ApiSettings(**words)
    behind = Behind(bench.desk, bench.rollouts, bench.writer.live, lambda _: True, telemetry)
    found, _ = api_parts(settings, behind, cluster=cluster)
    return found


@contextlib.asynccontextmanager
async def running(components: Sequence[Component]) -> AsyncIterator[int]:
    """Gives the port."""
    tasks = []
    try:
        for each in components:
            await each.start()
            tasks.append(asyncio.create_task(each.run(asyncio.Event())))
        port = components[-1]
        assert isinstance(port, ApiPort)
        yield port.port
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in reversed(components):
            await each.close()


async def status(port: int, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{port}/api/2.0/serving-endpoints/chat"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.desk.open()
    await made.desk.apply(Create(document()), "ann")
    return made


async def test_without_tokens_on_loopback(bench: Bench) -> None:
    async with running(parts(bench)) as port:
        assert await status(port) == 200
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_tokens_are_watched_and_the_last_good_ones_stay(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(TOKENS.format(ALICE, "alice"))
    telemetry = Telemetry()
    components = parts(bench, api_tokens_file=str(file), telemetry=telemetry)
    file_of_tokens = components[0]
    assert isinstance(file_of_tokens, TokensFile)
    async with running(components) as port:
        assert [await status(port), await status(port, ALICE), await status(port, BOB)] == [401, 200, 401]
        file.write_text(TOKENS.format(BOB, "bob"))

        async def bob_is_known() -> bool:
            return "bob" in [grant.subject for grant in file_of_tokens.table.value]

        await until(bob_is_known)
        assert [await status(port, ALICE), await status(port, BOB)] == [401, 200]
        file.write_text("tokens: none")

        async def it_is_said() -> bool:
            return any(name.startswith("extproc_file_errors") for name in counted(telemetry.instruments))

        await until(it_is_said)
        assert await status(port, BOB) == 200


def test_a_file_of_tokens_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens:\n- {token: sekret, subject: a, role: view}\n")
    with pytest.raises(SettingsError) as failed:
        parts(Bench(), api_tokens_file=str(file))
    (problem,) = failed.value.problems
    assert problem.startswith(f"--api-tokens-file: {file}: line 2: tokens[0].token: expected text of 16")
    assert "sekret" not in problem
    with pytest.raises(SettingsError, match="No such file"):
        parts(Bench(), api_tokens_file=str(tmp_path / "none"))


async def test_a_port_that_is_taken_is_said_with_its_flag(bench: Bench) -> None:
    async with running(parts(bench)) as port:
        (second,) = parts(bench, api_port=port)
        with pytest.raises(SettingsError, match=f"--api-port: API port {port}: cannot listen on 127.0.0.1:{port}"):
            await second.start()
        await second.close()


async def test_kubernetes_is_asked(bench: Bench, tmp_path: Path) -> None:
    fake = FakeKube()
    await fake.start()
    fake.token_review = lambda body: {
        "authenticated": body["spec"]["token"] == "tok-alice",
        "user": {"username": "alice"},
    }
    fake.access_review = lambda _: {"allowed": True}
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig())
    telemetry = Telemetry()
    cluster = Cluster(str(path), telemetry.instruments)
    try:
        async with running(parts(bench, api_auth="kubernetes", cluster=cluster, telemetry=telemetry)) as port:
            assert [await status(port, "tok-alice"), await status(port, "tok-bob"), await status(port)] == [200, 401, 401]
    finally:
        await cluster.close()
        await fake.kill()


def test_what_telling_callers_apart_needs() -> None:
    with pytest.raises(SettingsError, match="--api-auth: got kubernetes without access to Kubernetes"):
        parts(Bench(), api_auth="kubernetes")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("extproc.api", "starlette"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(SettingsError, match=r"starlette is not installed: pip install 'extproc\[serving\]'"):
        parts(Bench())


def test_a_pool_can_serve_when_one_endpoint_may() -> None:
    store = PoolStore("a", FakeClock())
    ready = can_serve({"a": store})
    assert [ready("a"), ready("b")] == [False, False]
    one, two = endpoints(2)
    store.replace_endpoints([one, two])
    assert ready("a")
    for each in (one, two):
        store.page_failed(each.key, "refused", down=True)
    assert not ready("a")
