"""Who talks to Envoy: conversations over HTTP, each turn at its time."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, NamedTuple

import aiohttp
import orjson

from tests.evaluation.workload import Conversation, Workload, body_of

_CHAT: Final = "/v1/chat/completions"
_TIMEOUT_S: Final = 60.0


class Turned(NamedTuple):
    """What came of a turn."""

    ttft_s: float | None
    """None when nothing came."""
    text: str
    whole: bool


class Client:
    """Sends a load, and keeps what it saw."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url
        self.ttft_s: list[float] = []
        self.failed = 0
        self.by_server: Counter[str] = Counter()

    async def run(self, workload: Workload) -> None:
        """Return when the last answer is there."""
        began_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for conversation in workload:
                group.create_task(self._converse(conversation, began_s))

    async def _converse(self, conversation: Conversation, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        answers: list[str] = []
        for turn in conversation.turns:
            body = orjson.dumps(body_of(conversation.messages(answers)))
            await asyncio.sleep(max(0.0, began_s + turn.at_s - loop.time()))
            turned = await self._ask(body)
            if turned.ttft_s is not None:
                self.ttft_s.append(turned.ttft_s)
            self.failed += not turned.whole
            answers.append(turned.text)

    async def _ask(self, body: bytes) -> Turned:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        ttft_s: float | None = None
        events = bytearray()
        headers = {"content-type": "application/json"}
        try:
            async with self._http.post(self._url + _CHAT, data=body, headers=headers) as response:
                self.by_server[response.headers.get("x-sim-endpoint", "nobody")] += 1
                if response.status != 200:
                    return Turned(None, "", False)
                async for piece in response.content.iter_any():
                    if ttft_s is None:
                        ttft_s = loop.time() - sent_s
                    events += piece
        except (aiohttp.ClientError, TimeoutError):
            return Turned(ttft_s, said(bytes(events)), False)
        return Turned(ttft_s, said(bytes(events)), events.endswith(b"data: [DONE]\n\n"))


def said(events: bytes) -> str:
    """The answer in a stream of events, as far as they are whole."""
    texts = []
    for event in events.split(b"\n\n")[:-1]:
        data = event.removeprefix(b"data: ")
        if data != b"[DONE]":
            texts += [choice["delta"].get("content") or "" for choice in orjson.loads(data)["choices"]]
    return "".join(texts)


def session() -> aiohttp.ClientSession:
    """Connections without a bound, so that nothing waits on this side."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), auto_decompress=False
    )
