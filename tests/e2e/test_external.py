"""Providers through a real Envoy with envoy/serving-endpoints.yaml: TLS to a checked address, for the name that was meant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from extproc import names
from tests.e2e.attempts import CHAT, INVOCATIONS, Before, Do, Entity, Servers, attempts, cuts_after_head, says
from tests.e2e.parts import until
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.certificates import Authority
from tests.fakes.serving import TransportName

pytestmark = pytest.mark.e2e

FIRST = 5
"""The number of an endpoint's port that is the first provider's: five model servers come before."""
NAMES = ("api.one.example", "api.two.example")


class Provider:
    """Listens with TLS under several names, and keeps what it was asked."""

    def __init__(self, folder: Path, authority: Authority, does: Mapping[str, Do] = {}, hosts: Sequence[str] = NAMES) -> None:
        self.servers = Servers(does)
        self.indicated: list[str | None] = []
        contexts = {name: self._context(folder / name, authority, name) for name in hosts}

        def choose(connection: ssl.SSLObject, name: str | None, default: ssl.SSLContext) -> None:
            self.indicated.append(name)
            if name in contexts:
                connection.context = contexts[name]

        first = next(iter(contexts.values()))
        first.sni_callback = choose
        self.upstream = Upstream(self.servers, first)

    def _context(self, folder: Path, authority: Authority, name: str) -> ssl.SSLContext:
        where = authority.issue(name).write(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(where / "tls.crt", where / "tls.key")
        return context


@contextlib.asynccontextmanager
async def providers(
    binary: Path,
    directory: Path,
    entities: Sequence[Entity],
    provider: Upstream,
    trusted: Authority,
    *,
    does: Mapping[str, Do] = {},
    transport: TransportName = "h2",
) -> AsyncIterator[Before]:
    """Envoy that trusts this authority."""
    file = directory / "ca.crt"
    file.write_bytes(trusted.pem)

    def change(document: Any) -> None:
        (external,) = [each for each in document["static_resources"]["clusters"] if each["name"] == "external"]
        tls = external["transport_socket"]["typed_config"]["common_tls_context"]
        tls["validation_context"]["trusted_ca"]["filename"] = str(file)

    async with (
        provider.listening(),
        attempts(binary, directory, entities, does, providers=[provider], transport=transport, change=change) as before,
    ):
        yield before


def external(model: str, name: str = NAMES[0], **more: Any) -> Entity:
    return Entity(model, FIRST, name, names.ROUTE_EXTERNAL, **more)


@pytest.mark.parametrize("path", [INVOCATIONS, CHAT])
async def test_a_provider_answers(envoy_binary: Path, tmp_path: Path, path: str) -> None:
    """What it gets is the gateway's; and its answer comes by the gateway, although its route was chosen only then."""
    authority = Authority()
    provider = Provider(tmp_path, authority)
    entities = [external("gpt", restored=True)]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority) as before:
        headers = {"authorization": "Bearer the-clients", "x-forwarded-for": "10.1.2.3"}
        got = await before.ask({"model": "ep"}, path, headers)
        assert (got.status, got.json) == (200, {"model": "ep"})
        assert got.headers["served-model-name"] == "gpt"
        assert provider.indicated == [NAMES[0]]
        (asked,) = provider.servers.asked
        assert (asked.path, asked.body) == ("/v1/gpt", b'{"model": "gpt"}')
        assert asked.headers["host"] == NAMES[0]
        assert asked.headers["authorization"] == "Bearer gpt"
        assert b"the-clients" not in asked.head
        assert not [name for name in asked.headers if name.startswith("x-")]


async def test_connections_are_kept_and_not_shared_between_names(envoy_binary: Path, tmp_path: Path) -> None:
    """At one address."""
    authority = Authority()
    provider = Provider(tmp_path, authority)
    entities = [external("gpt"), external("claude", NAMES[1])]
    provider.servers.does["gpt"] = says(429)
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority) as before:
        for _ in range(5):
            assert (await before.ask()).json == {"model": "claude"}
        assert sorted(provider.indicated, key=str) == list(NAMES)
        assert {each.headers["host"] for each in provider.servers.asked} == set(NAMES)
        assert {each.headers["authorization"] for each in provider.servers.asked if each.headers["host"] == NAMES[0]} == {
            "Bearer gpt"
        }


@pytest.mark.parametrize("fault", ["another name", "another authority"])
async def test_whoever_is_not_the_one_that_was_meant_gets_nothing(envoy_binary: Path, tmp_path: Path, fault: str) -> None:
    authority = Authority()
    signed_by = authority if fault == "another name" else Authority("somebody")
    provider = Provider(tmp_path, signed_by, hosts=NAMES[1:] if fault == "another name" else NAMES)
    async with providers(envoy_binary, tmp_path, [external("gpt")], provider.upstream, authority) as before:
        got = await before.ask()
        assert got.status == 503
        assert got.headers["served-model-name"] == "gpt"
        assert provider.servers.asked == []
        told = [line["tls_failure"] for line in await before.logged(2) if line["log"] == "attempt"]
        assert "CERTIFICATE_VERIFY_FAILED" in told[0]


