"""A provider that says nothing: the session has a timer for it, on every transport."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import grpc
import pytest
from grpc import aio

from extproc import names
from extproc.domain import InferenceRequest
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.stages import ENOUGH, Draft, Ending, Hooks, Step
from extproc.stages.draft import Provided
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.deployment import Deployment
from tests.fakes.messages import answers, kinds
from tests.fakes.page import counted
from tests.fakes.serving import TransportName, serving
from tests.fakes.waiting import FakeCarrier

BODY = b'{"model":"m"}'


class Patient:
    """Everything goes to a provider, whose answer may take so long to begin."""

    def __init__(self, patience_s: float, *, falls_back: bool = False) -> None:
        self.hooks = Hooks(ended=self._ended)
        self.ended: list[int] = []
        self._patience_s = patience_s
        self._falls_back = falls_back

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        draft.provided = Provided("api.example", "192.0.2.1:443", self._patience_s)
        draft.falls_back = self._falls_back
        return ENOUGH

    def _ended(self, draft: Draft, ending: Ending) -> None:
        self.ended.append(ending.status)


class Asked:
    """A session whose request went to the provider."""

    def __init__(self, stage: Patient) -> None:
        self.stage = stage
        self.deployment = Deployment()
        self.session = Session(self.deployment.director(stage), Encoder(), StreamLimits())
        self.carrier = FakeCarrier(self.session)
        for raw in (messages.request_headers(), messages.request_body(BODY, end=True)):
            self.session.receive(raw)

    def silent(self) -> list[pb.ProcessingResponse]:
        """What is answered when the timer goes off."""
        self.carrier.expire()
        return answers([joined(each) for each in self.carrier.answers])


@pytest.mark.parametrize("falls_back", [False, True])
def test_it_is_answered_when_the_time_is_over(falls_back: bool) -> None:
    asked = Asked(Patient(0.5, falls_back=falls_back))
    assert [timer.delay_s for timer in asked.carrier.timers] == [0.5]
    (answer,) = asked.silent()
    immediate = answer.immediate_response
    assert (immediate.status.code, immediate.details) == (504, "extproc_provider_silent")
    told = {each.header.key for each in immediate.headers.set_headers}
    assert (names.NEXT_ENTITY_HEADER in told) is falls_back
    assert counted(asked.deployment.instruments, "extproc_request_errors_total") == {
        'extproc_request_errors_total{code="provider_silent"}': 1
    }
    asked.session.closed()
    assert asked.stage.ended == [504]


def test_an_answer_that_has_begun_is_left_alone() -> None:
    asked = Asked(Patient(0.5))
    assert asked.session.receive(messages.response_headers()) == []
    out = asked.session.receive(messages.response_body(b"data: 1\n\n"))
    assert kinds([joined(each) for each in out]) == ["response_headers", "response_body"]
    assert asked.silent() == []


def test_nobody_waits_without_patience() -> None:
    assert Asked(Patient(0.0)).carrier.timers == []


def test_the_timer_ends_with_the_stream_and_leaves_nothing_behind() -> None:
    """Not even a cycle: the collector rarely looks."""
    asked = Asked(Patient(0.5))
    asked.session.closed()
    (timer,) = asked.carrier.timers
    assert timer.cancelled
    timer.call()
    assert asked.carrier.answers == []
    del timer
    gone = weakref.ref(asked.carrier)
    asked.carrier.timers.clear()
    gc.collect()
    gc.disable()
    try:
        del asked.carrier
        assert gone() is None
    finally:
        gc.enable()


def channel_to(port: int) -> aio.Channel:
    return aio.insecure_channel(f"127.0.0.1:{port}")


@pytest.mark.parametrize("begins", [False, True])
async def test_on_every_transport(transport: TransportName, begins: bool) -> None:
    """`begins`: the headers of an answer came, and then nothing."""
    stage = Patient(0.05)
    async with serving(Deployment().director(stage), transport) as port, asyncio.timeout(5), channel_to(port) as channel:
        process: Any = channel.stream_stream(f"/{names.EXT_PROC_SERVICE}/Process")
        call = process()
        sent = [messages.request_headers(), messages.request_body(BODY, end=True)]
        for raw in [*sent, messages.response_headers()] if begins else sent:
            await call.write(raw)
        assert kinds([await call.read() for _ in range(3)]) == ["request_headers", "request_body", "immediate_response"]
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    assert stage.ended == [504]
