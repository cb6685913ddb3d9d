"""The same ext_proc streams over every transport: messages, their order, and how each stream ends must be equal.

The client of the sessions without I/O is hyper-h2, that of the servers is grpc's; neither is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, cycle
from typing import Any, NamedTuple

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import names
from extproc.domain import Decision, Reply
from extproc.errors import NoEndpoints, ProtocolError, UnknownModel
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import StreamMetrics
from extproc.protocol import Decide, StreamLimits
from extproc.sockets.listen import Tcp
from extproc.transport.codec import Encoder, joined
from extproc.transport.grpcio import ExtProcServer
from extproc.transport.h2.calls import Calls
from extproc.transport.h2.connection import Connection
from extproc.transport.h2.limits import H2Limits
from extproc.transport.h2.server import H2Server
from extproc.transport.health import Health
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.clock import FakeClock
from tests.fakes.decider import FakeDecider
from tests.fakes.fuzz import examples
from tests.fakes.hyper import HyperClient
from tests.fakes.wire import Timers, counted, services_of

LIMITS = StreamLimits(max_body_bytes=100_000)
INVALID_ARGUMENT = 3


class Outcome(NamedTuple):
    """What a client has of a stream."""

    answers: list[bytes]
    code: int
    details: str


def decide(question: Decide) -> Decision | Reply:
    """An outcome that depends on the request alone."""
    body = bytes(question.body or b"")
    if body.startswith(b"0"):
        raise UnknownModel("no such model: é %")
    if body.startswith(b"1"):
        raise NoEndpoints("none")
    if body.startswith(b"2"):
        return Reply(200, b"{}")
    return Decision(set_headers=(("x-size", str(len(body))),), ticket=object())


# -- sessions ----------------------------------------------------------------------------------------------------

modes = st.sampled_from([(4, 4), (4, 4), (4, 0), (2, 0), (2, 2), (1, 1), (3, 0), (0, 0)])
statuses = st.sampled_from([b"200", b"404", b"503"])


FIRSTS = st.sampled_from([b"", b"0", b"1", b"2"])


def bodies(size: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda first, size: (first + b'{"model": "m"}' * (size // 14 + 1))[:size], FIRSTS, size)


@st.composite
def sessions(draw: st.DrawFn, size: st.SearchStrategy[int]) -> list[bytes]:
    """The messages of one HTTP exchange as Envoy sends them, perhaps cut short."""
    mode = draw(modes)
    pieces = draw(st.lists(bodies(size), max_size=3))
    trailers = draw(st.booleans())
    told = [messages.request_headers(end=not pieces and not trailers, modes=mode, early=draw(st.booleans()))]
    if mode[0]:
        told += [messages.request_body(p, end=p is pieces[-1] and not trailers) for p in pieces]
        told += [messages.request_trailers()] if trailers else []
    answer = draw(st.lists(bodies(size), max_size=2))
    told.append(messages.response_headers(draw(statuses), end=not answer))
    if mode[1]:
        told += [messages.response_body(piece, end=piece is answer[-1]) for piece in answer]
    return told[: draw(st.integers(0, len(told)))]


def mixed(size: st.SearchStrategy[int]) -> st.SearchStrategy[list[bytes]]:
    """Messages in an order that Envoy would not send, or that are none at all."""
    one = st.one_of(
        st.builds(messages.request_headers, end=st.booleans(), modes=modes),
        st.builds(messages.request_body, bodies(size), end=st.booleans()),
        st.just(messages.request_trailers()),
        st.builds(messages.response_headers, statuses, end=st.booleans()),
        st.builds(messages.response_body, bodies(size), end=st.booleans()),
        st.just(messages.response_trailers()),
        st.sampled_from([b"", b"\xff\xff", b"\x0a\x05ab"]),
    )
    return st.lists(one, max_size=5)


def streams(size: st.SearchStrategy[int]) -> st.SearchStrategy[list[list[bytes]]]:
    """Streams that are open at the same time; most of them as Envoy has them."""
    valid = sessions(size)
    return st.lists(st.one_of(valid, valid, valid, mixed(size)), min_size=1, max_size=4)


# -- transports --------------------------------------------------------------------------------------------------


def by_a_session(raws: list[bytes]) -> Outcome:
    """No transport at all."""
    session = Session(FakeDecider(decide), Encoder(), LIMITS)
    answers: list[bytes] = []
    try:
        for raw in raws:
            answers += [joined(answer) for answer in session.receive(raw)]
    except ProtocolError as error:
        return Outcome(answers, INVALID_ARGUMENT, error.message)
    finally:
        session.closed()
    return Outcome(answers, 0, "")


class InPieces:
    """Our HTTP/2 without I/O, and hyper-h2: what each side sends reaches the other in pieces of `cuts` bytes, in turn."""

    def __init__(self, window: int, cuts: list[int]) -> None:
        self.services = services_of(FakeDecider(decide), limits=LIMITS)
        self._connection = Connection(H2Limits(), FakeClock(), self.services.known, self.services.held)
        self._calls = Calls(self._connection, self.services, lambda: None, Timers())
        self._client = HyperClient(window=window)
        self._cuts = cycle(cuts)

    def run(self, told: list[list[bytes]], order: list[int], *, eager: bool) -> list[Outcome]:
        """The streams' messages in this order; `eager`: each is answered before the next is sent."""
        client = self._client
        ids = [client.open() for _ in told]
        left = [list(raws) for raws in told]
        for turn in chain(order, *([number] * len(raws) for number, raws in enumerate(told))):
            number = turn % len(told)
            if left[number]:
                client.send(ids[number], left[number].pop(0))
                if eager:
                    self._settle()
        for stream_id in ids:
            client.end(stream_id)
        self._settle()
        found = []
        for stream_id in ids:
            call = client.calls[stream_id]
            assert call.status is not None, "not ended"
            found.append(Outcome(call.messages, *call.status))
        assert self._connection.streams == {}
        return found

    def _settle(self) -> None:
        """Until neither has anything to say."""
        while True:
            to_us, to_them = self._client.take(), self._connection.outbox.take()
            if not to_us and not to_them:
                return
            for piece in self._cut(to_us):
                self._calls.receive(piece)
            for piece in self._cut(to_them):
                self._client.receive(piece)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = next(self._cuts)
            yield data[at : at + size]
            at += size


