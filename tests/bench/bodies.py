"""Large bodies all at once, over several connections: what they take of memory, and how long the pages wait meanwhile.

    python -m tests.bench.bodies [--bodies 50] [--mib 64] [--connections 4] [--flags "--max-held-bytes=128Mi"]

The peer is no slower than the kernel: it sends what the windows allow, opens windows of 2^31-1 itself, and reads everything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from hpack import Decoder

from extproc.pb import external_processor_pb2 as pb
from tests.bench.processes import Server, server
from tests.bench.recorded import request_messages
from tests.bench.table import Row
from tests.fakes.http2 import PREFACE, SETTINGS_ACK, headers, settings, window

_FLAGS = ("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0", "--secure-serving=false")
_FRAME: Final = 16_384
_LARGEST: Final = 2**31 - 1
_PIECE: Final = 65_536


class Seen(NamedTuple):
    """What came of it."""

    ends: Counter[str]
    """Streams by how they ended: `decided`, the status of an answer of ours, or gRPC's code."""
    seconds: float
    healthz_ms: list[float]
    """Sorted."""
    before_mb: float
    peak_mb: float
    held_after: float
    """`extproc_held_bytes` when all is over."""


class Upload:
    """One stream: what it still has to send, and what came back."""

    def __init__(self, stream_id: int, size: int, window: int) -> None:
        self.id = stream_id
        self.window = window
        self.messages = _messages(size)
        self.pending = memoryview(next(self.messages))
        self.sent_all = False
        self.got = 0
        self.first = b""
        self.end: str | None = None

    def next_frame(self, room: int) -> bytes | None:
        """A frame of DATA, of as much as the windows allow."""
        size = min(len(self.pending), room, self.window, _FRAME)
        if size <= 0:
            return None
        payload, self.pending = self.pending[:size], self.pending[size:]
        self.window -= size
        if not self.pending:
            self.pending = memoryview(next(self.messages, b""))
            self.sent_all = not self.pending
        return size.to_bytes(3, "big") + b"\0\0" + self.id.to_bytes(4, "big") + payload

    @property
    def outcome(self) -> str | None:
        """How it ended, once it has."""
        if self.end is None and self.sent_all and self.got > _PIECE * 3 // 2:
            return None
        return self.end


def _messages(size: int):  # type: ignore[no-untyped-def]
    """Headers and a JSON body of that size, each with gRPC's five bytes; a body is made of the same pieces for all streams."""
    start, end = b'{"model": "m", "messages": [{"role": "user", "content": "', b'"}]}'
    middle = size - len(start) - len(end)
    yield _framed(request_messages(b"")[0].replace(b"content-length\x1a\x010", b"content-lengti\x1a\x010"))
    yield _framed(_body(start))
    while middle > 0:
        piece = min(_PIECE, middle)
        middle -= piece
        yield _WHOLE if piece == _PIECE else _framed(_body(b"x" * piece))
    yield _framed(_body(end, last=True))


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _body(data: bytes, *, last: bool = False) -> bytes:
    message = pb.ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = last
    return message.SerializeToString()


_WHOLE: Final = _framed(_body(b"x" * _PIECE))


