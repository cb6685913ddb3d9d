"""What generates: from a body to sequences in the engine, and from their tokens to an answer in the shape of an API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from extproc.settings.sim import Fault
from extproc.simulator import api, tokens
from extproc.simulator.answers import Answer, Speaker
from extproc.simulator.driver import Driver
from extproc.simulator.engine import Emission, EngineConfig, Sequence
from extproc.simulator.metrics import SimMetrics
from extproc.simulator.replies import DONE, Reply, Usage

FAULT = web.RequestKey("sim.fault", Fault)
"""Key of a request's fault that its handler must see to."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer on its way."""

    sequence: Sequence
    answer: Answer
    echo: str

    @property
    def text(self) -> str:
        return self.echo + self.answer.text


class Run:
    """All choices of a request in the engine. Leave it with `abort`, whatever happened."""

    def __init__(self, ask: api.Ask, speaker: Speaker, config: EngineConfig) -> None:
        self.ask = ask
        self.choices: list[Choice] = []
        self._emissions: asyncio.Queue[Emission] = asyncio.Queue()
        for prompt, options in zip(ask.prompts, ask.options, strict=True):
            echo = tokens.decode(prompt) if ask.echo else ""
            for number in range(ask.n):
                answer = speaker.answer(prompt, number, options)
                sequence = Sequence(
                    prompt_tokens=len(prompt),
                    output_tokens=len(answer.token_ids),
                    block_hashes=tokens.block_hashes([*prompt, *answer.token_ids], config.block_size, _salt(ask)),
                    finish_reason=answer.finish_reason,
                    lora=ask.lora,
                    index=len(self.choices),
                    max_tokens=options.max_tokens,
                )
                self.choices.append(Choice(sequence, answer, echo))

    def submit(self, driver: Driver, metrics: SimMetrics) -> None:
        """Into the queue with all of it."""
        left = [self.ask.n] * len(self.ask.prompts)

        def receive(emission: Emission) -> None:
            if emission.finished:
                prompt = emission.sequence.index // self.ask.n
                left[prompt] -= 1
                if not left[prompt]:
                    group = self.choices[prompt * self.ask.n : (prompt + 1) * self.ask.n]
                    metrics.group_finished([choice.sequence for choice in group])
            self._emissions.put_nowait(emission)

        for choice in self.choices:
            driver.submit(choice.sequence, receive)

    async def emissions(self) -> list[Emission]:
        """The next tokens, waiting for one; empty when all choices are complete."""
        if self._emissions.empty() and all(c.sequence.state == "finished" for c in self.choices):
            return []
        out = [await self._emissions.get()]
        while not self._emissions.empty():
            out.append(self._emissions.get_nowait())
        return out

    async def finish(self) -> None:
        """Wait until all choices are complete."""
        while await self.emissions():
            pass

    def abort(self, driver: Driver) -> None:
        """Free what is still in the engine."""
        for choice in self.choices:
            driver.abort(choice.sequence)

    def usage(self) -> Usage:
        """Each prompt counts once, however many choices it has."""
        return Usage(
            prompt=sum(map(len, self.ask.prompts)),
            completion=sum(c.sequence.emitted for c in self.choices),
            cached=self.choices[-self.ask.n].sequence.cached_tokens,
        )


def _salt(ask: api.Ask) -> str:
    return f"{ask.lora or ''}\n{ask.cache_salt}" if ask.lora or ask.cache_salt else ""


class Shape(Protocol):
    """How an API words an answer, whole or as the events of a stream."""

    def document(self, run: Run) -> bytes:
        """The whole answer."""
        ...

    def opening(self, run: Run) -> bytes:
        """The events before the first token."""
        ...

    def token(self, run: Run, emission: Emission) -> bytes:
        """What one token adds."""
        ...

    def closing(self, run: Run) -> bytes:
        """The events after the last token."""
        ...