class Servers:
    """Both servers on ports of their own, and a channel to each, for as long as the module's tests run."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._runner.run(self._start())

    async def _start(self) -> None:
        decider = FakeDecider(decide)
        self.services = services_of(decider, limits=LIMITS)
        self.metrics = StreamMetrics(Instruments())
        self._h2 = H2Server(self.services)
        self._grpcio = ExtProcServer(decider, LIMITS, self.metrics, Health(), 2**20)
        self._channels = [
            grpc.insecure_channel(f"127.0.0.1:{await server.start(Tcp('127.0.0.1', 0))}") for server in (self._grpcio, self._h2)
        ]

    async def _stop(self) -> None:
        for channel in self._channels:
            channel.close()
        await self._h2.stop(0)
        await self._grpcio.stop(0)

    def close(self) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    def run(self, told: list[list[bytes]]) -> list[list[Outcome]]:
        """The streams at once on each server: first grpcio's, then ours."""
        return self._runner.run(self._ask_both(told))

    async def _ask_both(self, told: list[list[bytes]]) -> list[list[Outcome]]:
        return [
            await asyncio.gather(*(asyncio.to_thread(self._ask, channel, raws) for raws in told)) for channel in self._channels
        ]

    @staticmethod
    def _ask(channel: grpc.Channel, raws: list[bytes]) -> Outcome:
        # Not grpc.aio's client: when a call ends while it writes, it makes up a status of its own (INTERNAL, "Internal error
        # from Core") instead of reading the server's.
        method: Any = channel.stream_stream(names.EXT_PROC_METHOD)
        call = method(iter(raws), timeout=20)
        answers: list[bytes] = []
        try:
            for answer in call:
                answers.append(answer)  # noqa: PERF402  # those before an error count
        except grpc.RpcError:
            pass  # told below
        return Outcome(answers, call.code().value[0], call.details())


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    found = Servers()
    yield found
    found.close()
    assert found.services.streams.open.value == found.metrics.open.value == 0
    assert counted(found.services.streams.streams) == counted(found.metrics.streams)


SMALL = st.integers(0, 300)
LARGE = st.one_of(SMALL, st.sampled_from([61_999, 62_000, 62_001, 99_000, 101_000]))


@given(
    told=streams(SMALL),
    order=st.lists(st.integers(0, 3), max_size=12),
    window=st.integers(1, 100),
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    eager=st.booleans(),
)
@examples(120)
def test_any_pieces_and_tiny_windows(
    told: list[list[bytes]], order: list[int], window: int, cuts: list[int], eager: bool
) -> None:
    wire = InPieces(window, cuts)
    assert wire.run(told, order, eager=eager) == [by_a_session(raws) for raws in told]
    assert sum(counted(wire.services.streams.streams).values()) == len(told)
    assert wire.services.streams.open.value == 0


def test_byte_by_byte() -> None:
    """As above, with every cut there is."""
    told = [[messages.request_headers(), messages.request_body(b"abc", end=True), messages.response_headers()]] * 2
    assert InPieces(1, [1]).run(told, [0, 1, 0, 1], eager=False) == [by_a_session(raws) for raws in told]


@given(
    told=streams(LARGE),
    window=st.sampled_from([10_000, 65_535, 2**20]),
    cuts=st.lists(st.sampled_from([16_384, 65_536, 9, 1000]), min_size=1, max_size=4),
)
@examples(60)
def test_large_bodies(told: list[list[bytes]], window: int, cuts: list[int]) -> None:
    assert InPieces(window, cuts).run(told, [], eager=False) == [by_a_session(raws) for raws in told]


@given(told=streams(LARGE))
@examples(60)
def test_servers(servers: Servers, told: list[list[bytes]]) -> None:
    grpcio, h2 = servers.run(told)
    assert h2 == grpcio
    assert h2 == [by_a_session(raws) for raws in told]


def test_what_a_peer_is_told_of_a_fault(servers: Servers) -> None:
    """Not by chance left out above."""
    grpcio, h2 = servers.run([[b"\xff\xff"], [messages.request_headers(), messages.request_headers()]])
    assert grpcio == h2
    assert [outcome.code for outcome in h2] == [INVALID_ARGUMENT] * 2
    assert "unexpected RequestHeaders" in h2[1].details
