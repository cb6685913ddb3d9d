"""A real server where things are missing or wrong: nowhere to write to, little memory, a clock that jumps, a peer that dies."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from grpc import aio

from extproc.app import build
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.settings.commands import EppSettings
from tests.app.processes import ENDPOINT, Server, limited, serving
from tests.app.running import chat, exchange, headers_of, running, until
from tests.app.test_service import HERE

READ_ONLY = [
    *("unshare", "--mount", "--map-root-user", "sh", "-c"),
    "for each in $(cut -d' ' -f2 /proc/mounts | grep -v '^/proc\\|^/sys\\|^/dev'); do mount -o remount,bind,ro $each; done; "
    'touch "$HOME/written" /tmp/written 2>/dev/null && exit 99; exec "$@"',
    "sh",
]


def can_unshare() -> bool:
    try:
        return (
            subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False, capture_output=True).returncode == 0
        )
    except OSError:
        return False


@pytest.mark.skipif(not can_unshare(), reason="needs mount namespaces")
async def test_a_file_system_that_is_read_only() -> None:
    """Nothing is written anywhere, TLS with a certificate of its own included."""
    async with serving(inside=READ_ONLY) as server:
        await server.pick()
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    async with serving(inside=READ_ONLY, flags=["--secure-serving=true"]) as server:
        assert (await server.get("/metrics"))[0] == 200


async def test_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wall clock says is shown and nothing else: deadlines, ages and leases go by the monotonic one."""
    chance = random.Random(1)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(-1e9, 4e9))
    service = build(EppSettings(**HERE, endpoints=(ENDPOINT,)))
    async with running(service) as ports:
        for _ in range(50):
            answered = await exchange(ports.grpc, chat(b'{"model": "m"}'))
            assert headers_of(answered[0])["x-gateway-destination-endpoint"] == ENDPOINT


UPLOADS = """
import asyncio
from grpc import aio
from extproc.names import EXT_PROC_METHOD
from tests.app.running import chat

async def main():
    async with aio.insecure_channel("127.0.0.1:{port}") as channel:
        calls = [channel.stream_stream(EXT_PROC_METHOD)() for _ in range({streams})]
        for call in calls:
            await call.write(chat(b"{{}}")[0].SerializeToString())
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_proxy_that_is_killed_with_uploads_under_way() -> None:
    """Each of its streams is over at once, and nothing stays in flight."""
    async with serving() as server:

        async def streams(wanted: int) -> bool:
            return await server.metric("extproc_streams_inflight") == wanted

        proxy = await asyncio.create_subprocess_exec(sys.executable, "-c", UPLOADS.format(port=server.grpc, streams=100))
        try:
            await until(lambda: streams(100), 20)
        finally:
            proxy.kill()
            await proxy.wait()
        await until(lambda: streams(0))
        await server.pick()
        await until(lambda: streams(0))


async def upload(server: Server, size: int) -> str:
    """How a body of that size ends: the status of an immediate answer, or the code of the stream."""
    async with aio.insecure_channel(f"127.0.0.1:{server.grpc}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = channel.stream_stream(EXT_PROC_METHOD, response_deserializer=pb.ProcessingResponse.FromString)()
        reading = asyncio.create_task(_end_of(call))
        piece = pb.ProcessingRequest()
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):  # it is over before all is sent
            await call.write(chat(b"{}")[0].SerializeToString())
            for start in range(0, size, 62_000):
                piece.request_body.body = b" " * min(62_000, size - start)
                piece.request_body.end_of_stream = start + 62_000 >= size
                await call.write(piece.SerializeToString())
        return await reading


async def _end_of(call: Any) -> str:
    with contextlib.suppress(aio.AioRpcError):
        async for answer in call:
            if answer.HasField("immediate_response"):
                return str(answer.immediate_response.status.code)
    return str((await call.code()).name)


@pytest.mark.parametrize(
    ("flags", "ends"),
    [
        ([], {"INTERNAL", "UNAVAILABLE", "400", "503"}),
        (["--max-body-bytes=4Mi", "--max-held-bytes=8Mi"], {"413", "503"}),
    ],
    ids=["bounds above the memory", "bounds within it"],
)
async def test_little_memory(flags: list[str], ends: set[str]) -> None:
    """What does not fit fails by itself; where the bounds are within the memory, with its own answer. The server goes on."""
    async with serving(inside=limited(f"-d {150 * 1024}"), flags=flags) as server:
        ended = await asyncio.gather(*(upload(server, 30 * 2**20) for _ in range(3)))
        assert set(ended) <= ends
        await server.pick()
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
