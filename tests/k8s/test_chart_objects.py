"""The charts on a real API server: every object is accepted as it is; install, upgrade, rollback and uninstall."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.k8s.api import Object, path_of
from tests.k8s.cluster import Cluster
from tests.k8s.helm import CHARTS, NAMES, container, helm, kinds, only, rendered, values_of

VARIANTS: Final[dict[str, dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "variants.yaml").read_text())
UPSTREAM: Final[dict[str, dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "upstream.yaml").read_text())
_FILES: Final = [
    pytest.param(chart, values, id=f"{chart}: {name}") for chart in NAMES for name, values in UPSTREAM[chart].items()
]
_CASES: Final = [
    pytest.param(chart, values, id=f"{chart}: {name}") for chart in NAMES for name, values in VARIANTS[chart].items()
]


@pytest.fixture(scope="module")
def plurals(session_cluster: Cluster) -> dict[tuple[str, str], tuple[str, bool]]:
    return session_cluster.resources()


@pytest.mark.parametrize(("chart", "values"), _CASES)
def test_every_object_is_accepted(
    cluster: Cluster, namespace: str, plurals: dict[tuple[str, str], tuple[str, bool]], chart: str, values: dict[str, Any]
) -> None:
    """With the real schemas, unknown fields refused: nothing is pruned in silence."""
    for each in rendered(chart, yaml.safe_dump(values), namespace=namespace):
        cluster.admin.apply(path_of(each, namespace, plurals), each, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize(("chart", "values"), _FILES)
def test_values_files_of_upstreams_charts(
    cluster: Cluster, namespace: str, plurals: dict[tuple[str, str], tuple[str, bool]], chart: str, values: dict[str, Any]
) -> None:
    objects = rendered(chart, yaml.safe_dump(values), least=False, namespace=namespace)
    for each in objects:
        cluster.admin.apply(path_of(each, namespace, plurals), each, dryRun="All", fieldValidation="Strict")
    assert str(container(objects)["image"]).startswith("ghcr.io/extproc/extproc:"), "upstream's would not start"
    ports = [port["name"] for port in only(objects, "Service")["spec"]["ports"]]
    assert len(ports) == len(set(ports))
    if "InferencePool" in kinds(objects):
        numbers = [port["number"] for port in only(objects, "InferencePool")["spec"]["targetPorts"]]
        servers = values["router"]["modelServers"] if "router" in values else values["inferencePool"]
        assert numbers == [port["number"] for port in servers.get("targetPorts", [{"number": 8000}])]


class TestLifecycle:
    """`helm` as a user has it."""

    @pytest.mark.parametrize("chart", NAMES)
    def test_install_upgrade_rollback_uninstall(self, cluster: Cluster, namespace: str, chart: str) -> None:
        def run(*arguments: str, text: str | None = None) -> str:
            values = None if text is None else values_of(chart, text)
            return helm(*arguments, "--namespace", namespace, values=values, config=cluster.admin_config)

        def deployment() -> Object:
            (found,) = cluster.admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
            return dict(found)

        def replicas() -> int:
            return int(deployment()["spec"]["replicas"])

        path = "bbr" if chart == "body-based-routing" else "inferenceExtension"
        printed = run("install", "mine", str(CHARTS / chart), text="")
        notes = printed.rpartition("NOTES:")[2]
        assert f"kubectl -n {namespace}" in notes
        assert "deployment/mine" in notes
        assert "curl " in notes
        assert "<no value>" not in notes
        assert "%!" not in notes
        uid = deployment()["metadata"]["uid"]
        run("upgrade", "mine", str(CHARTS / chart), text=f"{path}: {{replicas: 2, podAnnotations: {{a: b}}}}")
        assert replicas() == 2
        assert deployment()["metadata"]["uid"] == uid
        run("rollback", "mine", "1")
        assert replicas() == 1
        run("uninstall", "mine")
        assert not cluster.admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
        owned = {"labelSelector": "app.kubernetes.io/instance=mine"}
        for resource in ("clusterroles", "clusterrolebindings"):
            found = cluster.admin.get(f"/apis/rbac.authorization.k8s.io/v1/{resource}", **owned)["items"]
            assert not [each for each in found if each["metadata"]["name"].startswith(namespace)]

    @pytest.mark.parametrize("chart", NAMES)
    def test_two_releases_in_one_namespace(self, cluster: Cluster, namespace: str, chart: str) -> None:
        path = "bbr" if chart == "body-based-routing" else "inferenceExtension"
        values = values_of(chart, f"{path}: {{monitoring: {{prometheus: {{enabled: true}}, gke: {{enabled: true}}}}}}")
        for release in ("one", "two"):
            helm(
                *("install", release, str(CHARTS / chart), "--namespace", namespace), values=values, config=cluster.admin_config
            )
        helm("uninstall", "one", "--namespace", namespace, config=cluster.admin_config)
        left = cluster.admin.get(f"/api/v1/namespaces/{namespace}/services")["items"]
        assert [each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in left] == ["two"]

    @pytest.mark.parametrize(
        ("chart", "release", "name", "selector", "values"),
        [
            ("body-based-routing", "body-based-router", "body-based-router", "app", "bbr.flags.v=4"),
            (
                "inferencepool",
                "vllm-llama",
                "vllm-llama-epp",
                "inferencepool",
                "inferencePool.modelServers.matchLabels.app=vllm",
            ),
            ("standalone", "models", "models-epp", "inferencepool", "inferencePool.modelServers.matchLabels.app=vllm"),
        ],
    )
    def test_on_top_of_upstreams_release(
        self, cluster: Cluster, namespace: str, tmp_path: Path, chart: str, release: str, name: str, selector: str, values: str
    ) -> None:
        """A Deployment's selector can't be changed: ours is upstream's, so its release becomes ours in place."""
        upstream = _upstreams_chart(tmp_path, chart, name, selector)
        options = ("--namespace", namespace)
        helm("install", release, str(upstream), *options, "--set", values, config=cluster.admin_config)
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        before = cluster.admin.get(path)
        helm("upgrade", release, str(CHARTS / chart), *options, "--reset-then-reuse-values", config=cluster.admin_config)
        after = cluster.admin.get(path)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert "extproc" in after["spec"]["template"]["spec"]["containers"][0]["image"]


def _upstreams_chart(folder: Path, chart: str, name: str, selector: str) -> Path:
    """As much of upstream's chart as there is to be changed: its Deployment."""
    labels = {selector: name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "old", "image": "registry.k8s.io/old:v1"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    (folder / chart / "templates").mkdir(parents=True)
    (folder / chart / "Chart.yaml").write_text(f"{{apiVersion: v2, name: {chart}, version: 0.0.1}}")
    (folder / chart / "templates" / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    return folder / chart


def test_the_variants_have_every_kind() -> None:
    """So that none of the templates is left out above."""
    made = {
        kind
        for chart in NAMES
        for values in VARIANTS[chart].values()
        for kind in kinds(rendered(chart, yaml.safe_dump(values)))
    }
    written = {
        line.removeprefix("kind: ").strip()
        for chart in NAMES
        for path in (CHARTS / chart / "templates").glob("*")
        for line in path.read_text().splitlines()
        if line.startswith("kind: ") and "{{" not in line
    } - {"EndpointPickerConfig"}
    assert written <= made, written - made
