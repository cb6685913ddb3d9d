"""Endpoints that hang: `python -m tests.bench.silence [--taking]` prints a port, on which every address of 127/8 is one.

With `--taking` connections are taken and nothing is ever said; without, the kernel's queue is full and no connection is made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator


async def take(listener: socket.socket) -> None:
    """Until standard input ends; a connection is kept as long as the other side keeps it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, sock=listener, backlog=4096)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taking", action="store_true")
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.create_server(("0.0.0.0", 0), backlog=4096 if args.taking else 0) as listener, contextlib.ExitStack() as stack:
        port = listener.getsockname()[1]
        for _ in range(0 if args.taking else 4):
            first = stack.enter_context(socket.socket())
            first.setblocking(False)
            first.connect_ex(("127.0.0.1", port))
        print(port, flush=True)
        if args.taking:
            asyncio.run(take(listener))
        else:
            sys.stdin.read()


@contextlib.contextmanager
def silent(number: int, *, taking: bool) -> Iterator[list[tuple[str, int]]]:
    """So many endpoints that hang."""
    command = [sys.executable, "-m", "tests.bench.silence", *["--taking"] * taking]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        yield [(f"127.1.{i // 200}.{i % 200 + 1}", port) for i in range(number)]
        process.stdin.close()


if __name__ == "__main__":
    main()
