"""docs/kubernetes/migrating.md, followed from each version of upstream's charts with its stock values, on a real API server.

Upstream's own charts are installed by helm, then what the page says is done, and what Kubernetes then has is started here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.parts import call, until
from tests.k8s.api import Object
from tests.k8s.cluster import ROOT, Cluster
from tests.k8s.helm import helm
from tests.k8s.kubelet import Pod, running

CHARTS: Final = ROOT / ".cache" / "charts"
"""Upstream's, by version; made by scripts/install-kubernetes."""
FIRST_IN_PLACE: Final = "v1.0"
"""Charts before make an InferencePool of v1alpha2 of another group."""
RELEASE: Final = "mine"
LABELS: Final = ["--set=inferencePool.modelServers.matchLabels.app=vllm"]
COMMANDS: Final = {"body-based-routing": "bbr", "inferencepool": "epp", "standalone": "epp"}
PORTS: Final = {
    "bbr": ["--grpc-port=9004", "--grpc-health-port=9005", "--metrics-port=9090"],
    "epp": ["--grpc-port=9002", "--grpc-health-port=9003", "--metrics-port=9090"],
}


def stock() -> Iterator[Any]:
    for folder in sorted(CHARTS.glob("v*")):
        for chart in COMMANDS:
            if (folder / chart).is_dir():
                yield pytest.param(folder / chart, id=f"{folder.name}-{chart}")


STOCK: Final = list(stock())
_KEPT: Final = [each for each in STOCK if each.values[0].parent.name >= FIRST_IN_PLACE and "standalone" not in each.id]
IN_PLACE = pytest.mark.parametrize("upstream", _KEPT)
FIRST_AND_LAST = pytest.mark.parametrize("upstream", [*_KEPT[:2], *_KEPT[-2:]])
NEW = pytest.mark.parametrize("upstream", [each for each in STOCK if each not in _KEPT])


class Release:
    """`helm` for one release in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, upstream: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.upstream = upstream
        self.ours = ROOT / "charts" / upstream.name
        self.command = COMMANDS[upstream.name]
        self.needed = [] if self.command == "bbr" else LABELS

    def helm(self, *words: object) -> str:
        return helm(*map(str, words), "--namespace", self.namespace, config=self.cluster.admin_config)

    def deployment(self) -> Object:
        (found,) = self.cluster.admin.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments")["items"]
        return dict(found)

    def pod(self, directory: Path) -> Any:
        return running(self.cluster, self.namespace, self.deployment()["metadata"]["name"], directory)


@pytest.fixture
def release(cluster: Cluster, namespace: str, upstream: Path) -> Iterator[Release]:
    made = Release(cluster, namespace, upstream)
    yield made
    made.helm("uninstall", RELEASE, "--ignore-not-found")  # objects without a namespace have one name for all


def levels(log: str) -> set[str]:
    return {str(json.loads(line)["level"]) for line in log.splitlines() if line.startswith("{")}


def at_work(pods: list[Pod], container: str) -> None:
    """It is ready by the chart's own probes, and logged nothing worse than warnings."""
    (pod,) = pods
    log = pod.log(container)
    assert levels(log) <= {"info", "warning"}, log


def test_there_is_something_to_migrate_from() -> None:
    assert len(STOCK) == 18, "run scripts/install-kubernetes"


def only_the_image(release: Release) -> str:
    """Put our image, as it is built with `--target`, into the release's Deployment; the container's name."""
    found = release.deployment()
    container = found["spec"]["template"]["spec"]["containers"][0]
    # Such an image has the subcommand in its entry point. Ports are said so that they can be shifted.
    changed = {**container, "image": "extproc", "args": [release.command, *container["args"], *PORTS[release.command]]}
    changed["ports"] = [{"containerPort": int(flag.partition("=")[2])} for flag in PORTS[release.command]]
    path = f"/apis/apps/v1/namespaces/{release.namespace}/deployments/{found['metadata']['name']}"
    release.cluster.admin.patch(path, {"spec": {"template": {"spec": {"containers": [changed]}}}})
    return str(container["name"])


@IN_PLACE
def test_only_the_image(release: Release, tmp_path: Path) -> None:
    """Way 1: upstream's release with its chart, arguments and rights, and our image in it."""
    release.helm("install", RELEASE, release.upstream, *release.needed)
    name = only_the_image(release)
    with release.pod(tmp_path) as pods:
        page = f"http://{pods[0].address}:{pods[0].port(9090)}"
        until(lambda: call(page, "/readyz").status == 200, within_s=20, what="it is ready")  # the router's chart has no probes
        at_work(pods, name)


@IN_PLACE
def test_the_chart_with_the_same_values(release: Release, tmp_path: Path) -> None:
    """Way 2: the values file of before, whole; the Deployment is changed in place."""
    release.helm("install", RELEASE, release.upstream, *release.needed)
    before = release.deployment()["metadata"]
    release.helm("upgrade", RELEASE, release.ours, "--values", release.upstream / "values.yaml", *release.needed)
    after = release.deployment()["metadata"]
    assert (after["name"], after["uid"]) == (before["name"], before["uid"])
    with release.pod(tmp_path) as pods:
        at_work(pods, release.command)


@FIRST_AND_LAST
def test_the_chart_without_a_values_file(release: Release, tmp_path: Path) -> None:
    """Way 2: only what was set stays, on top of our defaults."""
    release.helm("install", RELEASE, release.upstream, *release.needed, "--set=inferenceGateway.name=gateway-of-mine")
    release.helm("upgrade", RELEASE, release.ours, "--reset-then-reuse-values")
    values = json.loads(release.helm("get", "values", RELEASE, "--all", "--output=json"))
    assert values["inferenceGateway"]["name"] == "gateway-of-mine"
    component = "bbr" if release.command == "bbr" else "inferenceExtension"
    assert values[component]["image"]["repository"] == "extproc/extproc"
    with release.pod(tmp_path) as pods:
        at_work(pods, release.command)


@NEW
def test_stock_values_start(release: Release, tmp_path: Path) -> None:
    """A new release of our chart with a values file of theirs, v0.4 and standalone's own Envoy among them."""
    release.helm("install", RELEASE, release.ours, "--values", release.upstream / "values.yaml", *release.needed)
    (container,) = release.deployment()["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("ghcr.io/extproc/extproc:"), "upstream's image would not start"
    with release.pod(tmp_path) as pods:
        at_work(pods, release.command)
        if release.upstream.name == "standalone":
            (pod,) = pods
            answer = call(f"http://{pod.address}:{pod.port(8081)}", "/v1/completions", {"model": "m", "prompt": "hello"})
            assert answer.status == 503, "through Envoy; the pool has no pods"
            assert b"no_endpoints" in answer.body
