from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.credentials import load_credentials
from extproc.kubernetes.errors import ApiError, ApiUnreachable, KubeConfigError
from tests.fakes.clock import FakeClock
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import LEASES, pod


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
async def client(fake: FakeKube, tmp_path: Path) -> AsyncIterator[KubeClient]:
    client = await KubeClient.connect(kubeconfig_of(fake, tmp_path))
    yield client
    await client.close()


def kubeconfig_of(fake: FakeKube, directory: Path) -> str:
    path = directory / "kubeconfig"
    path.write_text(fake.kubeconfig(namespace="models"))
    return str(path)


PODS = "/api/v1/namespaces/default/pods"


async def test_objects_are_plain_json(fake: FakeKube, client: KubeClient) -> None:
    fake.put("pods", pod("a"))

    listed = await client.request("GET", PODS)

    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    assert client.namespace == "models"


async def test_what_the_server_refuses(fake: FakeKube, client: KubeClient) -> None:
    fake.forbidden.add(("list", "pods"))

    with pytest.raises(ApiError) as caught:
        await client.request("GET", PODS)

    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    assert "cannot list" in caught.value.message


async def test_writes_are_optimistic(fake: FakeKube, client: KubeClient) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    made = await client.request("POST", path, body={"metadata": {"name": "x"}, "spec": {"holderIdentity": "a"}})
    with pytest.raises(ApiError) as caught:
        await client.request("POST", path, body={"metadata": {"name": "x"}})
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    await client.request("PUT", f"{path}/x", body={**made, "spec": {"holderIdentity": "b"}})

    with pytest.raises(ApiError) as caught:
        await client.request("PUT", f"{path}/x", body={**made, "spec": {"holderIdentity": "c"}})

    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert fake.get(LEASES, "x")["spec"] == {"holderIdentity": "b"}


async def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        fake = FakeKube()
        fake.port = held.getsockname()[1]
        client = await KubeClient.connect(kubeconfig_of(fake, tmp_path))
        with pytest.raises(ApiUnreachable, match="refused"):
            await client.request("GET", PODS)
        await client.close()


async def test_a_server_that_never_answers(fake: FakeKube, client: KubeClient) -> None:
    fake.silent = True

    with pytest.raises(ApiUnreachable, match=r"no answer in 0\.05 s"):
        await client.request("GET", PODS, timeout_s=0.05)


async def test_a_watch_brings_what_happens(fake: FakeKube, client: KubeClient) -> None:
    since = str(fake.version)
    fake.put("pods", pod("a"))
    fake.delete("pods", "a")
    events = []
    async for event in client.watch(PODS, {"resourceVersion": since}):
        events.append((event["type"], event["object"]["metadata"]["name"]))
        if len(events) == 2:
            fake.put("pods", pod("b"))
        if len(events) == 3:
            break

    assert events == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]


async def test_a_watch_that_is_cut(fake: FakeKube, client: KubeClient) -> None:
    batches = client.watch_batches(PODS, {})
    await anext(batches)
    fake.cut()

    with pytest.raises(ApiUnreachable):
        await anext(batches)


async def test_a_watch_that_is_silent(fake: FakeKube, client: KubeClient) -> None:
    batches = client.watch_batches(PODS, {}, silence_s=0.05)
    await anext(batches)

    with pytest.raises(ApiUnreachable, match=r"no answer in 0\.05 s"):
        await anext(batches)


async def test_an_event_that_comes_in_pieces_and_two_in_one(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        for piece in (b'{"type": "A", "obj', b'ect": {}}\n{"type": "B", "object": {}}\n', b'{"type": "C", "object"'):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    fake = FakeKube()
    fake.port = server.sockets[0].getsockname()[1]
    client = await KubeClient.connect(kubeconfig_of(fake, tmp_path))
    async with asyncio.timeout(5):
        kinds = [event["type"] async for event in client.watch("/x", {})]
    await client.close()
    server.close()
    await server.wait_closed()

    assert kinds == ["A", "B"]  # half an event at the end is none: the next watch brings it whole


async def test_a_rotated_token_is_read_again(fake: FakeKube, tmp_path: Path) -> None:
    fake.token = "first"
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig(token="first"))
    clock = FakeClock()
    client = KubeClient(lambda: load_credentials(str(path)), clock=clock)
    await client.open()
    await client.request("GET", PODS)
    fake.token = "second"
    path.write_text(fake.kubeconfig(token="second"))
    with pytest.raises(ApiError):  # not on each refusal: a token that is wrong for good would be read for ever
        await client.request("GET", PODS)
    clock.advance(11)

    await client.request("GET", PODS)

    await client.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no such file"),
        ("{", "not valid YAML"),
        ("", "NoneType"),
        ("kind: Config", "current-context"),
        ("[]", ""),
        ("current-context: a\ncontexts: []\nclusters: []\n", "a"),
    ],
)
async def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "broken"
    if text is not None:
        path.write_text(text)

    with pytest.raises(KubeConfigError, match=f"^--kubeconfig: {path}: .*{problem}") as caught:
        await load_credentials(str(path))

    assert "\n" not in str(caught.value)


async def test_nothing_to_connect_with(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match=r"neither --kubeconfig, KUBECONFIG nor ~/.kube/config"):
        await load_credentials(None, environ={}, service_account=tmp_path, home=tmp_path)


async def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)

    with pytest.raises(KubeConfigError, match=r"pip install 'extproc\[kubernetes\]'"):
        await load_credentials(str(tmp_path / "any"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # kubernetes-asyncio asks for the time in an old way
async def test_an_exec_plugin_is_asked_again_when_its_token_expires(fake: FakeKube, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    count = tmp_path / "count"
    status = '{\\"token\\": \\"token-$n\\", \\"expirationTimestamp\\": \\"2020-01-01T00:00:00Z\\"}'
    plugin.write_text(
        f"#!/bin/sh\necho x >> {count}\nn=$(wc -l < {count} | tr -d ' ')\n"
        'echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", \\"kind\\": \\"ExecCredential\\", '
        f'\\"status\\": {status}}}"\n'
    )
    plugin.chmod(0o755)
    user = f"{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {plugin}, interactiveMode: Never}}}}"
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig().replace("{token: 'secret'}", user))
    client = await KubeClient.connect(str(path))
    try:
        for token in ("token-2", "token-3"):  # the first is from reading the kubeconfig, and has expired
            fake.token = token
            await client.request("GET", PODS)
    finally:
        await client.close()


async def test_an_exec_plugin_that_fails_at_start(fake: FakeKube, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Never}}"
    path.write_text(fake.kubeconfig().replace("{token: 'secret'}", user))

    with pytest.raises(KubeConfigError, match="exec: process returned 1"):
        await load_credentials(str(path))
