"""A real Envoy before a decider in this process: what no deployment of ours decides can be tried on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from extproc.demo.envoy import envoy_child
from extproc.demo.ports import free_ports
from extproc.demo.stack import LLAMA, POOLS
from extproc.protocol import StreamLimits
from extproc.transport.session import Decider
from tests.e2e.parts import ADMIN, ENVOY, call, send_answers, until
from tests.fakes.serving import TransportName, serving

ServeAt: TypeAlias = Callable[[int], contextlib.AbstractAsyncContextManager[object]]


class Front(NamedTuple):
    """Where Envoy listens, the port that its destinations should name, and Envoy's own pages."""

    url: str
    upstream: int
    admin: str


@contextlib.asynccontextmanager
async def envoy_before(
    decider: Decider | ServeAt,
    binary: Path,
    directory: Path,
    mode: str = "NONE",
    *,
    config: str = "one-hop.yaml",
    ports: Mapping[int, int] | None = None,
    change: Callable[[Any], None] = lambda document: None,
    transport: TransportName = "h2",
    limits: StreamLimits = StreamLimits(),
) -> AsyncIterator[Front]:
    """`decider` decides in a server of its own, or is a function that serves at a port, as a whole service does.

    `mode`: how Envoy sends response bodies. `ports`: where the demo's model servers really are. `change` has the last word on
    Envoy's configuration.
    """

    def changed(document: Any) -> None:
        without_tls(document)
        change(document)

    usual = [ENVOY, ADMIN, 9002] if ports else [ENVOY, ADMIN, 9002, *(port for pool in POOLS for port in pool.ports)]
    taken = dict(ports or {})
    chosen = dict(zip(usual, free_ports(len(usual), taken=taken.values()), strict=True)) | taken
    envoy = envoy_child(binary, config, chosen, directory, change=changed)
    send_answers(directory, mode)
    port = chosen[9002]
    serve = decider(port) if callable(decider) else serving(decider, transport, port=port, limits=limits)
    async with serve:
        try:
            envoy.start()
            admin = f"http://127.0.0.1:{chosen[ADMIN]}"
            await asyncio.to_thread(until, lambda: call(admin, "/ready").status == 200, what="Envoy is up")
            yield Front(f"http://127.0.0.1:{chosen[ENVOY]}", chosen[LLAMA.ports[0]], admin)
        finally:
            await asyncio.to_thread(envoy.stop)


def without_tls(document: Any) -> None:
    """Plaintext to our servers."""
    for cluster in document["static_resources"]["clusters"]:
        if cluster["type"] != "ORIGINAL_DST":  # a provider's
            cluster.pop("transport_socket", None)
