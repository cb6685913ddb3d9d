"""What a picker's requests wait for while strangers are at its other ports, and nobody reads its log.

    python -m tests.bench.attack [--endpoints 10000] [--only NAMES]

Picks come one at a time, as in `reach`. The strangers are a process of their own with less priority, as they would have their
own machine. Of three runs of each the best counts: what a busy machine adds is not ours, and what we hold up is in every run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import grpc

from tests.bench.processes import Server
from tests.bench.reach import best, p99, pick_times_ms, picker, refused
from tests.bench.recorded import MODEL, chat_body, request_messages
from tests.bench.table import Row, show

P99_MS: Final = 10.0
MEMORY_MB: Final = 250.0
_AT_ONCE: Final = 4
_HALVES: Final = 300
_NAMES: Final = 1_300


def _question(size: int) -> bytes:
    asked = {"path": "/v1/chat/completions", "headers": {}, "body": json.loads(chat_body(size))}
    return json.dumps(asked).encode()


Attack = Callable[[int, Callable[[], object]], None]
"""Takes the port, and what to call when it got somewhere."""


def _ask(method: str, path: str, body: bytes | None = None) -> Attack:
    def ask(port: int, heard: Callable[[], object]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {} if body is None else {"content-type": "application/json"})
            answer = connection.getresponse()
            heard()
            answer.read()  # a large page takes its time, as pages have a share of the core

    return ask


def _half_requests(port: int, heard: Callable[[], object]) -> None:
    """A few hundred connections that say half a request and stay until they are thrown out."""
    halves = []
    for _ in range(_HALVES // _AT_ONCE):
        half = socket.create_connection(("127.0.0.1", port), timeout=30)
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        halves.append(half)
        heard()
    for half in halves:
        half.close()


ATTACKS: Final[Mapping[str, Attack]] = {
    "questions of 7 MB": _ask("POST", "/debug/explain", _question(7_000_000)),
    "questions of 250 KB": _ask("POST", "/debug/explain", _question(250_000)),
    "small questions": _ask("POST", "/debug/explain", _question(100)),
    "half requests": _half_requests,
    "reading /metrics": _ask("GET", "/metrics"),
    "reading /debug/endpoints": _ask("GET", "/debug/endpoints"),
    "reading /debug/decisions": _ask("GET", "/debug/decisions?limit=1000"),
}
"""What four do at once, over and over, on the metrics port."""


def attack(name: str, port: int) -> NoReturn:
    """Until SIGTERM; then say how many there were."""
    os.nice(5)
    heard = itertools.count()

    def again() -> None:
        while True:
            try:
                ATTACKS[name](port, lambda: next(heard))
            except OSError:
                time.sleep(0.01)  # thrown out, as is right; not a loop of refused connections

    def over(*_: object) -> None:
        print(next(heard), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, over)

    for _ in range(_AT_ONCE):
        threading.Thread(target=again, daemon=True).start()
    print("attacking", flush=True)
    while True:
        time.sleep(3600)


@contextlib.contextmanager
def attacked(target: Server, name: str) -> Iterator[None]:
    """Meanwhile four do this, over and over. Raises AssertionError when they did not come to it."""
    command = [sys.executable, "-m", "tests.bench.attack", "--attack", name, "--port", str(target.started["metrics"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        time.sleep(0.3)
        yield
    finally:
        process.terminate()
        heard = int(process.stdout.read() or 0)
        process.wait()
        process.stdout.close()
    assert heard, f"{name}: nobody came to it"


def strange_names(target: Server) -> None:
    """Requests for models that nobody has heard of: the page of metrics is then as large as strangers can make it."""
    with grpc.insecure_channel(f"127.0.0.1:{target.started['grpc']}") as channel:
        process: Any = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")
        for number in range(_NAMES):
            body = chat_body(20).replace(MODEL.encode(), b"stranger-%d" % number)
            for _ in process(iter(request_messages(body))):
                pass


def attack_rows(endpoints: int = 10_000, only: Sequence[str] = ()) -> list[Row]:
    """A row for each attack, and one for the picker left alone."""
    rows = []
    with picker(refused(endpoints)) as (running, _):
        strange_names(running)
        time.sleep(2.0)
        rows.append(Row("left alone: pick, p99", p99(best(lambda: pick_times_ms(running))), "ms"))
        for name in only or ATTACKS:
            with attacked(running, name):
                times = best(lambda: pick_times_ms(running))
            rows.append(Row(f"{name}: pick, p99", p99(times), "ms", P99_MS))
            rows.append(Row(f"{name}: pick, slowest", times[-1], "ms"))
        rows.append(Row("memory behind them", running.resident_mb(), "MB", MEMORY_MB))
    with picker(refused(endpoints), "--v=5") as (running, _):
        # Nobody reads what it writes from `ready` on, and each of these picks is worth a line.
        times = best(lambda: pick_times_ms(running))
        rows.append(Row("nobody reads the log, at --v=5: pick, p99", p99(times), "ms", P99_MS))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--only", default="", help="attacks, comma separated: " + ", ".join(ATTACKS))
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        attack(args.attack, args.port)
    show("attacks", attack_rows(args.endpoints, [name for name in args.only.split(",") if name]))


if __name__ == "__main__":
    main()
