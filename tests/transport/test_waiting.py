"""Decisions that wait: through a whole session, and on every transport."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from extproc import names
from extproc.errors import NoEndpoints
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.stages import Draft, Pending, Step
from extproc.transport.codec import Encoder, Message, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.deployment import Deployment
from tests.fakes.messages import answers, kinds, set_headers
from tests.fakes.page import counted
from tests.fakes.serving import TransportName, serving
from tests.fakes.waiting import FakeCarrier, WaitingStage

BODY = b'{"model":"m"}'
WAITS = "extproc_decision_waits_total"


class Waiting:
    """A router whose first stage waits, and one session of it."""

    def __init__(self, stage: WaitingStage | None = None, limits: StreamLimits = StreamLimits()) -> None:
        self.stage = stage or WaitingStage()
        self.deployment = Deployment()
        self.deployment.add_pool("p", 1)
        self.director = self.deployment.director(self.stage, self.deployment.headers(), self.deployment.picker())
        self.session = Session(self.director, Encoder(), limits)
        self.carrier = FakeCarrier(self.session)

    def send(self, *raws: bytes) -> list[Message]:
        return [answer for raw in raws for answer in self.session.receive(raw)]

    def ask(self) -> None:
        assert self.send(messages.request_headers(), messages.request_body(BODY, end=True)) == []
        assert self.session.is_waiting

    def resolve(self, outcome: object) -> list[bytes]:
        assert self.stage.resolve is not None
        self.stage.resolve(outcome)
        return self.heard()

    def heard(self) -> list[bytes]:
        out, self.carrier.answers = self.carrier.answers, []
        return [joined(answer) for answer in out]

    def waits(self) -> dict[str, float]:
        return {key.partition("result=")[2].strip('"}'): n for key, n in counted(self.deployment.instruments, WAITS).items()}

    def waiting(self) -> float:
        return sum(counted(self.deployment.instruments, "extproc_decisions_waiting").values())

    def in_flight(self) -> int:
        return self.deployment.pools["p"].store.describe()[0].in_flight


def immediate(raws: list[bytes]) -> pb.ImmediateResponse:
    (answer,) = answers(raws)
    assert answer.WhichOneof("response") == "immediate_response"
    return answer.immediate_response


class TestASession:
    def test_goes_on_when_what_it_waits_for_is_here(self) -> None:
        waiting = Waiting()
        waiting.ask()
        assert (waiting.stage.begun, waiting.waiting(), waiting.in_flight()) == (1, 1, 0)
        out = waiting.resolve("its turn")
        assert kinds(out) == ["request_headers", "request_body"]
        told = set_headers(answers(out)[0].request_headers.response.header_mutation)
        assert told["x-waited-for"] == b"its turn"
        assert told["X-Gateway-Model-Name"] == b"m", "and the stages behind it decide"
        assert not waiting.session.is_waiting
        assert (waiting.waits(), waiting.waiting(), waiting.in_flight()) == ({"resumed": 1}, 0, 1)
        waiting.send(messages.response_headers(end=True))
        assert waiting.stage.heard == ["committed", "answered 200", "ended 200"]
        assert (waiting.stage.cancelled, waiting.in_flight()) == (0, 0)

    def test_needs_no_wait_for_what_is_known_at_once(self) -> None:
        waiting = Waiting(WaitingStage(at_once="a number"))
        out = waiting.send(messages.request_headers(), messages.request_body(BODY, end=True))
        assert kinds(out) == ["request_headers", "request_body"]
        assert waiting.heard() == []
        assert (waiting.waits(), waiting.stage.cancelled) == ({"resumed": 1}, 0)

    def test_may_wait_again(self) -> None:
        waiting = Waiting()
        waiting.stage.again = 1
        waiting.ask()
        assert waiting.resolve("first") == []
        assert waiting.session.is_waiting
        told = set_headers(answers(waiting.resolve("second"))[0].request_headers.response.header_mutation)
        assert told["x-waited-for"] == b"second"
        assert waiting.waits() == {"resumed": 2}

    def test_hears_an_outcome_once(self) -> None:
        waiting = Waiting()
        waiting.ask()
        assert waiting.resolve("one")
        assert waiting.resolve("two") == []
        assert waiting.session.resume("three") == []

    def test_ends_with_an_error_that_comes_instead(self) -> None:
        waiting = Waiting()
        waiting.ask()
        answer = immediate(waiting.resolve(NoEndpoints("none")))
        assert (answer.status.code, answer.details) == (503, "extproc_no_endpoints")
        assert waiting.stage.heard == ["ended 503 no_endpoints"]
        assert waiting.waits() == {"refused": 1}

    def test_keeps_a_fault_of_ours_from_the_client(self) -> None:
        waiting = Waiting()
        waiting.ask()
        answer = immediate(waiting.resolve(ZeroDivisionError("the secret")))
        assert answer.status.code == 500
        assert b"secret" not in answer.SerializeToString()
        assert waiting.stage.heard == ["ended 500"]

    def test_that_can_not_begin_is_a_fault_of_ours(self) -> None:
        class Broken(WaitingStage):
            def decide(self, request: object, draft: Draft) -> Step:
                def begin(resolve: object) -> object:
                    raise OSError("no queue")

                return Pending("the test", begin, lambda outcome: None, timeout_s=1)  # type: ignore[arg-type]

        waiting = Waiting(Broken())
        out = waiting.send(messages.request_headers(end=True))
        assert immediate([joined(each) for each in out]).status.code == 500
        assert waiting.waiting() == 0

    def test_where_nothing_carries_it_is_a_fault_of_ours(self) -> None:
        waiting = Waiting()
        waiting.session.carrier = None
        out = waiting.send(messages.request_headers(end=True))
        assert immediate([joined(each) for each in out]).status.code == 500


class TestTime:
    def test_at_the_deadline_it_is_504(self) -> None:
        waiting = Waiting(WaitingStage(timeout_s=0.5))
        waiting.ask()
        assert [timer.delay_s for timer in waiting.carrier.timers] == [0.5]
        waiting.carrier.expire()
        answer = immediate(waiting.heard())
        assert (answer.status.code, answer.details) == (504, "extproc_decision_timeout")
        assert b"no decision within 0.5 s: waited for the test" in answer.body
        assert (waiting.stage.cancelled, waiting.stage.heard) == (1, ["ended 504 decision_timeout"])
        waiting.session.closed()
        assert waiting.stage.cancelled == 1

    def test_or_the_fallback(self) -> None:
        waiting = Waiting(WaitingStage(timeout_s=0.5, fallback=None))
        waiting.ask()
        waiting.carrier.expire()
        told = set_headers(answers(waiting.heard())[0].request_headers.response.header_mutation)
        assert told["x-waited-for"] == b"None"
        assert waiting.stage.cancelled == 1

    def test_the_timer_ends_with_the_wait(self) -> None:
        waiting = Waiting()
        waiting.ask()
        waiting.resolve("it")
        assert all(timer.cancelled for timer in waiting.carrier.timers)

    def test_the_requests_own_time_counts_as_well(self) -> None:
        waiting = Waiting(limits=StreamLimits(request_timeout_s=2))
        waiting.ask()
        answer = immediate([joined(each) for each in waiting.session.expire()])
        assert (answer.status.code, answer.details) == (504, "extproc_decision_timeout")
        assert (waiting.stage.cancelled, waiting.stage.heard, waiting.waits()) == (1, ["ended 0"], {"withdrawn": 1})
        assert waiting.resolve("too late") == []
        waiting.session.closed()
        assert waiting.stage.cancelled == 1


class TestAClientThatLeaves:
    def test_cancels_the_wait_once(self) -> None:
        waiting = Waiting()
        waiting.ask()
        for _ in range(2):
            waiting.session.closed()
        assert (waiting.stage.cancelled, waiting.stage.heard) == (1, ["ended 0"])
        assert waiting.resolve("too late") == []
        assert (waiting.waits(), waiting.waiting(), waiting.in_flight()) == ({"withdrawn": 1}, 0, 0)

    def test_and_what_can_not_be_cancelled_is_left(self) -> None:
        class Stubborn(WaitingStage):
            def _cancel(self) -> None:
                raise OSError("not now")

        waiting = Waiting(Stubborn())
        waiting.ask()
        waiting.session.closed()
        assert waiting.stage.heard == ["ended 0"]

    def test_leaves_nothing_behind(self) -> None:
        """Not even a cycle: the collector rarely looks."""
        waiting = Waiting()
        waiting.ask()
        waiting.session.closed()
        gone = weakref.ref(waiting.carrier)
        gc.collect()
        gc.disable()
        try:
            del waiting.carrier
            assert gone() is None
        finally:
            gc.enable()


class TestTheBodyMeanwhile:
    def test_goes_on_behind_the_decision(self) -> None:
        waiting = Waiting(limits=StreamLimits(streamed_hold_bytes=4))
        waiting.send(messages.request_headers(modes=(1, 0), early=True), messages.request_body(BODY))
        assert waiting.session.is_waiting
        assert waiting.send(messages.request_body(b" "), messages.request_body(b"", end=True)) == []
        assert kinds(waiting.resolve("it")) == ["request_headers", "request_body", "request_body", "request_body"]

    def test_is_bounded(self) -> None:
        waiting = Waiting(limits=StreamLimits(max_body_bytes=len(BODY) + 8))
        waiting.ask()
        out = waiting.send(messages.request_body(b"x" * 9))
        answer = immediate([joined(each) for each in out])
        assert (answer.status.code, waiting.stage.cancelled) == (413, 1)
        assert waiting.resolve("too late") == []


@pytest.fixture
async def waiting() -> Waiting:
    return Waiting()


class Stream:
    """A stream of a real client."""

    def __init__(self, channel: aio.Channel) -> None:
        process: Any = channel.stream_stream(f"/{names.EXT_PROC_SERVICE}/Process")
        self.call = process()

    async def send(self, *raws: bytes) -> None:
        for raw in raws:
            await self.call.write(raw)

    async def read(self) -> str:
        answer: Any = await self.call.read()
        assert answer is not aio.EOF
        return kinds([answer])[0]


async def stream(port: int) -> AsyncIterator[Stream]:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stream(channel)


class TestOnEveryTransport:
    async def test_it_goes_on_from_outside(self, waiting: Waiting, transport: TransportName) -> None:
        async with serving(waiting.director, transport) as port, asyncio.timeout(5):
            async for client in stream(port):
                await client.send(messages.request_headers(), messages.request_body(BODY, end=True))
                await until(lambda: waiting.stage.begun == 1)
                assert waiting.stage.resolve is not None
                waiting.stage.resolve("its turn")
                assert [await client.read() for _ in range(2)] == ["request_headers", "request_body"]
                await client.send(messages.response_headers(end=True))
                assert await client.read() == "response_headers"
                await client.call.done_writing()
                assert await client.call.code() is grpc.StatusCode.OK
        assert waiting.stage.heard == ["committed", "answered 200", "ended 200"]

    async def test_answers_keep_their_order(self, waiting: Waiting, transport: TransportName) -> None:
        """What comes while a large body is still being written waits behind it."""
        body = b'{"model":"m","x":"' + b"a" * 2_000_000 + b'"}'
        async with serving(waiting.director, transport) as port, asyncio.timeout(10):
            async for client in stream(port):
                await client.send(messages.request_headers(), messages.request_body(body, end=True))
                await until(lambda: waiting.stage.begun == 1)
                assert waiting.stage.resolve is not None
                waiting.stage.resolve("its turn")
                await client.send(messages.response_headers())
                await client.send(messages.response_body(b"x", end=True))
                heard = [await client.read()]
                while heard[-1] != "response_body":
                    heard.append(await client.read())
                assert heard[0] == "request_headers"
                assert heard[-2:] == ["response_headers", "response_body"]
                assert set(heard[1:-2]) == {"request_body"}

    async def test_its_own_deadline(self, transport: TransportName) -> None:
        waiting = Waiting(WaitingStage(timeout_s=0.01))
        async with serving(waiting.director, transport) as port, asyncio.timeout(5):
            async for client in stream(port):
                await client.send(messages.request_headers(end=True))
                assert await client.read() == "immediate_response"
        assert waiting.stage.cancelled == 1

    async def test_a_client_that_leaves(self, waiting: Waiting, transport: TransportName) -> None:
        async with serving(waiting.director, transport) as port, asyncio.timeout(5):
            async for client in stream(port):
                await client.send(messages.request_headers(end=True))
                await until(lambda: waiting.stage.begun == 1)
                client.call.cancel()
                await until(lambda: waiting.stage.cancelled == 1)
        assert waiting.stage.heard == ["ended 0"]

    async def test_a_connection_that_is_gone(self, waiting: Waiting, transport: TransportName) -> None:
        async with serving(waiting.director, transport) as port, asyncio.timeout(5):
            async for client in stream(port):
                await client.send(messages.request_headers(end=True))
                await until(lambda: waiting.stage.begun == 1)
            await until(lambda: waiting.stage.cancelled == 1)
        assert waiting.stage.heard == ["ended 0"]


async def until(holds: object) -> None:
    assert callable(holds)
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