class Generation:
    """From asks to answers of one server, and the handlers of the two endpoints that vLLM began with.

    `new_id` makes request ids for clients that send none.
    """

    def __init__(
        self,
        served: api.ServedModel,
        speaker: Speaker,
        config: EngineConfig,
        driver: Driver,
        metrics: SimMetrics,
        *,
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.served = served
        self._speaker, self._config = speaker, config
        self._driver, self._metrics = driver, metrics
        self._wall_clock, self._new_id = wall_clock, new_id
        self.in_flight = 0

    def id_of(self, request: web.Request, prefix: str) -> str:
        """The client's request id, or a new one, as the answer's."""
        return f"{prefix}-{request.headers.get('x-request-id') or self._new_id()}"

    def now_s(self) -> int:
        """The time of day, as answers have it."""
        return int(self._wall_clock())

    def model_of(self, ask: api.Ask) -> str:
        """The name that answers have."""
        return ask.lora or self.served.names[0]

    @contextmanager
    def running(self, ask: api.Ask) -> Iterator[Run]:
        """The ask in the engine; what is still there at the end is freed."""
        run = Run(ask, self._speaker, self._config)
        run.submit(self._driver, self._metrics)
        self.in_flight += 1
        try:
            yield run
        finally:
            self.in_flight -= 1
            run.abort(self._driver)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        body = api.parse(api.ChatBody, request.headers.get("content-type", ""), await request.read())
        return await self._complete(request, api.chat_ask(body, self.served))

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        body = api.parse(api.CompletionBody, request.headers.get("content-type", ""), await request.read())
        return await self._complete(request, api.completion_ask(body, self.served))

    async def _complete(self, request: web.Request, ask: api.Ask) -> web.StreamResponse:
        reply = Reply(ask.chat, self.id_of(request, "chatcmpl" if ask.chat else "cmpl"), self.now_s(), self.model_of(ask))
        return await self.answer(request, ask, _Completion(reply))

    async def answer(self, request: web.Request, ask: api.Ask, shape: Shape) -> web.StreamResponse:
        """Generate, and answer in this shape."""
        with self.running(ask) as run:
            if ask.stream:
                return await stream(request, run, shape)
            await run.finish()
            return web.Response(body=shape.document(run), content_type="application/json")


class _Completion:
    """Chat completions and completions."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def document(self, run: Run) -> bytes:
        return self._reply.document([(c.text, c.answer) for c in run.choices], run.usage())

    def opening(self, run: Run) -> bytes:
        if not self._reply.chat:
            return b""
        usage = Usage(run.choices[0].sequence.prompt_tokens, 0) if run.ask.continuous_usage else None
        return b"".join([self._reply.role_chunk(index, usage) for index in range(run.ask.n)])

    def token(self, run: Run, emission: Emission) -> bytes:
        sequence, number = emission.sequence, emission.number
        choice = run.choices[sequence.index]
        text = choice.answer.piece(number, number)
        if number == 1:
            text = choice.echo + text
        usage = Usage(sequence.prompt_tokens, number) if run.ask.continuous_usage else None
        end = choice.answer if emission.finished else None
        return self._reply.token_chunk(sequence.index, text, end, usage, last=not run.ask.include_usage)

    def closing(self, run: Run) -> bytes:
        return (self._reply.usage_chunk(run.usage()) if run.ask.include_usage else b"") + DONE


async def stream(request: web.Request, run: Run, shape: Shape) -> web.StreamResponse:
    """Headers at once, then an event for each token as it comes."""
    fault = request.get(FAULT)
    drop_after = fault.after if fault is not None and fault.kind == "drop-after" else None
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    sent = 0
    while batch := await run.emissions():
        events = []
        for emission in batch:
            if not sent:
                events.append(shape.opening(run))
            if sent == drop_after:
                await response.write(b"".join(events))
                await hang_up(request)
            events.append(shape.token(run, emission))
            sent += 1
        await response.write(b"".join(events))
    if sent == drop_after:
        await hang_up(request)
    await response.write(shape.closing(run))
    await response.write_eof()
    return response


async def hang_up(request: web.Request) -> None:
    """Close the connection after what was written; never returns, the loss of the connection cancels the handler."""
    if request.transport is not None:
        request.transport.close()
    await asyncio.Event().wait()