@pytest.mark.parametrize(
    "does",
    [says(429), says(500), says(529), cuts_after_head],
    ids=["429", "500", "529", "cut"],
)
async def test_from_a_provider_to_an_own_model(envoy_binary: Path, tmp_path: Path, does: Do) -> None:
    authority = Authority()
    provider = Provider(tmp_path, authority, {"gpt": does})
    entities = [external("gpt"), Entity("own", 0)]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority) as before:
        got = await before.ask()
        assert (got.status, got.json) == (200, {"model": "own"})
        assert before.servers.asked[0].headers["authorization"] == "Bearer own"
        assert before.servers.asked[0].headers["host"].startswith("127.0.0.1")


async def test_from_an_own_model_to_a_provider(envoy_binary: Path, tmp_path: Path) -> None:
    authority = Authority()
    provider = Provider(tmp_path, authority)
    entities = [Entity("own", 0), external("gpt")]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority, does={"own": says(503)}) as before:
        body = b'{"pad": "' + b"x" * 5_000_000 + b'", "model": "ep"}'
        assert (await before.ask(body)).json == {"model": "gpt"}
        assert provider.servers.asked[0].body == body.replace(b'"ep"', b'"gpt"')


async def silent(exchange: Exchange) -> None:
    await exchange.gone()


async def silent_after_head(exchange: Exchange) -> None:
    await exchange.begin("text/event-stream")
    await exchange.gone()


@pytest.mark.parametrize("falls_back", [True, False])
@pytest.mark.parametrize("does", [silent, silent_after_head])
async def test_a_provider_that_is_silent(
    envoy_binary: Path, tmp_path: Path, transport: TransportName, does: Do, falls_back: bool
) -> None:
    """504 of the gateway's own, or the next entity; Envoy lets go of the provider."""
    authority = Authority()
    provider = Provider(tmp_path, authority, {"gpt": does})
    entities = [external("gpt", patience_s=0.3), *([Entity("own", 0)] if falls_back else [])]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority, transport=transport) as before:
        began_s = time.monotonic()
        got = await before.ask({"model": "ep", "pad": "x" * 1_000_000})
        assert time.monotonic() - began_s > 0.3
        assert len(provider.servers.asked) == 1
        if falls_back:
            assert (got.status, got.json) == (200, {"model": "own"})
        else:
            assert (got.status, got.json["error_code"]) == (504, "DEADLINE_EXCEEDED")
            assert got.json["message"] == "nothing of an answer came within 0.3 s"
        lines = await before.logged(3 if falls_back else 2)
        (first,) = [line for line in lines if line["log"] == "attempt" and line["attempt"] == 1]
        assert (first["status"], first["details"]) == (504, "extproc_provider_silent")
        await asyncio.to_thread(until, lambda: before.entities.ends[:1] == [(504, False)], what="the attempt is over")


async def test_a_provider_that_has_begun_may_take_its_time(
    envoy_binary: Path, tmp_path: Path, transport: TransportName
) -> None:
    """Between two events, and in all: what counts is the first."""

    async def slow(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        for number in range(3):
            await exchange.chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(0.5)
        await exchange.end()

    authority = Authority()
    provider = Provider(tmp_path, authority, {"gpt": slow})
    entities = [external("gpt", patience_s=0.4), Entity("own", 0)]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority, transport=transport) as before:
        got = await before.ask()
        assert (got.status, got.body) == (200, b"data: 0\n\ndata: 1\n\ndata: 2\n\n")
        assert before.entities.attempts == [1]


@pytest.mark.parametrize("route", [names.ROUTE_EXTERNAL, names.ROUTE_EXTERNAL_PLAIN])
async def test_without_an_address_that_was_checked_nothing_goes_out(envoy_binary: Path, tmp_path: Path, route: str) -> None:
    """Whatever a client's header says of it."""
    authority = Authority()
    provider = Provider(tmp_path, authority)
    entities = [Entity("gpt", FIRST, NAMES[0], route, unchecked=True)]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority) as before:
        address = f"127.0.0.1:{before.entities.ports[FIRST]}"
        got = await before.ask(headers={names.EXTERNAL_KEY: address, "x-envoy-original-dst-host": address})
        assert got.status == 503
        assert (provider.indicated, provider.servers.asked) == ([], [])


async def test_a_provider_without_tls(envoy_binary: Path, tmp_path: Path) -> None:
    """On its own route, which is the gateway's to choose."""
    servers = Servers({})
    plain = Upstream(servers)
    entities = [Entity("gpt", FIRST, "inside.example:8080", names.ROUTE_EXTERNAL_PLAIN)]
    async with providers(envoy_binary, tmp_path, entities, plain, Authority()) as before:
        assert (await before.ask()).json == {"model": "gpt"}
        assert servers.asked[0].headers["host"] == "inside.example:8080"


async def test_events_come_at_once(envoy_binary: Path, tmp_path: Path) -> None:
    """Each one before the provider writes the next."""
    seen = asyncio.Event()

    async def in_step(exchange: Exchange) -> None:
        await exchange.begin("text/event-stream")
        for _ in range(10):
            await exchange.chunk(b'data: {"model":"gpt"}\n\n')
            await asyncio.wait_for(seen.wait(), 5)
            seen.clear()
        await exchange.end()

    authority = Authority()
    provider = Provider(tmp_path, authority, {"gpt": in_step})
    entities = [external("gpt", restored=True), Entity("own", 0)]
    async with providers(envoy_binary, tmp_path, entities, provider.upstream, authority) as before:
        host, port = before.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": "ep"}).encode()
        writer.write(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" % INVOCATIONS.encode())
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
        for _ in range(10):
            await asyncio.wait_for(reader.readuntil(b'data: {"model":"ep"}\n\n'), 5)
            seen.set()
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        writer.close()
