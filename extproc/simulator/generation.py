"""The two endpoints that generate: from a body to sequences in the engine, and from their tokens to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

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


class Generation:
    """Handlers of the generating endpoints of one server. `new_id` makes request ids for clients that send none."""

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
        self._served, self._speaker, self._config = served, speaker, config
        self._driver, self._metrics = driver, metrics
        self._wall_clock, self._new_id = wall_clock, new_id
        self.in_flight = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        body = api.parse(api.ChatBody, request.headers.get("content-type", ""), await request.read())
        return await self._answer(request, api.chat_ask(body, self._served))

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        body = api.parse(api.CompletionBody, request.headers.get("content-type", ""), await request.read())
        return await self._answer(request, api.completion_ask(body, self._served))

    async def _answer(self, request: web.Request, ask: api.Ask) -> web.StreamResponse:
        run = Run(ask, self._speaker, self._config)
        prefix = "chatcmpl" if ask.chat else "cmpl"
        request_id = request.headers.get("x-request-id") or self._new_id()
        reply = Reply(ask.chat, f"{prefix}-{request_id}", int(self._wall_clock()), ask.lora or self._served.names[0])
        run.submit(self._driver, self._metrics)
        self.in_flight += 1
        try:
            if ask.stream:
                return await _stream(request, run, reply)
            while await run.emissions():
                pass
            body = reply.document([(c.text, c.answer) for c in run.choices], run.usage())
            return web.Response(body=body, content_type="application/json")
        finally:
            self.in_flight -= 1
            run.abort(self._driver)


async def _stream(request: web.Request, run: Run, reply: Reply) -> web.StreamResponse:
    """Headers at once, then an event for each token as it comes."""
    fault = request.get(FAULT)
    drop_after = fault.after if fault is not None and fault.kind == "drop-after" else None
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    sent = 0
    while batch := await run.emissions():
        events = []
        for emission in batch:
            if not sent and reply.chat:
                usage = Usage(emission.sequence.prompt_tokens, 0) if run.ask.continuous_usage else None
                events += [reply.role_chunk(index, usage) for index in range(run.ask.n)]
            if sent == drop_after:
                await response.write(b"".join(events))
                await hang_up(request)
            events.append(_token_event(run, reply, emission))
            sent += 1
        await response.write(b"".join(events))
    if sent == drop_after:
        await hang_up(request)
    if run.ask.include_usage:
        await response.write(reply.usage_chunk(run.usage()))
    await response.write(DONE)
    await response.write_eof()
    return response


def _token_event(run: Run, reply: Reply, emission: Emission) -> bytes:
    sequence, number = emission.sequence, emission.number
    choice = run.choices[sequence.index]
    text = choice.answer.piece(number, number)
    if number == 1:
        text = choice.echo + text
    usage = Usage(sequence.prompt_tokens, number) if run.ask.continuous_usage else None
    end = choice.answer if emission.finished else None
    return reply.token_chunk(sequence.index, text, end, usage, last=not run.ask.include_usage)


async def hang_up(request: web.Request) -> None:
    """Close the connection after what was written; never returns, the loss of the connection cancels the handler."""
    if request.transport is not None:
        request.transport.close()
    await asyncio.Event().wait()
