"""What the chart inferencepool makes of its values; no cluster needed, only helm."""

from __future__ import annotations

import pytest

from tests.k8s.helm import flags, only, refusal, rendered


def test_pool_and_picker() -> None:
    objects = rendered("inferencepool", "inferencePool: {targetPorts: [{number: 8000}, {number: 8001}]}")
    pool = only(objects, "InferencePool")
    assert pool["metadata"]["name"] == "models"
    assert pool["spec"]["endpointPickerRef"]["name"] == only(objects, "Service")["metadata"]["name"] == "models-epp"
    assert pool["spec"]["targetPorts"] == [{"number": 8000}, {"number": 8001}]
    given = flags(objects)
    assert (given["pool-name"], given["pool-namespace"]) == ("models", "ai")
    assert "ha-enable-leader-election" not in given
    assert not any("leases" in rule["resources"] for rule in only(objects, "Role")["rules"])


def test_old_keys() -> None:
    text = "{inferencePool: {apiVersion: inference.networking.x-k8s.io/v1alpha2, targetPortNumber: 9000}}"
    objects = rendered("inferencepool", text)
    spec = only(objects, "InferencePool")["spec"]
    assert spec["targetPortNumber"] == 9000
    assert spec["selector"] == {"app": "vllm"}
    assert flags(objects)["pool-group"] == "inference.networking.x-k8s.io"
    route = only(
        rendered("inferencepool", "{experimentalHttpRoute: {enabled: true}, inferenceGateway: {name: gw}}"), "HTTPRoute"
    )
    assert route["spec"]["parentRefs"][0]["name"] == "gw"
    policy = "{connectionPool: {tcp: {maxConnections: 1}}}"
    rule = f"{{provider: {{name: istio}}, istio: {{destinationRule: {{host: h, trafficPolicy: {policy}}}}}}}"
    old = only(rendered("inferencepool", rule), "DestinationRule")["spec"]
    assert old["host"] == "h"
    assert old["trafficPolicy"]["connectionPool"] == {"tcp": {"maxConnections": 1}}
    (port,) = old["trafficPolicy"]["portLevelSettings"]
    assert port["tls"] == {"mode": "SIMPLE", "insecureSkipVerify": True}


def test_leader_election() -> None:
    leader = rendered("inferencepool", "inferenceExtension: {replicas: 3}")
    assert flags(leader)["ha-enable-leader-election"] == "true"
    rules = {resource: rule["verbs"] for rule in only(leader, "Role")["rules"] for resource in rule["resources"]}
    assert rules["leases"] == ["get", "create", "update"]
    assert rules["events"] == ["create"]
    strategy = only(leader, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": "100%", "maxSurge": "100%"}, "followers are never ready"
    for text in (
        "{replicas: 3, highAvailability: active-active}",
        "{replicas: 3, flags: {ha-enable-leader-election: false}}",
        "{autoscaling: {enabled: true}}",
    ):
        objects = rendered("inferencepool", f"inferenceExtension: {text}")
        assert flags(objects).get("ha-enable-leader-election", "false") == "false"
        assert only(objects, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert not any("leases" in rule["resources"] for rule in only(objects, "Role")["rules"])


def test_route_by_model() -> None:
    text = "experimentalHttpRoute: {enabled: true, baseModel: llama, modelNames: [a, b], inferenceGatewayNamespace: gw}"
    route = only(rendered("inferencepool", text), "HTTPRoute")["spec"]
    headers = [(match["headers"][0]["name"], match["headers"][0]["value"]) for match in route["rules"][0]["matches"]]
    assert headers == [("X-Gateway-Model-Name", "a"), ("X-Gateway-Model-Name", "b"), ("X-Gateway-Base-Model-Name", "llama")]
    assert route["rules"][0]["timeouts"] == {"request": "300s"}
    assert route["parentRefs"][0]["namespace"] == "gw"
    gke = only(rendered("inferencepool", "{provider: {name: gke}, experimentalHttpRoute: {enabled: true}}"), "HTTPRoute")
    assert "timeouts" not in gke["spec"]["rules"][0]


def test_gke() -> None:
    objects = rendered("inferencepool", "{provider: {name: gke}, inferenceExtension: {grpcHealthPort: 9013}}")
    checks = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "HealthCheckPolicy"}
    assert checks["models"]["default"]["config"]["httpHealthCheck"] == {"requestPath": "/health", "port": 8000}
    assert checks["models-epp"]["default"]["config"]["grpcHealthCheck"]["port"] == 9013
    assert only(objects, "GCPBackendPolicy")["spec"]["default"]["timeoutSec"] == 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inferenceExtension: {failureMode: FailClosed}", "value must be one of 'FailOpen', 'FailClose'"),
        ("inferencePool: {targetPorts: []}", "minItems"),
        ("inferencePool: {targetPorts: [{number: 1}, {number: 1}]}", "every number once"),
        (
            "inferenceExtension: {pluginsConfigFile: mine.yaml}",
            "mine.yaml is neither default-plugins.yaml nor payload-agnostic.yaml nor a key",
        ),
        ("inferenceExtension: {replicas: 2, podDisruptionBudget: {enabled: true}}", "it could never be evicted"),
        (
            "inferenceExtension: {highAvailability: leader-election, autoscaling: {enabled: true}}",
            "followers carry no load",
        ),
        ("provider: {name: istio, istio: {destinationrule: {}}}", "additional properties 'destinationrule' not allowed"),
    ],
)
def test_refuses(text: str, said: str) -> None:
    assert said in refusal("inferencepool", text)


def test_labels_are_required() -> None:
    assert "inferencePool.modelServers.matchLabels is required" in refusal("inferencepool", "", least=False)
