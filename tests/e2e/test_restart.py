"""Our servers are replaced under load, with a real Envoy: no request fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.load import load
from tests.e2e.parts import Endpoints, Stack, call, until
from tests.e2e.restarts import Generations, metric
from tests.fakes.certificates import Authority, common_name, trusting

pytestmark = [pytest.mark.e2e, pytest.mark.long]

OURS = ("gateway", "router", "picker-llama", "picker-phi4")
TIMES = int(os.environ.get("EXTPROC_TEST_RESTARTS", "1"))
"""Replacements of each server in a test; more for a longer proof."""
Start = Callable[..., contextlib.AbstractContextManager[Stack]]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def start(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Start:
    @contextlib.contextmanager
    def started(kind: str, *flags: str, changes: tuple[Change, ...] = (), answers: str = "NONE") -> Iterator[Stack]:
        def change_ours(document: dict[str, Any]) -> None:
            for cluster in document["static_resources"]["clusters"]:
                if cluster["name"] in OURS:
                    for change in changes:
                        change(cluster)

        stack = Stack(kind, envoy_binary, endpoints, tmp_path, flags=flags, change=change_ours, answers=answers)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()

    return started


def short_lived(cluster: dict[str, Any]) -> None:
    """Envoy makes a new connection to us every other request: many are on their way whenever a server stops."""
    (options,) = cluster["typed_extension_protocol_options"].values()
    options["common_http_protocol_options"] = {"max_requests_per_connection": 2}


def plaintext(cluster: dict[str, Any]) -> None:
    del cluster["transport_socket"]


async def replace_all(stack: Stack) -> None:
    """Replace each server of the stack several times under load: no request fails."""
    servers = [Generations(stack, name) for name in stack.servers]
    async with load(stack.url) as seen:
        await seen.more(20)
        for _ in range(TIMES):
            for server in servers:
                assert await server.replace() == 0
                await seen.more(10)


@pytest.mark.timeout(60 + 20 * TIMES)
class TestReplaced:
    @pytest.mark.parametrize("kind", ["one-hop", "two-stage"])
    async def test_on_the_same_port(self, start: Start, kind: str) -> None:
        with start(kind, "--reuse-port") as stack:
            await replace_all(stack)

    @pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
    async def test_while_connections_are_made(self, start: Start, tls: bool) -> None:
        flags = () if tls else ("--secure-serving=false",)
        changes = (short_lived,) if tls else (short_lived, plaintext)
        with start("one-hop", "--reuse-port", *flags, changes=changes) as stack:
            await replace_all(stack)

    async def test_while_answers_pass_through(self, start: Start) -> None:
        with start("one-hop", "--reuse-port", "--response-metrics", answers="FULL_DUPLEX_STREAMED") as stack:
            await replace_all(stack)

    @pytest.mark.parametrize("lived", ["long", "short"])
    async def test_on_a_unix_socket(self, start: Start, tmp_path: Path, lived: str) -> None:
        file = tmp_path / "grpc.sock"
        path = str(file)

        def pipe(cluster: dict[str, Any]) -> None:
            (host,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            host["endpoint"]["address"] = {"pipe": {"path": path}}

        changes = (plaintext, pipe) if lived == "long" else (plaintext, pipe, short_lived)
        with start("one-hop", "--reuse-port", "--grpc-socket", path, changes=changes) as stack:
            await replace_all(stack)
            assert file.exists()
        assert not file.exists()


async def test_a_replacement_gets_nothing_before_it_is_ready(start: Start, endpoints: Endpoints) -> None:
    """It waits for an endpoint that hangs, while the other goes on."""
    with start("one-hop", "--reuse-port", changes=(short_lived,)) as stack:
        server = Generations(stack, "gateway")
        call(endpoints.url("llama-1"), "/sim/faults", {"target": "metrics", "fault": "hang"})
        async with load(stack.url) as seen:
            starting = asyncio.create_task(server.start_next())
            await asyncio.to_thread(until, lambda: call(server.page, "/readyz").status == 503)
            looks = 0
            while not starting.done():
                accepted = await asyncio.to_thread(metric, server.page, "extproc_connections_total")
                if (await asyncio.to_thread(call, server.page, "/readyz")).status == 200:
                    break
                assert accepted == 0
                looks += 1
                await seen.more(5)
            assert looks
            call(endpoints.url("llama-1"), "/sim/faults", method="DELETE")
            before, _ = await starting
            assert await asyncio.to_thread(before.stop, 20.0) == 0
            await seen.more(20)
        assert metric(server.page, "extproc_connections_total") > 0


async def test_new_certificates_under_load(start: Start, tmp_path: Path) -> None:
    authority = Authority()
    folder = authority.issue("gateway-0").write(tmp_path / "tls")

    def served(port: int) -> str:
        with socket.create_connection(("127.0.0.1", port), 5) as plain, trusting().wrap_socket(plain) as secure:
            certificate = secure.getpeercert(binary_form=True)
        assert certificate
        return common_name(certificate)

    with start("one-hop", "--cert-path", str(folder), "--enable-cert-reload", changes=(short_lived,)) as stack:
        port = stack.ports[9002]
        assert await asyncio.to_thread(served, port) == "gateway-0"
        async with load(stack.url) as seen:
            for number in range(1, TIMES + 2):
                name = f"gateway-{number}"
                authority.issue(name).write(folder)
                await asyncio.to_thread(until, lambda name=name: served(port) == name, what=f"{name} is served")
                await seen.more(20)
        assert metric(stack.pages["gateway"], "extproc_tls_reloads_total") == TIMES + 1
