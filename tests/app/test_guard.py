"""Who may read the pages of a whole service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extproc.app import build
from extproc.app.guard import wants_guard
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings
from tests.app.running import running
from tests.fakes.kube import FakeKube

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "grpc_port": 0,
    "grpc_health_port": 0,
    "metrics_port": 0,
    "drain_timeout": "1s",
    "secure_serving": False,
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
def kubeconfig(fake: FakeKube, tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig())
    return str(path)


async def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (answer.status == 401)
        return answer.status, await answer.text()


async def test_probes_are_open_and_pages_are_not(fake: FakeKube, kubeconfig: str) -> None:
    fake.token_review = lambda body: {"authenticated": body["spec"]["token"] == "good", "user": {"username": "prometheus"}}
    fake.access_review = lambda body: {"allowed": body["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}}
    service = build(BbrSettings(**HERE, metrics_endpoint_auth=True, kubeconfig=kubeconfig))
    async with running(service) as ports:
        assert await get(ports.metrics, "/healthz") == (200, "ok\n")
        assert (await get(ports.metrics, "/readyz"))[0] == 200
        assert await get(ports.metrics, "/metrics") == (401, "a bearer token is required (--metrics-endpoint-auth)\n")
        assert (await get(ports.metrics, "/metrics", "bad"))[0] == 401
        status, text = await get(ports.metrics, "/metrics", "good")
        assert (status, "bbr_success_total" in text) == (200, True)
        assert await get(ports.metrics, "/debug/decisions", "good") == (
            403,
            "prometheus has no right to get the nonResourceURL /debug/decisions\n",
        )
        assert (await get(ports.metrics, "/nothing"))[0] == 401
        await fake.kill()
        assert (await get(ports.metrics, "/metrics", "other"))[0] == 503
        assert (await get(ports.metrics, "/metrics", "good"))[0] == 200


async def test_asked_for_and_no_access(tmp_path: Path) -> None:
    service = build(BbrSettings(**HERE, metrics_endpoint_auth=True, kubeconfig=str(tmp_path / "none")))
    with pytest.raises(SettingsError, match="--metrics-endpoint-auth: "):
        await service.run(asyncio.Event())


async def test_in_a_cluster_without_access_only_the_pages_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    service = build(BbrSettings(**HERE, kubeconfig=str(tmp_path / "none")))
    async with running(service) as ports:
        status, text = await get(ports.metrics, "/metrics", "any")
        assert status == 503
        assert "--metrics-endpoint-auth=false opens this page" in text
        assert (await get(ports.metrics, "/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("flag", "cluster", "wanted"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
def test_on_in_a_cluster(flag: bool | None, cluster: bool, wanted: bool) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"} if cluster else {}
    assert wants_guard(BbrSettings(**HERE, metrics_endpoint_auth=flag), environ) is wanted
