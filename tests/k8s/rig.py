"""A pool with pods and a picker that watches it with the rights of its own ServiceAccount."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from extproc.demo.ports import free_ports
from tests.k8s.api import Api, Object
from tests.k8s.cluster import Cluster
from tests.k8s.line import Line
from tests.k8s.objects import PICKER_RULES, Pods, pool, pools_path, service_account
from tests.k8s.picks import Client, Members
from tests.k8s.servers import Server

POOL: Final = "pool"
NOTICED_S: Final = 1.0
"""What changes in the cluster has changed the picks after so long."""


class Rig:
    """All that a test of a picker needs."""

    def __init__(self, cluster: Cluster, namespace: str, sim_port: int, directory: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.members = Members()
        self.pods = Pods(cluster.admin, namespace, self.members, sim_port)
        self.directory = directory
        self.server: Server
        (port,) = free_ports(1)
        self.line = Line(cluster.port, port)
        """Between the picker and the API server."""

    @property
    def api(self) -> Api:
        return self.cluster.admin

    def endpoints(self, *addresses: str) -> set[str]:
        return {f"{address}:{self.pods.port}" for address in addresses}

    def create_pool(self, **changes: object) -> None:
        self.api.create(pools_path(self.namespace), pool(POOL, [self.pods.port], **changes))  # type: ignore[arg-type]

    def grant(self, name: str, rules: Iterable[Object]) -> Path:
        """A ServiceAccount with these rights, and the kubeconfig of its token; its way to the API server is `line`."""
        service_account(self.api, self.namespace, name, rules)
        token = self.cluster.service_account_token(self.namespace, name)
        return self.cluster.write_kubeconfig(
            f"{self.namespace}-{name}", token, self.namespace, url=f"https://127.0.0.1:{self.line.port}"
        )

    def picker(self, kubeconfig: Path, flags: Sequence[str] = (), name: str = "epp") -> Server:
        """Not started yet."""
        given = [f"--kubeconfig={kubeconfig}", f"--pool-name={POOL}", f"--pool-namespace={self.namespace}", *flags]
        return Server("epp", given, self.directory, name)

    def client(self) -> Client:
        return Client(self.server.port)


@contextmanager
def rigged(
    cluster: Cluster,
    namespace: str,
    sim_port: int,
    directory: Path,
    *,
    addresses: Sequence[str] = ("127.0.0.2", "127.0.0.3", "127.0.0.4"),
    flags: Sequence[str] = (),
) -> Iterator[Rig]:
    """The pool, pods a, b, c … at these addresses, and a picker that is ready."""
    rig = Rig(cluster, namespace, sim_port, directory)
    rig.create_pool()
    for name, address in zip("abcdefgh", addresses, strict=False):
        rig.pods.add(name, address)
    rig.line.mend()
    rig.server = rig.picker(rig.grant("picker", PICKER_RULES), flags)
    try:
        rig.server.start()
        rig.server.wait_ready()
        yield rig
        rig.server.child.check()
    finally:
        rig.server.stop()
        rig.line.cut()
