"""The mix of requests, and clients that send it and look at every answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from extproc.demo.stack import LLAMA, PHI4
from tests.soak.upstream import EVENTS

_PATH: Final = "/v1/chat/completions"
_TIMEOUT_S: Final = 30.0
_RANDOM_TEXT: Final = random.Random(7).randbytes(600_000).hex()


class Kind(NamedTuple):
    """One kind of request."""

    weight: int
    body_bytes: int = 800
    status: int = 200
    stream: bool = False
    gzip: bool = False
    model: str | None = None
    leave: str = ""
    """When the client goes away: `upload`, `wait` or `answer`."""


KINDS: Final[Mapping[str, Kind]] = {
    "small": Kind(40),
    "stream": Kind(20, stream=True),
    "100 KB": Kind(10, 100_000),
    "1 MB": Kind(3, 1_000_000),
    "gzip": Kind(7, 100_000, gzip=True),
    "unknown model": Kind(8, status=404, model="nobody"),
    "not JSON": Kind(2, status=400, model=""),
    "left while uploading": Kind(3, 200_000, leave="upload"),
    "left while waiting": Kind(3, leave="wait"),
    "left in the answer": Kind(4, stream=True, leave="answer"),
}


class Seen:
    """What became of the requests."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.late: int = 0
        """Requests that had to wait for a client to be free, because all were at work."""
        self.recent_s: deque[float] = deque(maxlen=5000)
        """How long the last small requests took."""

    def percentile_ms(self, share: float) -> float:
        """Of the small requests since the last `forget`; NaN without any."""
        found = sorted(self.recent_s)
        return found[min(len(found) - 1, int(share * len(found)))] * 1e3 if found else float("nan")

    def forget(self) -> None:
        """Begin a new interval."""
        self.recent_s.clear()


def request(kind: Kind, draw: random.Random) -> tuple[bytes, bytes]:
    """Head and body."""
    body = b"{broken"
    if kind.model != "":
        at = draw.randrange(100_000)
        document = {
            "model": kind.model or draw.choice([LLAMA, PHI4]).model,
            "messages": [{"role": "user", "content": _RANDOM_TEXT[at : at + kind.body_bytes]}],
            "stream": kind.stream,
        }
        body = json.dumps(document).encode()
    lines = [f"POST {_PATH} HTTP/1.1", "host: soak", "content-type: application/json"]
    if kind.gzip:
        body = gzip.compress(body, 1)
        lines.append("content-encoding: gzip")
    if kind.stream:
        lines.append("x-soak: stream")
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode(), body


class Client:
    """Sends requests one after the other, on one connection for as long as that is possible."""

    def __init__(self, port: int, seen: Seen, draw: random.Random) -> None:
        self._port = port
        self._seen = seen
        self._draw = draw
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def one(self) -> None:
        """A request of some kind."""
        name = self._draw.choices([*KINDS], [kind.weight for kind in KINDS.values()])[0]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                problem = await self._send(KINDS[name])
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self._seen.failed.append(f"{name}: {problem}")
            await self.close()
        else:
            self._seen.counts[name] += 1

    async def close(self) -> None:
        """Leave."""
        if self._connection is not None:
            _, writer = self._connection
            self._connection = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _send(self, kind: Kind) -> str:
        """What is wrong with the answer, "" when nothing is."""
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        reader, writer = self._connection
        head, body = request(kind, self._draw)
        begun_s = time.perf_counter()
        if kind.leave == "upload":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            await asyncio.sleep(self._draw.random() * 0.02)
            await self.close()
            return ""
        writer.write(head + body)
        await writer.drain()
        if kind.leave == "wait":
            await asyncio.sleep(self._draw.random() * 0.004)
            await self.close()
            return ""
        first = await reader.readuntil(b"\r\n\r\n")
        status = int(first[9:12])
        if kind.leave == "answer":
            await reader.readuntil(b"\n\n")
            await self.close()
            return "" if status == kind.status else f"status {status}"
        answer = await _body(first, reader)
        if b"\r\nconnection: close" in first.lower():  # as Envoy does behind a 400
            await self.close()
        if kind is KINDS["small"]:
            self._seen.recent_s.append(time.perf_counter() - begun_s)
        if status != kind.status:
            return f"status {status}: {answer[:200]!r}"
        return _check(kind, body, answer)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(pieces)


def _check(kind: Kind, body: bytes, answer: bytes) -> str:
    if kind.status != 200:
        return "" if b'"error"' in answer else f"no error in {answer[:200]!r}"
    if kind.stream:
        whole = answer.count(b"data: ") == EVENTS + 2 and answer.endswith(b"data: [DONE]\n\n")
        return "" if whole else f"stream cut: {answer[-100:]!r}"
    told: Any = json.loads(answer)
    return "" if told["sha256"] == hashlib.sha256(body).hexdigest() else "the body was changed on its way"


class Load:
    """Clients at a rate, or as fast as they can."""

    def __init__(self, port: int, clients: int, seed: int = 1) -> None:
        self.seen = Seen()
        draw = random.Random(seed)
        self._clients = [Client(port, self.seen, random.Random(draw.random())) for _ in range(clients)]

    async def flat_out(self, seconds: float) -> float:
        """Requests per second when every client sends one after the other."""
        before = self.seen.counts.total()
        until_s = time.monotonic() + seconds

        async def work(client: Client) -> None:
            while time.monotonic() < until_s:
                await client.one()

        await asyncio.gather(*(work(client) for client in self._clients))
        return (self.seen.counts.total() - before) / seconds

    async def at_rate(self, rate: float, stop: asyncio.Event) -> None:
        """So many a second, at even distances, until told to stop; then all answers are awaited."""
        idle = deque(self._clients)
        under_way: set[asyncio.Task[None]] = set()

        async def work(client: Client) -> None:
            await client.one()
            idle.append(client)

        next_s = time.monotonic()
        while not stop.is_set():
            next_s += 1 / rate
            if (wait_s := next_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if not idle:
                self.seen.late += 1
                continue
            task = asyncio.create_task(work(idle.popleft()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)

    async def close(self) -> None:
        """All clients leave."""
        for client in self._clients:
            await client.close()
