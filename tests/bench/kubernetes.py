"""Discovery from Kubernetes: how long a large pool takes to be known, and what its churn costs.

    python -m tests.bench.kubernetes [pods] [events/s] [seconds]

The fake API server runs in another process. Its churn is a pod that becomes unready and ready again, in turn over all pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from extproc.app.cluster import Cluster
from extproc.app.pool_parts import pool_parts
from extproc.app.pools import Pool
from extproc.app.watching import FileErrors
from extproc.discovery.kubernetes.endpoints import KubernetesDiscovery, KubernetesSource
from extproc.observability.instruments import Instruments
from extproc.observability.logs import configure
from extproc.pool import PoolStore
from extproc.scraping.driver import Driver
from extproc.settings.picker import DEFAULT_PICKER
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import POOLS, pod, pool

_SETTLE_S = 1.0


def _address(number: int) -> str:
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


async def _serve(pipe: Connection, pods: int, rate: float) -> None:
    fake = FakeKube()
    fake.put(POOLS, pool())
    for number in range(pods):
        fake.put("pods", _pod(number))
    pipe.send(await fake.start())
    await asyncio.to_thread(pipe.recv)
    number = 0
    begin_s = time.monotonic()
    while True:
        await asyncio.sleep(max(0.0, begin_s + number / rate - time.monotonic()))
        fake.put("pods", _pod(number // 2 % pods, ready=number % 2 == 1))
        number += 1


def _pod(number: int, *, ready: bool = True) -> dict[str, object]:
    """About as large as a real one: 6 KB."""
    made = pod(f"vllm-{number}", _address(number), ready=ready)
    env = [{"name": f"VARIABLE_{n}", "value": "x" * 60} for n in range(40)]
    made["spec"]["containers"][0]["env"] = env
    made["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {f"f:{n}": {} for n in range(60)}}]
    return made


def _server(pipe: Connection, pods: int, rate: float) -> None:
    asyncio.run(_serve(pipe, pods, rate))


async def _measure(port: int, pipe: Connection, pods: int, rate: float, seconds: float) -> None:
    directory = Path(tempfile.mkdtemp())
    fake = FakeKube()
    fake.port = port
    (directory / "kubeconfig").write_text(fake.kubeconfig())
    begin_s = time.perf_counter()
    instruments = Instruments()
    cluster = Cluster(str(directory / "kubeconfig"), instruments)
    client = await cluster.connect()
    connected_s = time.perf_counter()
    source = KubernetesSource("", "vllm")
    parts = pool_parts(DEFAULT_PICKER, prefix="", static=None, static_path="", file=None, base=directory, kubernetes=source)
    store = PoolStore("vllm", time.monotonic)
    target = Pool(store, parts, instruments, FileErrors(instruments), interval_s=1.0, driver=Driver(), cluster=cluster)
    changes = 0
    known = asyncio.Event()

    def changed() -> None:
        nonlocal changes
        changes += 1
        known.set()

    target.changed = changed
    discovery = target._discovery
    assert isinstance(discovery, KubernetesDiscovery)
    task = asyncio.ensure_future(discovery.run(client, "default"))  # without scraping, which costs what it costs
    await known.wait()
    took_s, connecting_s = time.perf_counter() - begin_s, connected_s - begin_s
    print(f"{len(store)} pods known after {took_s:.3f} s ({connecting_s:.3f} of it import and credentials)")
    await asyncio.sleep(_SETTLE_S)
    for label, on in (("idle", False), (f"{rate:g} events/s", True)):
        if on:
            pipe.send("go")
        changes = 0
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        print(f"{label}: {cpu_s / wall_s:.2%} of a core, {changes / wall_s:.1f} changes of the store a second")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await cluster.close()


def main(arguments: Sequence[str]) -> None:
    """Measure once."""
    pods, rate, seconds = (float(argument) for argument in (arguments or ("1000", "50", "10")))
    configure(0)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_server, args=(theirs, int(pods), rate), daemon=True)
    server.start()
    uvloop.run(_measure(ours.recv(), ours, int(pods), rate, seconds))
    server.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
