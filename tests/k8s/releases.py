"""Charts, installed by the real helm into the real API server."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.k8s.api import Object, documents
from tests.k8s.cluster import BIN, ROOT, Cluster
from tests.k8s.kubelet import Pod, running


class HelmFailed(Exception):
    """With what helm said."""


class Helm:
    """helm as the cluster's administrator, in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self._flags = ["--kubeconfig", str(cluster.admin_config), "--namespace", namespace]
        self._directory = directory

    def __call__(self, *words: str) -> str:
        """What it prints. Raises HelmFailed."""
        names = ("HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
        home = {name: str(self._directory / name) for name in names}
        command = [str(BIN / "helm"), *words, *self._flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=home)
        if done.returncode:
            raise HelmFailed(done.stderr.strip())
        return done.stdout

    def install(self, release: str, chart: str, values: Mapping[str, Any] = {}) -> list[Object]:
        """Install it, or upgrade it to these values. Returns its objects as they were sent."""
        path = self._directory / f"{release}.values.json"
        path.write_text(json.dumps(values))
        self("upgrade", "--install", release, str(ROOT / "charts" / chart), "--values", str(path))
        return documents(self("get", "manifest", release))

    def uninstall(self, release: str) -> None:
        self("uninstall", release)


@contextlib.contextmanager
def deployed(
    cluster: Cluster,
    namespace: str,
    directory: Path,
    release: str,
    chart: str,
    values: Mapping[str, Any] = {},
    *,
    deployment: str = "",
    wait: bool = True,
) -> Iterator[tuple[list[Object], list[Pod]]]:
    """A release's objects, and the pods of its Deployment, ready unless not waited for. Uninstalled at the end."""
    helm = Helm(cluster, namespace, directory)
    objects = helm.install(release, chart, values)
    with running(cluster, namespace, deployment or release, directory, wait=wait) as pods:
        yield objects, pods
    helm.uninstall(release)
