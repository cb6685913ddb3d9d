"""A real server whose standard error is a full pipe that nobody reads: everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket

import pytest

from tests.app.processes import Server, serving


async def break_the_protocol(server: Server) -> None:
    """Be a peer that gets a connection ended, which is worth a line."""
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.grpc)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()


async def test_nobody_reads() -> None:
    """Picks and pages go on, a drain too, and lines are counted that were lost."""
    async with serving(full=True) as server:
        await server.pick()
        assert (await server.get("/healthz"))[0] == 200
        for _ in range(20):
            await break_the_protocol(server)
        await server.pick()
        assert await server.metric("extproc_log_lines_suppressed_total") >= 10
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_what_is_written_at_the_end_is_read() -> None:
    async with serving(full=False) as server:
        for _ in range(20):
            await break_the_protocol(server)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        lines = [json.loads(line) for line in os.read(server.log, 2**16).splitlines()]
    said = [line["msg"] for line in lines]
    assert said[-1] == "stopped"
    assert 1 <= said.count("connection ended") <= 7


@pytest.mark.parametrize("kind", ["h2", "aiohttp"])
async def test_strangers_get_no_line_each(kind: str) -> None:
    """Whatever they send: the log stays short."""
    async with serving(full=False) as server:
        port = server.grpc if kind == "h2" else server.metrics
        for number in range(60):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                sock.sendall(b"\x16\x03\x01\xff" if number % 2 else b"GET / HTTP/9.9\r\nContent-Length: x\r\n\r\n")
                sock.shutdown(socket.SHUT_WR)
                sock.recv(2**16)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert len(os.read(server.log, 2**16).splitlines()) < 25
