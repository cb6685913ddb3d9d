"""A discovery at work against the fake API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from extproc.discovery.kubernetes.endpoints import KubernetesDiscovery, KubernetesSource
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.domain import Endpoint
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.reflector import Reflector
from extproc.observability.instruments import Instruments
from tests.fakes.kube import FakeKube


class Told:
    """A sink that keeps what it was told."""

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []
        self.sizes: list[int] = []

    def replace_endpoints(self, endpoints: Any) -> None:
        keys = [endpoint.key for endpoint in endpoints]
        assert len(keys) == len(set(keys))
        self.endpoints = list(endpoints)
        self.sizes.append(len(keys))

    @property
    def keys(self) -> set[str]:
        return {endpoint.key for endpoint in self.endpoints}

    @property
    def names(self) -> set[str]:
        return {endpoint.name for endpoint in self.endpoints}


class AtWork:
    """The parts of one process."""

    def __init__(self, fake: FakeKube, client: KubeClient) -> None:
        self.fake = fake
        self.client = client
        self.instruments = Instruments()
        self.contact = ApiContact(self.instruments)
        self.errors = ObjectErrors(self.instruments)

    async def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """A metric's values by its labels' values."""
        for family in self.instruments.collect():
            for sample in family.samples:
                if sample.name == name:
                    return {tuple(each.labels.values()): each.value for each in family.samples if each.name == name}
        return {}

    def reflector(self, *args: Any) -> Reflector:
        """As usual, with short pauses."""
        return Reflector(*args, sleep=lambda seconds: asyncio.sleep(seconds / 100))


@contextlib.asynccontextmanager
async def at_work(directory: Path, fake: FakeKube | None = None) -> AsyncIterator[AtWork]:
    fake = fake or FakeKube()
    await fake.start()
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(fake.kubeconfig())
    client = await KubeClient.connect(str(kubeconfig))
    try:
        yield AtWork(fake, client)
    finally:
        await client.close()
        await fake.kill()


@contextlib.asynccontextmanager
async def running(job: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(job)
    try:
        yield
    finally:
        if task.done():
            task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Discovered:
    """A discovery of endpoints, what it told, and the process it runs in."""

    def __init__(self, it: AtWork, source: KubernetesSource) -> None:
        self.it = it
        self.fake = it.fake
        self.told = Told()
        self.discovery = KubernetesDiscovery(source, self.told, it.contact, it.errors, reflector=it.reflector, gather_s=0.001)

    async def ready(self) -> None:
        await self.it.until(lambda: self.discovery.unready() is None)

    async def has(self, *keys: str) -> None:
        """Wait until the sink was told exactly these."""
        await self.it.until(lambda: self.told.keys == set(keys))


@contextlib.asynccontextmanager
async def discovered(
    directory: Path, fake: FakeKube | None = None, source: KubernetesSource = KubernetesSource("", "vllm")
) -> AsyncIterator[Discovered]:
    async with at_work(directory, fake) as it:
        found = Discovered(it, source)
        async with running(found.discovery.run(it.client, it.client.namespace)):
            yield found
