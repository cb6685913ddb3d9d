"""Our own servers as processes that talk to the cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import call, until


class Server:
    """`extproc epp`, `bbr` or `gateway`."""

    def __init__(
        self, command: str, flags: Sequence[str], directory: Path, name: str = "", *, environment: Mapping[str, str] = {}
    ) -> None:
        """Not started yet. `environment`: variables beside ours."""
        self.port, self.health_port, self.metrics_port = free_ports(3)
        ports = [f"--grpc-port={self.port}", f"--grpc-health-port={self.health_port}", f"--metrics-port={self.metrics_port}"]
        argv = [sys.executable, "-m", "extproc", command, "--host=127.0.0.1", "--secure-serving=false", *ports, *flags]
        variables = [f"{key}={value}" for key, value in environment.items()]
        self.child = Child(name or command, ["/usr/bin/env", *variables, *argv], directory)
        self.page = f"http://127.0.0.1:{self.metrics_port}"

    def __repr__(self) -> str:
        return f"<Server {self.child!r}>"

    def start(self) -> None:
        """Start it and wait until it is alive, ready or not."""
        self.child.start()

        def alive() -> bool:
            self.child.check()
            return call(self.page, "/healthz").status == 200

        until(alive, within_s=20, what=f"{self.child.name} is alive")

    def wait_ready(self, within_s: float = 20.0) -> None:
        try:
            until(lambda: self.ready() == "", within_s=within_s)
        except AssertionError:
            raise AssertionError(f"{self.child.name}: {self.ready()}, for {within_s:.0f} s\n{self.child.tail()}") from None

    def ready(self) -> str:
        """Why it is not ready; empty when it is."""
        self.child.check()
        answer = call(self.page, "/readyz")
        return "" if answer.status == 200 else answer.body.decode().strip() or str(answer.status)

    def terminate(self) -> None:
        """SIGTERM, without waiting for its end."""
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGTERM)

    def stop(self) -> int | None:
        return self.child.stop()

    def log(self) -> str:
        return self.child.log.read_text(errors="replace")

    def wait_log(self, look: str | Callable[[str], bool], within_s: float = 10.0) -> str:
        """Wait until the log has this text, or is as `look` wants it. Returns the log."""
        wanted = (lambda text: look in text) if isinstance(look, str) else look
        until(lambda: wanted(self.log()), within_s=within_s, what=f"the log has {look!r}:\n{self.child.tail()}")
        return self.log()

    def endpoints(self) -> dict[str, Any]:
        """`/debug/endpoints`: all pools' endpoints by address."""
        pools = json.loads(call(self.page, "/debug/endpoints").body)["pools"]
        return {entry["endpoint"]: entry for pool in pools for entry in pool["endpoints"]}

    def decision(self, request_id: str) -> dict[str, Any]:
        """What was decided about a request; empty when that is not known."""
        found = call(self.page, f"/debug/decisions?request_id={request_id}").json["decisions"]
        return dict(found[0]) if found else {}

    def metric(self, name: str) -> float:
        """A metric, summed over its labels."""
        page = call(self.page, "/metrics").body.decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.M))


def simulator(
    directory: Path, *, host: str = "0.0.0.0", port: int = 0, flags: Sequence[str] = ("--model=m",), name: str = "sim"
) -> tuple[Child, int]:
    """A simulated model server, up, and its port. On 0.0.0.0 it is at every address 127.x.y.z, so every pod can be it."""
    port = port or free_ports(1)[0]
    argv = [sys.executable, "-m", "extproc", "sim", f"--host={host}", f"--port={port}", *flags]
    child = Child(name, argv, directory)
    child.start()

    def up() -> bool:
        child.check()
        return call(f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", "/health").status == 200

    until(up, within_s=20, what=f"{name} is up")
    return child, port


@contextmanager
def simulators(directory: Path, hosts: Sequence[str], flags: Sequence[str]) -> Iterator[list[str]]:
    """One at each address, all on one port, as pods are; what each says about itself is its address and port."""
    (port,) = free_ports(1)
    children: list[Child] = []
    try:
        for host in hosts:  # a loop, so that those that did start are stopped when one does not
            child, _ = simulator(directory, host=host, port=port, flags=flags, name=f"sim-{host}")
            children.append(child)
        yield [f"{host}:{port}" for host in hosts]
    finally:
        for child in children:
            child.stop()
