"""A connection that is over leaves nothing to the garbage collector, which in a server hardly ever comes round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from extproc.domain import Decision
from extproc.transport.h2.connection import Connection
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import GRPC, block, continuation, data, headers, message, rst, with_path
from tests.fakes.peers import PeerWire
from tests.fakes.wire import services_of

REQUEST = messages.request_headers(modes=(0, 0), end=True)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    return sum(isinstance(thing, Connection) for thing in gc.get_objects())


def nothing(wire: PeerWire) -> None:
    pass


def a_call_that_ended(wire: PeerWire) -> None:
    wire.send(headers(1), data(1, message(REQUEST), end=True))


def a_call_under_way(wire: PeerWire) -> None:
    wire.send(headers(1), data(1, message(REQUEST) + message(messages.response_headers())))


def a_call_without_window(wire: PeerWire) -> None:
    large = messages.request_headers(modes=(4, 0)), messages.request_body(bytes(100_000), end=True)
    whole = b"".join(map(message, large))
    wire.send(headers(1), *(data(1, whole[at : at + 16_000]) for at in range(0, len(whole), 16_000)))


def a_call_that_was_reset(wire: PeerWire) -> None:
    wire.send(headers(1), data(1, message(REQUEST)[:-1]), rst(1))


def a_call_with_a_deadline(wire: PeerWire) -> None:
    wire.send(headers(1, block((*GRPC, ("grpc-timeout", "1H")))), data(1, message(REQUEST)))


def somebody_who_watches(wire: PeerWire) -> None:
    wire.send(headers(1, with_path("/grpc.health.v1.Health/Watch")), data(1, message()))


def a_fault(wire: PeerWire) -> None:
    wire.send(continuation(1, b""))


@pytest.mark.parametrize(
    "doing",
    [
        nothing,
        a_call_that_ended,
        a_call_under_way,
        a_call_without_window,
        a_call_that_was_reset,
        a_call_with_a_deadline,
        somebody_who_watches,
        a_fault,
    ],
)
async def test_it_is_free_when_it_is_lost(doing: Callable[[PeerWire], None]) -> None:
    before = connections()
    wire = PeerWire(services=services_of(FakeDecider(Decision(ticket=object()))))
    doing(wire)
    assert connections() == before + 1
    wire.peer.connection_lost(None)
    del wire
    assert connections() == before
