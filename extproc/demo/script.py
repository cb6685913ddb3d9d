"""What happens in the demo, and what must be true about it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from extproc.demo.canary import told_of_a_canary
from extproc.demo.errors import DemoError
from extproc.demo.parts import Check, Show
from extproc.demo.split import told_of_a_split
from extproc.demo.stack import LLAMA, PHI4, Stack
from extproc.demo.traffic import Ask, Client, Outcome, chat, completion
from extproc.simulator.metrics import SyntheticLoad

_SEEN_S: Final = 5.0
_AT_ONCE: Final = 6
_BURST: Final = 30
_STOP_AFTER: Final = 8

LOADS: Final = {
    "llama-1": SyntheticLoad(waiting=9, running=32, kv_usage=0.85),
    "llama-2": SyntheticLoad(waiting=2, running=12, kv_usage=0.45),
    "llama-3": SyntheticLoad(waiting=0, running=2, kv_usage=0.10),
    "phi4-1": SyntheticLoad(waiting=0, running=1, kv_usage=0.05),
    "phi4-2": SyntheticLoad(waiting=5, running=20, kv_usage=0.60),
    "phi4-3": SyntheticLoad(waiting=1, running=8, kv_usage=0.30),
}


@dataclass
class Story:
    """The demo's requests in order, with their outcomes and checks."""

    stack: Stack
    client: Client
    show: Show
    outcomes: list[Outcome] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    async def tell(self, *, canary: bool) -> None:
        """Run everything, the canary only if asked for, as it takes half a minute. Raises DemoError when a part of the demo
        itself fails.
        """
        await self._least_loaded()
        await self._answered_by_the_gateway()
        await self._load_moves()
        await self._endpoint_stops()
        await self._endpoint_returns()
        self.checks += await told_of_a_split(self.client, self.show)
        if canary:
            self.checks += await told_of_a_canary(self.stack, self.client, self.show)
        wrong = [f"{o.request_id}: {problem}" for o in self.outcomes if (problem := o.problem)]
        failed = sum(1 for o in self.outcomes if o.status != o.ask.expect)
        self.checks[:0] = [
            Check("no request failed", not failed, f"{len(self.outcomes) - failed} of {len(self.outcomes)} as expected"),
            Check("model to pool, body untouched (sha256), usage told", not wrong, "; ".join(wrong[:3]) or "all requests"),
        ]

    async def _least_loaded(self) -> None:
        self.show.step("Each model goes to its pool, each request to the endpoint with the least load")
        for name, load in LOADS.items():
            self.stack.sims[name].metrics.set_load(load)
            self.show.note(f"{name}: {load.waiting} waiting, {load.running} running, KV cache {load.kv_usage:.0%} full")
        await self._until(lambda seen: all(_shows(seen, self._address(n), load) for n, load in LOADS.items()), "the load")
        asks = [
            make(pool, "Why is the sky blue?", stream=stream)
            for make in (chat, completion)
            for stream in (False, True)
            for pool in (LLAMA, PHI4)
        ]
        told = [await self._send(ask) for ask in asks]
        self._prefers(told, "llama-3", "phi4-1", claim="the endpoint with the least load is preferred")

    async def _answered_by_the_gateway(self) -> None:
        self.show.step("What no endpoint needs to see, the gateway answers itself")
        models = await self._send(Ask("list of models", None, b"", "/v1/models"))
        body = chat(LLAMA, "hello").body.replace(LLAMA.model.encode(), b"no-such-model")
        unknown = await self._send(Ask("unknown model", None, body, expect=404))
        await self._send(Ask("broken JSON", None, b'{"model": "meta', expect=400))
        listed = all(pool.model.encode() in told.answer for pool in (LLAMA, PHI4) for told in (models, unknown))
        self.checks.append(Check("GET /v1/models and the 404 list the models of all pools", listed, "2 answers"))

    async def _load_moves(self) -> None:
        self.show.step("The load moves, and the traffic with it")
        moved = {"llama-1": SyntheticLoad(0, 1, 0.05), "llama-3": SyntheticLoad(12, 40, 0.95)}
        for name, load in moved.items():
            self.stack.sims[name].metrics.set_load(load)
            self.show.note(f"{name}: {load.waiting} waiting, {load.running} running, KV cache {load.kv_usage:.0%} full")
        await self._until(lambda seen: all(_shows(seen, self._address(n), load) for n, load in moved.items()), "the load")
        told = [await self._send(chat(LLAMA, f"And now, number {n}?", stream=n % 2 == 0)) for n in range(4)]
        self._prefers(told, "llama-1", claim="a change of load moves the traffic")

    async def _endpoint_stops(self) -> None:
        self.show.step(f"An endpoint stops under load: {_BURST} requests, {_AT_ONCE} at a time, llama-1 is the favourite")
        dead = self._address("llama-1")
        done = 0
        told: list[Outcome] = []
        async for outcome in self._burst([chat(LLAMA, f"Burst {n}", tokens=12) for n in range(_BURST)]):
            told.append(outcome)
            done += 1
            if done == _STOP_AFTER:
                self.show.note("llama-1 stops now, with requests under way")
                await self.stack.stop_endpoint("llama-1")
        failed = [o for o in told if o.status != 200]
        moved = [o for o in told if o.decision.get("endpoint") == dead and not o.endpoint.startswith("llama-1")]
        self.checks.append(
            Check("an endpoint that stops costs no request", not failed, f"{len(moved)} went on to their fallback")
        )
        await self._until(lambda seen: seen[dead]["state"] == "down", "the stop of llama-1")
        asks = [make(LLAMA, "Who is left?", stream=stream) for make in (chat, completion) for stream in (False, True)]
        after = [await self._send(ask) for ask in asks]
        stray = [o for o in after if o.endpoint == "llama-1" or o.decision.get("endpoint") == dead]
        self.checks.append(
            Check("after the stop nothing is sent to it", not stray, f"{len(after)} requests to {_names(after)}")
        )

    async def _endpoint_returns(self) -> None:
        self.show.step("The endpoint returns, and so does its traffic")
        back = self._address("llama-1")
        await self.stack.replace_endpoint("llama-1")
        self.show.note("llama-1 is started again, and idle")
        await self._until(lambda seen: seen[back]["state"] == "fresh", "the return of llama-1")
        told = [await self._send(chat(LLAMA, f"Welcome back {n}", stream=True)) for n in range(3)]
        self._prefers(told, "llama-1", claim="an endpoint that returns gets traffic again")

    async def _send(self, ask: Ask) -> Outcome:
        outcome = await self.client.send(ask)
        self.outcomes.append(outcome)
        self.show.request(outcome)
        return outcome

    async def _burst(self, asks: list[Ask]) -> AsyncIterator[Outcome]:
        """All of them, `_AT_ONCE` at a time, as they come back."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(ask: Ask) -> Outcome:
            async with places:
                return await self._send(ask)

        tasks = [asyncio.create_task(one(ask)) for ask in asks]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for running in tasks:
                running.cancel()

    def _prefers(self, told: list[Outcome], *best: str, claim: str) -> None:
        hits = sum(1 for outcome in told if outcome.endpoint in best)
        self.checks.append(Check(claim, hits > len(told) / 2, f"{hits} of {len(told)} to {' and '.join(best)}"))

    def _address(self, name: str) -> str:
        return self.stack.sims[name].address

    async def _until(self, seen: Callable[[dict[str, dict[str, Any]]], bool], what: str) -> None:
        """Wait until the gateway has seen it."""
        begin_s = time.monotonic()
        while not seen(await self.client.endpoints()):
            if time.monotonic() - begin_s > _SEEN_S:
                raise DemoError(f"the gateway has not seen {what} after {_SEEN_S:.0f} s")
            await asyncio.sleep(0.005)
        self.show.note(f"the gateway has seen {what} after {(time.monotonic() - begin_s) * 1e3:.0f} ms")


def _shows(seen: dict[str, dict[str, Any]], address: str, load: SyntheticLoad) -> bool:
    signals = seen[address]["signals"]
    return bool(signals["waiting"]["value"] == load.waiting and signals["kv_usage"]["value"] == load.kv_usage)


def _names(outcomes: list[Outcome]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(Counter(o.endpoint for o in outcomes).items()))
