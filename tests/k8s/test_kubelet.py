"""The stand-in for the kubelet, with a Deployment that is made by hand."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.parts import call
from tests.k8s.api import Object
from tests.k8s.cluster import Cluster
from tests.k8s.kubelet import Pod, running
from tests.k8s.objects import PICKER_RULES, configmaps_path, service_account

BOOTSTRAP: Object = {
    "admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9901}}},
    "static_resources": {},
}
PORTS = ("--grpc-port=9002", "--grpc-health-port=9003", "--metrics-port=9090")
PICKER = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
CONTAINER: Object = {
    "name": "epp",
    "image": "example.com/extproc:1",
    "args": ["epp", *PORTS, "--endpoints=$(ENDPOINT)", "--config-file=/config/$(FILE)", "--metrics-endpoint-auth=false"],
    "env": [
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ENDPOINT", "value": "$(HOST):8000"},
        {"name": "FILE", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "which"}}},
    ],
    "ports": [{"name": "grpc", "containerPort": 9002}, {"name": "metrics", "containerPort": 9090}],
    "readinessProbe": {"grpc": {"port": 9003, "service": "readiness"}},
    "livenessProbe": {"httpGet": {"port": "metrics", "path": "/healthz"}},
    "startupProbe": {"tcpSocket": {"port": "grpc"}, "failureThreshold": 30, "periodSeconds": 1},
    "volumeMounts": [{"name": "config", "mountPath": "/config"}],
}
ENVOY: Object = {
    "name": "envoy",
    "image": "docker.io/envoyproxy/envoy:v1",
    "args": ["-c", "/etc/envoy/envoy.yaml"],
    "readinessProbe": {"httpGet": {"port": 9901, "path": "/ready"}},
    "volumeMounts": [{"name": "bootstrap", "mountPath": "/etc/envoy"}],
}


def _deploy(cluster: Cluster, namespace: str, **spec: object) -> None:
    files = {"config": {"which": "picker.yaml", "picker.yaml": PICKER}, "bootstrap": {"envoy.yaml": json.dumps(BOOTSTRAP)}}
    for name, data in files.items():
        cluster.admin.create(configmaps_path(namespace), {"metadata": {"name": name}, "data": data})
    service_account(cluster.admin, namespace, "epp", PICKER_RULES)
    labels = {"app": "epp"}
    pod = {
        "serviceAccountName": "epp",
        "containers": [CONTAINER, ENVOY],
        "volumes": [
            {"name": "config", "configMap": {"name": "config"}},
            {"name": "bootstrap", "configMap": {"name": "bootstrap"}},
        ],
        **spec,
    }
    deployment = {
        "metadata": {"name": "epp"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    cluster.admin.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)


def test_what_a_deployment_says_runs(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    _deploy(cluster, namespace)
    with running(cluster, namespace, "epp", tmp_path) as (pod,):
        page = f"http://{pod.address}:{pod.port(9090)}"
        (pool,) = call(page, "/debug/endpoints").json["pools"]
        assert [endpoint["endpoint"] for endpoint in pool["endpoints"]] == [f"{pod.address}:8000"]
        seen = cluster.admin.get(f"/api/v1/namespaces/{namespace}/pods/{pod.name}")
        assert seen["status"]["conditions"][0]["status"] == "True"
        assert pod.probe("envoy", "readinessProbe") == ""
        account = pod.directory / "serviceaccount"
        assert sorted(path.name for path in account.iterdir()) == ["ca.crt", "namespace", "token"]
    assert not cluster.admin.exists(f"/api/v1/namespaces/{namespace}/pods/{pod.name}")


def test_a_pod_without_a_token_gets_none(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    _deploy(cluster, namespace, automountServiceAccountToken=False)
    deployment = cluster.admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/epp")
    pod = Pod(cluster, deployment, tmp_path)
    assert list((pod.directory / "serviceaccount").iterdir()) == []