class Peer:
    """One connection with its uploads."""

    def __init__(self, port: int, uploads: int, size: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.decoder = Decoder()
        self.size = size
        self.window = 65_535
        self.first_window = 65_535
        self.unacked = 0
        self.rest = b""
        self.out = bytearray(PREFACE + bytes(settings(INITIAL_WINDOW_SIZE=_LARGEST)) + bytes(window(0, _LARGEST - 65_535)))
        self.uploads = {1 + 2 * i: Upload(1 + 2 * i, size, self.first_window) for i in range(uploads)}
        for stream_id in self.uploads:
            self.out += bytes(headers(stream_id))
        self.turn = 0

    @property
    def going(self) -> bool:
        return any(upload.end is None for upload in self.uploads.values())

    def fill(self) -> None:
        """Frames of the streams in turn, as the windows allow."""
        going = [upload for upload in self.uploads.values() if upload.end is None and not upload.sent_all]
        while going and len(self.out) < 2**19 and self.window > 0:
            sent = False
            for upload in going:
                frame = upload.next_frame(self.window)
                if frame is not None:
                    self.window -= len(frame) - 9
                    self.out += frame
                    sent = True
            if not sent:
                return
            going = [upload for upload in going if not upload.sent_all]

    def write(self) -> None:
        self.fill()
        if self.out:
            with contextlib.suppress(BlockingIOError):
                del self.out[: self.sock.send(self.out)]

    def read(self) -> None:
        data = self.sock.recv(2**20)
        if not data:
            for upload in self.uploads.values():
                upload.end = upload.end or "connection lost"
            return
        data = self.rest + data if self.rest else data
        at, size = 0, len(data)
        while size - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + 9 + length
            if end > size:
                break
            self.on_frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data, at + 9, end)
            at = end
        self.rest = data[at:]

    def on_frame(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> None:
        upload = self.uploads.get(stream_id)
        if kind == 0 and upload is not None:
            self.unacked += end - at
            if len(upload.first) < 4096:
                upload.first += data[at:end]
            upload.got += end - at
            if upload.sent_all and upload.end is None and upload.got >= self.size:
                upload.end = "decided"
                self.out += b"\0\0\4\3\0" + stream_id.to_bytes(4, "big") + b"\0\0\0\x08"  # as Envoy ends a stream
            if self.unacked > 2**28:
                self.out += bytes(window(0, self.unacked))
                self.unacked = 0
        elif kind == 1 and upload is not None:
            fields = {str(key): str(value) for key, value in self.decoder.decode(data[at:end])}
            if flags & 1 and upload.end is None:
                upload.end = _end_of(upload, fields["grpc-status"])
        elif kind == 3 and upload is not None:
            upload.end = upload.end or f"reset {int.from_bytes(data[at:end], 'big')}"
        elif kind == 4 and not flags & 1:
            for i in range(at, end, 6):
                if int.from_bytes(data[i : i + 2], "big") == 4:
                    value = int.from_bytes(data[i + 2 : i + 6], "big")
                    for each in self.uploads.values():
                        each.window += value - self.first_window
                    self.first_window = value
            self.out += bytes(SETTINGS_ACK)
        elif kind == 6 and not flags & 1:
            self.out += data[at - 9 : at - 5] + b"\1" + data[at - 4 : end]
        elif kind == 8:
            increment = int.from_bytes(data[at:end], "big")
            if upload is not None:
                upload.window += increment
            elif stream_id == 0:
                self.window += increment


def _end_of(upload: Upload, status: str) -> str:
    if status == "0" and upload.first:
        message = pb.ProcessingResponse.FromString(upload.first[5 : 5 + int.from_bytes(upload.first[1:5], "big")])
        if message.HasField("immediate_response"):
            return str(message.immediate_response.status.code)
    return f"grpc-status {status}"


def send(port: int, bodies: int, size: int, connections: int, timeout_s: float = 300.0) -> Counter[str]:
    """All of them at once; how they ended."""
    peers = [Peer(port, bodies // connections + (i < bodies % connections), size) for i in range(connections)]
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            selector.register(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
        give_up_s = time.monotonic() + timeout_s
        while any(peer.going for peer in peers) and time.monotonic() < give_up_s:
            idle = True
            for key, events in selector.select(1.0):
                peer = key.data
                if events & selectors.EVENT_READ:
                    peer.read()
                    idle = False
                if events & selectors.EVENT_WRITE:
                    peer.write()
                    idle = idle and not peer.out
            if idle:
                time.sleep(0.002)
    for peer in peers:
        peer.sock.close()
    return Counter(upload.end or "never" for peer in peers for upload in peer.uploads.values())


def _status(target: Server, name: str) -> float:
    match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{target.process.pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def probe(port: int) -> None:
    """Ask for /healthz each 20 ms until standard input ends, and print the times in ms."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    times = []
    while not over.is_set():
        begin_s = time.monotonic()
        page(port, "/healthz")
        times.append((time.monotonic() - begin_s) * 1e3)
        time.sleep(0.02)
    print(json.dumps(times))


def seen(bodies: int = 50, size: int = 64 * 2**20, connections: int = 4, flags: tuple[str, ...] = ()) -> Seen:
    """Send them to a picker."""
    with server("extproc", "epp", *_FLAGS, "--endpoints", "127.0.0.1:9", *flags, until="ready") as running:
        assert running.process.stderr is not None
        threading.Thread(target=running.process.stderr.read, daemon=True).start()
        before = running.resident_mb()
        command = [sys.executable, "-m", "tests.bench.bodies", "--probe", str(running.started["metrics"])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
            begin_s = time.monotonic()
            ends = send(running.started["grpc"], bodies, size, connections)
            seconds = time.monotonic() - begin_s
            times = sorted(json.loads(prober.communicate("")[0]))
        time.sleep(0.1)
        held = re.search(r"^extproc_held_bytes (\S+)$", page(running.started["metrics"], "/metrics"), re.M)
        return Seen(ends, seconds, times, before, _status(running, "VmHWM"), float(held[1]) if held else -1)


def bodies_rows() -> list[Row]:
    """50 bodies of 64 MiB over 4 connections."""
    found = seen()
    times = found.healthz_ms
    return [
        Row("decided on", found.ends["decided"], "", least=50),
        Row("memory at most", found.peak_mb, "MB", 900),
        Row("held when all is over", found.held_after, "bytes", 0),
        Row("/healthz, p99", times[len(times) * 99 // 100], "ms", 250),
        Row("/healthz, slowest", times[-1], "ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=50)
    parser.add_argument("--mib", type=float, default=64.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--flags", default="", help="for the picker, separated by spaces")
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe(args.probe)
        return
    found = seen(args.bodies, int(args.mib * 2**20), args.connections, tuple(args.flags.split()))
    times = found.healthz_ms
    print(f"{dict(found.ends)} in {found.seconds:.1f} s")
    print(f"rss {found.before_mb:.0f} MB before, {found.peak_mb:.0f} MB at most; held after {found.held_after:.0f}")
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    print(f"/healthz {len(times)} times: p50 {p50:.0f} ms, p99 {p99:.0f} ms, at most {times[-1]:.0f} ms")


if __name__ == "__main__":
    main()
