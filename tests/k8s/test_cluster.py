"""The stand itself: what the other tests take for granted."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.k8s.api import Api, Refused
from tests.k8s.cluster import BIN, Cluster
from tests.k8s.objects import PICKER_RULES, Pods, pool, pools_path, service_account
from tests.k8s.picks import Members


def test_a_token_of_a_service_account_has_its_rights_and_no_others(cluster: Cluster, namespace: str) -> None:
    service_account(cluster.admin, namespace, "picker", PICKER_RULES)
    token = cluster.service_account_token(namespace, "picker")
    with closing(Api(cluster.url, str(cluster.ca_file), token)) as api:
        assert api.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
        with pytest.raises(Refused, match=r'cannot list resource "secrets" in API group "" in the namespace'):
            api.get(f"/api/v1/namespaces/{namespace}/secrets")


def test_the_schemas_of_the_crds_are_at_work(cluster: Cluster, namespace: str) -> None:
    cluster.admin.create(pools_path(namespace), pool("good", [8000]))
    with pytest.raises(Refused, match="should have at least 1 items"):
        cluster.admin.create(pools_path(namespace), pool("bad", []))
    resources = cluster.resources()
    assert resources["inference.networking.k8s.io/v1", "InferencePool"] == ("inferencepools", True)
    assert ("gateway.envoyproxy.io/v1alpha1", "EnvoyExtensionPolicy") in resources
    assert ("gateway.networking.k8s.io/v1", "HTTPRoute") in resources
    assert ("monitoring.coreos.com/v1", "ServiceMonitor") in resources


def test_a_pod_lives_as_the_test_says(cluster: Cluster, namespace: str) -> None:
    pods = Pods(cluster.admin, namespace, Members(), 8000)
    pods.add("a", "127.0.0.2")
    pods.terminate("a")
    pod = cluster.admin.get(f"/api/v1/namespaces/{namespace}/pods/a")
    assert pod["metadata"]["deletionTimestamp"]
    assert pod["status"]["conditions"][0]["status"] == "True"
    pods.remove("a")
    assert not cluster.admin.exists(f"/api/v1/namespaces/{namespace}/pods/a")


def test_objects_outlive_the_server_and_its_history_does_not(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    before = cluster.admin.get(path)["metadata"]["resourceVersion"]
    Pods(cluster.admin, namespace, Members(), 8000).add("a", "127.0.0.2")
    cluster.compact()
    cluster.restart_server()
    assert [pod["metadata"]["name"] for pod in cluster.admin.get(path)["items"]] == ["a"]
    event = cluster.admin.get(path, watch="1", resourceVersion=before, timeoutSeconds="1")
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_kubectl_and_helm_speak_to_it(cluster: Cluster, tmp_path: Path) -> None:
    flags = ["--kubeconfig", str(cluster.admin_config), "--output", "json"]
    version = json.loads(subprocess.check_output([str(BIN / "kubectl"), "version", *flags]))
    assert version["serverVersion"]["gitVersion"] == "v1.35.3"
    assert json.loads(subprocess.check_output([str(BIN / "helm"), "list", *flags])) == []
