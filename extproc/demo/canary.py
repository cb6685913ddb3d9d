"""The last act: a canary that is slower is taken back by itself, and one that is as good is promoted, by `extproc rollout`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.demo.errors import DemoError
from extproc.demo.parts import Check, Show
from extproc.demo.processes import launched
from extproc.demo.split import API_PATH, CHALLENGER, CURRENT, shares
from extproc.demo.stack import LLAMA, PHI4, PoolPlan, Stack
from extproc.demo.traffic import Client, Reply

NAME: Final = "chat"
_FIRST_TOKEN_S: Final = 0.1
_SLOWER: Final = 1.3
_USERS: Final = 8
"""At a time. On three model servers fewer than the guard of capacity takes for a load (`rollouts.guards`)."""
_ASKED_AFTER: Final = 20
_SEEN_S: Final = 10.0
_LOOK_S: Final = 0.25

# 30 % are far from the tolerated 5 %, and none at all from the margin of 20 %: a hundred requests say which of the two it is,
# also on a machine that has other things to do. Of a hundred canaries that are no worse at most one is taken back by chance.
PLAN: Final[dict[str, Any]] = {
    "baseline": CURRENT,
    "canary": CHALLENGER,
    "steps": [{"setWeight": 20}, {"analysis": {"metrics": ["ttft"]}}, {"setWeight": 50}, {"pause": {"duration": 3}}],
    "metrics": [
        {"name": "ttft", "interval": 1, "compare": {"measure": "ttft", "tolerance": 0.05, "margin": 0.2, "minimumSamples": 60}},
        {"name": "errors", "interval": 1, "compare": {"measure": "error_rate", "minimumSamples": 60}},
    ],
    "alpha": 0.01,
    "noveltyPeriod": 1,
    "bakeTime": 0,
    "progressDeadline": 90,
}


class _Rollout(NamedTuple):
    """How one went."""

    phase: str
    reason: str
    exit_code: int
    """Of `extproc rollout --watch`."""
    took_s: float


_HEADINGS: Final = ("entity", "requests", "errors", "ttft p50", "ttft p95", "e2e p50", "tokens out")
_STREAM: Final[dict[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}


async def told_of_a_canary(stack: Stack, client: Client, show: Show) -> list[Check]:
    """Both rollouts. Raises DemoError when the API refuses."""
    act = _Act(stack, client, show)
    slow, quick = (f"{1e3 * seconds:.0f} ms" for seconds in (_FIRST_TOKEN_S * _SLOWER, _FIRST_TOKEN_S))

    show.step(f"A canary that takes {slow} to its first token, where the others take {quick}", requests=False)
    await act.deploy(LLAMA, _FIRST_TOKEN_S)
    await act.deploy(PHI4, _FIRST_TOKEN_S * _SLOWER)
    await act.create()
    bad = await act.rollout()
    after_bad = await act.who_serves()

    show.step(f"The canary is mended, and takes {quick} as well", requests=False)
    await act.deploy(PHI4, _FIRST_TOKEN_S)
    good = await act.rollout()
    after_good = await act.who_serves()

    return [
        Check(
            f"a canary that is {100 * (_SLOWER - 1):.0f} % slower is taken back by itself",
            bad.phase == "Degraded" and bad.exit_code == 1 and bad.reason.startswith("ttft"),
            f"{bad.phase} after {bad.took_s:.0f} s, {bad.reason}",
        ),
        _all_by(after_bad, LLAMA, "then everybody has the model of before"),
        Check(
            "a good one is promoted",
            good.phase == "Healthy" and good.exit_code == 0,
            f"{good.phase} after {good.took_s:.0f} s, {good.reason}",
        ),
        _all_by(after_good, PHI4, "then it has all requests, and the name"),
        Check("no request of the users failed meanwhile", not act.failed, act.failed or f"{act.answered} requests"),
    ]


def _all_by(served: Counter[tuple[str, str]], pool: PoolPlan, claim: str) -> Check:
    told = ", ".join(f"{count} by {name} in pool {where}" for (name, where), count in sorted(served.items()))
    return Check(claim, set(served) == {(CURRENT, pool.name)}, told)


class _Act:
    """What both rollouts have in common."""

    def __init__(self, stack: Stack, client: Client, show: Show) -> None:
        self._stack, self._client, self._show = stack, client, show
        self._numbers = itertools.count(1)
        self._rows: list[tuple[str, ...]] = []
        self.answered = 0
        self.failed = ""
        """How a request failed, the first that did."""

    async def deploy(self, pool: PoolPlan, first_token_s: float) -> None:
        """Replace a pool's model servers, and wait until the gateway has seen it."""
        names = self._stack.names(pool)
        addresses = [self._stack.sims[name].address for name in names]
        for name in names:
            await self._stack.stop_endpoint(name)
        await self._until(addresses, "down")
        for name in names:
            await self._stack.replace_endpoint(name, first_token_s=first_token_s)
        await self._until(addresses, "fresh")
        self._show.note(f"pool {pool.name} is replaced: {len(names)} model servers with {1e3 * first_token_s:.0f} ms")

    async def create(self) -> None:
        """The endpoint, of whose requests one entity has all."""
        models = {CURRENT: LLAMA.model, CHALLENGER: PHI4.model}
        entities = [{"name": name, "entity_name": model} for name, model in models.items()]
        await self._called("POST", API_PATH, {"name": NAME, "config": {"served_entities": entities, **shares(100, 0)}})
        self._show.note(f"POST {API_PATH}: {NAME}, {CURRENT} 100 %, {CHALLENGER} 0 %")

    async def rollout(self) -> _Rollout:
        """Begin one as a user does, under traffic, and watch it to its end."""
        plan = self._stack.directory / "plan.json"
        plan.write_text(json.dumps(PLAN, indent=2))
        arguments = ["rollout", "start", NAME, "--plan", str(plan), "--api", self._stack.url, "--watch"]
        self._show.note(f"$ {shlex.join(['extproc', *arguments])}")
        began_s = time.monotonic()
        async with self._users():
            measuring = asyncio.create_task(self._measure(began_s))
            exit_code = await self._command(arguments)
            took_s = time.monotonic() - began_s
            measuring.cancel()
        self._show.table(_HEADINGS, self._rows)
        found = await self._called("GET", f"{API_PATH}/{NAME}/rollouts")
        return _Rollout(found["phase"], found["reason"], exit_code, took_s)

    async def who_serves(self) -> Counter[tuple[str, str]]:
        """By entity, as the answer says, and pool, as the model server says."""
        replies = [await self._ask() for _ in range(_ASKED_AFTER)]
        return Counter((reply.served, reply.endpoint.rpartition("-")[0]) for reply in replies)

    @contextlib.asynccontextmanager
    async def _users(self) -> AsyncIterator[None]:
        """Each asks one thing after the other."""

        async def user() -> None:
            while True:
                reply = await self._ask()
                self.answered += 1
                if reply.status != 200 and not self.failed:
                    self.failed = f"{reply.status} {reply.body[:200].decode(errors='replace')}"

        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(user()) for _ in range(_USERS)]
            try:
                yield
            finally:
                for each in users:
                    each.cancel()

    async def _ask(self) -> Reply:
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, **_STREAM}
        body["user"] = f"user-{next(self._numbers)}"
        return await self._client.call("POST", f"/serving-endpoints/{NAME}/invocations", body)

    async def _command(self, arguments: list[str]) -> int:
        """`extproc` with the terminal for itself; its lines are notes where there is none."""
        argv = launched([sys.executable, "-m", "extproc", *arguments])
        with self._show.aside() as terminal:
            output = None if terminal else asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*argv, stdout=output, stderr=output and asyncio.subprocess.STDOUT)
            try:
                while process.stdout is not None and (line := await process.stdout.readline()):
                    self._show.note(line.decode(errors="replace").rstrip())
                return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()

    async def _measure(self, began_s: float) -> None:
        """What both entities did since then, again and again until the rollout is over: then names change."""
        while True:
            window_s = math.ceil(time.monotonic() - began_s)
            page = await self._called("GET", f"{API_PATH}/{NAME}/measures?window={window_s}s")
            rollout = await self._client.call("GET", f"{API_PATH}/{NAME}/rollouts")
            if rollout.status == 200 and orjson.loads(rollout.body)["phase"] == "Progressing":
                self._rows = [_row(each) for each in page["measures"]]
            await asyncio.sleep(_LOOK_S)

    async def _called(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        reply = await self._client.call(method, path, body)
        if reply.status != 200:
            raise DemoError(f"{method} {path} was answered with {reply.status}: {reply.body[:300].decode(errors='replace')}")
        found: dict[str, Any] = orjson.loads(reply.body)
        return found

    async def _until(self, addresses: list[str], state: str) -> None:
        deadline_s = time.monotonic() + _SEEN_S
        while any(each["state"] != state for name, each in (await self._client.endpoints()).items() if name in addresses):
            if time.monotonic() > deadline_s:
                raise DemoError(f"the gateway has not seen {', '.join(addresses)} {state} after {_SEEN_S:.0f} s")
            await asyncio.sleep(0.02)


def _row(measured: Mapping[str, Any]) -> tuple[str, ...]:
    times = [measured["ttft_s"]["p50"], measured["ttft_s"]["p95"], measured["e2e_s"]["p50"]]
    return (
        measured["served_entity"],
        str(measured["requests"]),
        str(measured["errors"]),
        *("-" if each is None else f"{1e3 * each:.0f} ms" for each in times),
        str(measured["tokens"]["output"]),
    )
