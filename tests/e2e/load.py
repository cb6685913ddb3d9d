"""Steady load of chat requests on an Envoy, every answer looked at: who sends it must not see a restart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, NamedTuple, TypeAlias

import aiohttp

from extproc.demo.traffic import usage_tokens
from tests.e2e.parts import JSON, chat

CHAT: Final = "/v1/chat/completions"


class Kind(NamedTuple):
    """One kind of request."""

    name: str
    tokens: int
    stream: bool = False
    padding: int = 0
    """Bytes that make the body larger."""


SHORT: Final = Kind("short", 3)
STREAM: Final = Kind("stream", 40, stream=True)
LARGE: Final = Kind("large", 3, padding=200_000)
MIX: Final = (SHORT, SHORT, SHORT, STREAM, STREAM, STREAM, STREAM, LARGE)

PAUSE_S: Final = 0.01
"""Of each worker between two requests: there is always some under way, and the cores are left to who is tested."""

Session: TypeAlias = aiohttp.ClientSession


class Load:
    """What was sent until now and what became of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self.begun = 0

    def __repr__(self) -> str:
        return f"<Load {dict(self.done)} failed={len(self.failed)}: {self.failed[:5]}>"

    async def more(self, requests: int, within_s: float = 20.0) -> None:
        """Return when so many more have been answered, or one has failed."""
        wanted = self.done.total() + requests
        async with asyncio.timeout(within_s):
            while self.done.total() < wanted and not self.failed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the answers come from other processes

    async def work(self, session: Session, kind: Kind, stop: asyncio.Event) -> None:
        """Send one after the other until told to stop."""
        for number in itertools.count():
            if stop.is_set():
                return
            self.begun += 1
            try:
                problem = await ask(session, self.url, kind, f"{kind.name} {number}", "phi4" if number % 2 else "llama")
            except (OSError, aiohttp.ClientError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
            if problem:
                self.failed.append(f"{kind.name}: {problem}")
            else:
                self.done[kind.name] += 1
            await asyncio.sleep(PAUSE_S)


async def ask(session: Session, url: str, kind: Kind, text: str, pool: str) -> str:
    """What is wrong with the answer, empty when nothing is."""
    more = {"stream": True, "stream_options": {"include_usage": True}} if kind.stream else {}
    body = chat(pool, text, ignore_eos=True, **more) | {"max_tokens": kind.tokens, "user": "x" * kind.padding}
    async with session.post(url + CHAT, data=json.dumps(body), headers=JSON) as response:
        content = await response.read()
    if response.status != 200:
        return f"{response.status} {content[:200]!r}"
    if not response.headers.get("x-sim-endpoint", "").startswith(pool):
        return f"not from {pool}: {dict(response.headers)}"
    if kind.stream and not content.endswith(b"data: [DONE]\n\n"):
        return f"cut: {content[-200:]!r}"
    told = usage_tokens(content, stream=kind.stream)
    return "" if told == kind.tokens else f"{told} tokens of {kind.tokens}"


@contextlib.asynccontextmanager
async def load(url: str, kinds: tuple[Kind, ...] = MIX) -> AsyncIterator[Load]:
    """A worker for each of `kinds`, with a connection of its own. At the end every answer has come, and was good."""
    seen = Load(url)
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        workers = [asyncio.create_task(seen.work(session, kind, stop)) for kind in kinds]
        try:
            yield seen
        finally:
            stop.set()
            await asyncio.gather(*workers)
    assert seen.failed == [], seen
    assert seen.done.total() == seen.begun
