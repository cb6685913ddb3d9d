"""What a pod is to the API server: read by ourselves, without kubernetes-asyncio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.credentials import ServiceAccount, load_credentials
from extproc.kubernetes.errors import ApiError, KubeConfigError
from tests.fakes.certificates import Authority
from tests.fakes.clock import FakeClock
from tests.fakes.kube import FakeKube

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("projected\n")
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    (tmp_path / "namespace").write_text("serving\n")
    return tmp_path


async def test_what_it_says(folder: Path) -> None:
    credentials = await load_credentials(None, environ=ENVIRON, service_account=folder)

    assert credentials.host == "https://10.96.0.1:443"
    assert credentials.namespace == "serving"
    assert await credentials.authorization() == "Bearer projected"
    assert repr(credentials) == "<Credentials https://10.96.0.1:443 by service account>"
    context = credentials.tls()
    assert not isinstance(context, bool)
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] == 1, "the cluster's, and no other"


async def test_an_api_server_with_an_ipv6_address_and_no_namespace(folder: Path) -> None:
    (folder / "namespace").unlink()
    credentials = ServiceAccount(folder, {**ENVIRON, "KUBERNETES_SERVICE_HOST": "fd00::1"})

    assert credentials.host == "https://[fd00::1]:443"
    assert credentials.namespace == "default"


async def test_a_kubeconfig_goes_before_it(folder: Path) -> None:
    (folder / "kubeconfig").write_text(FakeKube().kubeconfig(namespace="elsewhere"))
    environ = {**ENVIRON, "KUBECONFIG": str(folder / "kubeconfig")}

    assert (await load_credentials(None, environ=environ, service_account=folder)).namespace == "elsewhere"


async def test_a_token_that_the_kubelet_renews(folder: Path) -> None:
    clock = FakeClock()
    credentials = ServiceAccount(folder, ENVIRON, clock=clock)
    (folder / "token").write_text("renewed")
    clock.advance(59)
    assert await credentials.authorization() == "Bearer projected"
    clock.advance(1)
    assert await credentials.authorization() == "Bearer renewed"
    (folder / "token").write_text("")
    clock.advance(60)
    assert await credentials.authorization() == "Bearer renewed", "the last one that was read"


async def test_a_token_that_is_refused_is_read_again_at_once(folder: Path) -> None:
    fake = FakeKube()
    await fake.start()
    clock = FakeClock()

    async def load() -> ServiceAccount:
        credentials = ServiceAccount(folder, ENVIRON, clock=clock)
        credentials.host = f"http://127.0.0.1:{fake.port}"
        return credentials

    client = KubeClient(load, clock=clock)
    try:
        await client.open()
        fake.token = "renewed"
        clock.advance(11)
        with pytest.raises(ApiError):
            await client.request("GET", PODS)
        (folder / "token").write_text("renewed")
        clock.advance(11)
        await client.request("GET", PODS)
    finally:
        await client.close()
        await fake.kill()


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"token": ""}, "token is empty"),
        ({"ca.crt": ""}, "ca.crt is empty"),
        ({"ca.crt": None}, "No such file or directory: '.*/ca.crt'"),
        ({"token": b"\xff"}, "can't decode"),
    ],
)
async def test_what_is_missing(folder: Path, broken: dict[str, str | bytes | None], problem: str) -> None:
    for name, content in broken.items():
        path = folder / name
        path.unlink() if content is None else path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(KubeConfigError, match=f"^service account: .*{problem}") as caught:
        await load_credentials(None, environ=ENVIRON, service_account=folder)

    assert "\n" not in str(caught.value)


async def test_half_an_environment(folder: Path) -> None:
    with pytest.raises(KubeConfigError, match="KUBERNETES_SERVICE_PORT are expected, both"):
        await load_credentials(None, environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, service_account=folder)


async def test_a_certificate_that_is_none(folder: Path) -> None:
    (folder / "ca.crt").write_text("not a certificate")
    credentials = await load_credentials(None, environ=ENVIRON, service_account=folder)

    with pytest.raises(KubeConfigError, match="service account: certificates can't be read"):
        credentials.tls()


def test_a_pod_does_not_import_the_library(folder: Path) -> None:
    """It costs 0.2 s and 34 MiB."""
    code = (
        "import asyncio, pathlib, sys, extproc.cli.epp, extproc.cli.bbr, extproc.app.cluster\n"
        "from extproc.kubernetes.credentials import load_credentials\n"
        f"load = load_credentials(None, environ={ENVIRON}, service_account=pathlib.Path({str(folder)!r}))\n"
        "assert asyncio.run(load).source == 'service account'\n"
        "sys.exit('kubernetes_asyncio' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
