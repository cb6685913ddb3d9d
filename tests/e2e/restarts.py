"""A server of ours and its replacements, one process after the other on the same ports."""

from __future__ import annotations

import asyncio

from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import Stack, call, until


class Generations:
    """The processes of one server of a stack. They share all ports but that of the pages, by which they are told apart."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self._name = name
        self._number = 0

    @property
    def current(self) -> Child:
        """The newest one."""
        return self._stack.servers[self._name]

    @property
    def page(self) -> str:
        """Its pages."""
        return self._stack.pages[self._name]

    async def start_next(self) -> tuple[Child, str]:
        """Start another, and return when it is ready: the one before it, which still runs, and that one's pages."""
        before = self.current, self.page
        self._number += 1
        taken = self._stack.ports.values()
        (port,) = free_ports(1, taken=taken)
        argv = list(self.current.argv)
        argv[argv.index("--metrics-port") + 1] = str(port)
        child = Child(f"{self._name}-{self._number}", argv, self.current.log.parent)
        self._stack.servers[self._name] = child
        self._stack.pages[self._name] = f"http://127.0.0.1:{port}"
        child.start()
        await asyncio.to_thread(self._stack.wait_server, self._name)
        return before

    async def replace(self) -> int | None:
        """Start another, and when it is ready end the one before it. Returns that one's exit code, once it is gone."""
        before, _ = await self.start_next()
        return await asyncio.to_thread(before.stop, 20.0)


def metric(page: str, name: str) -> float:
    """The value of a metric without labels, or the sum over them."""
    text = call(page, f"/metrics?name[]={name}").body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#"))


async def reaches(page: str, name: str, value: float, within_s: float = 10.0) -> None:
    """Wait until a metric has this value."""
    await asyncio.to_thread(until, lambda: metric(page, name) == value, within_s=within_s, what=f"{name} is {value:g}")
