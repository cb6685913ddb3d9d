"""Requests through Envoy, and what can be known about each: who answered, why, and how long Envoy waited for the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from extproc.demo.errors import DemoError
from extproc.demo.stack import PoolPlan

_LOG_WAIT_S: Final = 2.0
_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class Ask:
    """A request to send. `pool` is where it should go, None when the gateway itself should answer."""

    what: str
    pool: PoolPlan | None
    body: bytes
    path: str = "/v1/chat/completions"
    stream: bool = False
    expect: int = 200


@dataclass
class Outcome:
    """What became of a request."""

    ask: Ask
    request_id: str
    status: int = 0
    endpoint: str = ""
    """The model server that answered, by its own word."""
    intact: bool | None = None
    """The model server got the bytes that were sent, by sha256."""
    tokens: int | None = None
    """Of the usage block."""
    error: str = ""
    decision: dict[str, Any] = field(default_factory=dict)
    """From the gateway's /debug/decisions."""
    held_ms: float | None = None
    """How long Envoy held the request and the response's headers for the gateway, by Envoy's clock."""
    attempts: int = 1
    answer: bytes = b""

    @property
    def problem(self) -> str:
        """What is wrong, '' when nothing is."""
        ask = self.ask
        if self.error:
            return self.error
        if self.status != ask.expect:
            return f"status {self.status} instead of {ask.expect}"
        if ask.pool is None:
            return f"reached {self.endpoint}" if self.endpoint else ""
        if not self.endpoint.startswith(f"{ask.pool.name}-"):
            return f"went to {self.endpoint or 'nobody'} instead of pool {ask.pool.name}"
        if not self.intact:
            return "body changed on the way"
        return "" if self.tokens else "no usage in the answer"


def chat(pool: PoolPlan, text: str, *, stream: bool = False, tokens: int = 16) -> Ask:
    """A chat completion."""
    body: dict[str, Any] = {"model": pool.model, "max_tokens": tokens, "messages": [{"role": "user", "content": text}]}
    return Ask("chat, streamed" if stream else "chat", pool, _encoded(body, stream), stream=stream)


def completion(pool: PoolPlan, text: str, *, stream: bool = False, tokens: int = 16) -> Ask:
    """A text completion."""
    body: dict[str, Any] = {"model": pool.model, "max_tokens": tokens, "prompt": text}
    what = "completion, streamed" if stream else "completion"
    return Ask(what, pool, _encoded(body, stream), "/v1/completions", stream=stream)


def _encoded(body: dict[str, Any], stream: bool) -> bytes:
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body, option=orjson.OPT_INDENT_2)  # not the form that a re-serialising proxy would make


class Reply(NamedTuple):
    """An answer to `Client.call`."""

    status: int
    served: str
    """The served entity that answered, '' where none did."""
    body: bytes
    endpoint: str = ""
    """The model server that answered, by its own word."""


class AccessLog:
    """Envoy's access log, one JSON object a line, as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._lines: dict[str, dict[str, Any]] = {}

    async def line(self, request_id: str) -> dict[str, Any]:
        """The line of a request, which Envoy writes when it is over; empty when it does not come."""
        deadline_s = time.monotonic() + _LOG_WAIT_S
        while request_id not in self._lines and time.monotonic() < deadline_s:
            self._more()
            if request_id not in self._lines:
                await asyncio.sleep(0.01)
        return self._lines.pop(request_id, {})

    def _more(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            if line:
                entry = orjson.loads(line)
                if entry.get("log") != "attempt":  # of those a request may have several
                    self._lines[entry["request_id"]] = entry


class Client:
    """Sends requests as any client would, then asks gateway and Envoy what they know about them."""

    def __init__(self, http: aiohttp.ClientSession, url: str, pages: str, log: AccessLog) -> None:
        self._http, self._url, self._pages, self._log = http, url, pages, log
        self._numbers = itertools.count(1)

    async def send(self, ask: Ask) -> Outcome:
        """Never raises for what a server does; see `Outcome.problem`."""
        outcome = Outcome(ask, f"demo-{next(self._numbers):04d}")
        headers = {"content-type": "application/json", "x-request-id": outcome.request_id}
        method = "POST" if ask.body else "GET"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with self._http.request(
                method, self._url + ask.path, data=ask.body or None, headers=headers, timeout=timeout
            ) as response:
                outcome.answer = await response.read()
                outcome.status = response.status
                outcome.endpoint = response.headers.get("x-sim-endpoint", "")
                outcome.intact = response.headers.get("x-sim-body-sha256") == hashlib.sha256(ask.body).hexdigest()
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome.error = f"{type(error).__name__}: {error}"
        if outcome.status == 200 and ask.pool is not None:
            outcome.tokens = usage_tokens(outcome.answer, stream=ask.stream)
        await self._look_up(outcome)
        return outcome

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """Any other call, as JSON. Raises DemoError when there is no answer."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._http.request(
                method, self._url + path, data=data, headers={"content-type": "application/json"}, timeout=timeout
            ) as response:
                headers = response.headers
                endpoint = headers.get("x-sim-endpoint", "")
                return Reply(response.status, headers.get("served-model-name", ""), await response.read(), endpoint)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DemoError(f"no answer to {method} {path}: {type(error).__name__}: {error}") from error

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        """The gateway's last decisions, newest first."""
        return list((await self._page(f"/debug/decisions?limit={limit}"))["decisions"])

    async def endpoints(self) -> dict[str, dict[str, Any]]:
        """What the gateway knows about each endpoint, by address."""
        page = await self._page("/debug/endpoints")
        return {entry["endpoint"]: entry for pool in page["pools"] for entry in pool["endpoints"]}

    async def _page(self, path: str) -> dict[str, Any]:
        try:
            async with self._http.get(self._pages + path) as response:
                page: dict[str, Any] = orjson.loads(await response.read())
        except aiohttp.ClientError as error:
            raise DemoError(f"the gateway does not answer GET {path}: {error}") from error
        return page

    async def _look_up(self, outcome: Outcome) -> None:
        decisions = (await self._page(f"/debug/decisions?request_id={outcome.request_id}&limit=1"))["decisions"]
        outcome.decision = decisions[0] if decisions else {}
        entry = await self._log.line(outcome.request_id)
        outcome.attempts = entry.get("attempts") or 1
        held_us = [entry.get("ext_proc_request_us"), entry.get("ext_proc_response_us")]
        known = [float(value) for value in held_us if value not in (None, "-", "")]
        outcome.held_ms = sum(known) / 1e3 if known else None


def usage_tokens(answer: bytes, *, stream: bool) -> int | None:
    """Completion tokens of the usage block; in a stream that is the last event before [DONE]. None when there is none."""
    try:
        if stream:
            *_, last, done = [line[6:] for line in answer.splitlines() if line.startswith(b"data: ")]
            if done != b"[DONE]":
                return None
            answer = last
        tokens = orjson.loads(answer)["usage"]["completion_tokens"]
    except (ValueError, KeyError, TypeError):
        return None
    return tokens if isinstance(tokens, int) else None
