"""Endpoints that take connections and never answer, and such that can't even be connected to: they hold up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from extproc.app import build
from extproc.app.pools import FIRST_ROUND_S
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.commands import EppSettings
from tests.app.running import chat, exchange, headers_of, pool_of, running, until
from tests.app.test_service import HERE

NUMBER = 300
"""More than are connected to at once."""


@contextlib.contextmanager
def hanging(*, accepting: bool) -> Iterator[list[str]]:
    """Addresses whose connections the kernel makes and nobody takes; or that it does not make either, as its queue is full."""
    with (
        socket.create_server(("0.0.0.0", 0), backlog=2 * NUMBER if accepting else 0) as silent,
        contextlib.ExitStack() as stack,
    ):
        port = silent.getsockname()[1]
        for _ in range(0 if accepting else 2):
            first = stack.enter_context(socket.socket())
            first.setblocking(False)
            first.connect_ex(("127.0.0.1", port))
        yield [f"127.2.{i // 200}.{i % 200 + 1}:{port}" for i in range(NUMBER)]


@pytest.mark.parametrize("accepting", [True, False], ids=["accepts and never answers", "can not be connected to"])
async def test_beside_one_that_is_well(endpoint: str, accepting: bool) -> None:
    """Ready within seconds, and no pick goes to one that hangs, however many are under way."""
    with hanging(accepting=accepting) as silent:
        service = build(EppSettings(**HERE, endpoints=(*silent[:150], endpoint, *silent[150:])))
        async with running(service) as ports:
            await until(lambda: asyncio.sleep(0, service.unready() is None), 10)
            picked = Counter(headers_of(answer)["x-gateway-destination-endpoint"] for answer in await burst(ports.grpc, 60))
            assert picked == {endpoint: 60}


async def test_all_of_them() -> None:
    """Then requests are spread over all, as nobody knows better."""
    with hanging(accepting=True) as silent:
        service = build(EppSettings(**HERE, endpoints=tuple(silent[:6])))
        async with running(service) as ports:
            await until(lambda: asyncio.sleep(0, service.unready() is None), 10)
            picked = Counter(headers_of(answer)["x-gateway-destination-endpoint"] for answer in await burst(ports.grpc, 60))
            assert len(picked) == 6


async def test_readiness_does_not_wait_for_ever() -> None:
    """Not even where an attempt never ends."""
    with hanging(accepting=True) as silent:
        service = build(EppSettings(**HERE, endpoints=(silent[0],)))
        pool = pool_of(service)
        now_s = 0.0
        pool._clock = lambda: now_s
        assert pool.unready() == "pool 'epp' has no endpoints yet"
        async with running(service):
            await until(lambda: asyncio.sleep(0, len(pool.store) > 0))
            assert pool.unready() == "pool 'epp': 1 of 1 endpoints not asked yet"
            now_s = FIRST_ROUND_S
            assert pool.unready() is None


async def burst(port: int, number: int) -> list[pb.ProcessingResponse]:
    """The first answers to so many requests at once."""
    return [answers[0] for answers in await asyncio.gather(*(exchange(port, chat(b'{"model": "m"}')) for _ in range(number)))]
