"""What the chart standalone makes of its values; no cluster needed, only helm."""

from __future__ import annotations

import pytest
import yaml

from extproc.settings.gateway import load_gateway_config
from tests.k8s.helm import container, flags, kinds, only, refusal, rendered


def test_many_models() -> None:
    text = """
    gateway:
      pools:
        - {name: llama, models: [llama, llama-chat], matchLabels: {app: llama}, targetPorts: [8000, 8001]}
        - {name: phi, models: [phi], inferencePool: phi, namespace: research}
        - {name: far, models: [far], static: ["10.0.0.1:8000"]}
      adapters: {llama: [llama-chat]}
    """
    objects = rendered("standalone", text)
    config = yaml.safe_load(only(objects, "ConfigMap")["data"]["gateway.yaml"])
    assert [pool["name"] for pool in config["pools"]] == ["llama", "phi", "far"]
    assert config["pools"][0]["endpoints"] == {"kubernetes": {"selector": {"app": "llama"}, "targetPorts": [8000, 8001]}}
    assert config["routes"][0] == {"models": ["llama", "llama-chat"], "pool": "llama"}
    roles = {each["metadata"]["namespace"]: each["rules"] for each in objects if each["kind"] == "Role"}
    assert set(roles) == {"ai", "research"}
    assert not any("inferencepools" in rule["resources"] for rule in roles["ai"])
    assert any("inferencepools" in rule["resources"] for rule in roles["research"])
    assert not kinds(objects) & {"InferencePool", "HTTPRoute", "Gateway"}, "no Gateway API needed"


def test_the_gateway_reads_its_config() -> None:
    objects = rendered("standalone", "{gateway: {pools: [{name: a, models: [m], static: ['127.0.0.1:1']}]}}")
    load_gateway_config(only(objects, "ConfigMap")["data"]["gateway.yaml"])


def test_upstreams_keys() -> None:
    picker = rendered(
        "standalone",
        "inferenceExtension: {endpointsServer: {createInferencePool: false, "
        "endpointSelector: 'app=vllm', targetPorts: '8000,8001'}}",
        least=False,
    )
    assert container(picker)["args"][0] == "epp"
    assert (flags(picker)["endpoint-selector"], flags(picker)["endpoint-target-ports"]) == ("app=vllm", "8000,8001")
    assert "InferencePool" not in kinds(picker)
    pool = rendered("standalone", "inferencePool: {modelServers: {matchLabels: {app: vllm}}}", least=False)
    assert flags(pool)["pool-name"] == "models"
    assert only(pool, "InferencePool")


def test_envoy_starts_first_and_stops_last() -> None:
    pod = only(rendered("standalone"), "Deployment")["spec"]["template"]["spec"]
    (envoy,) = pod["initContainers"]
    assert envoy["restartPolicy"] == "Always"
    assert "/healthcheck/fail" in pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]


def test_without_envoy() -> None:
    objects = rendered("standalone", "inferenceExtension: {sidecar: {enabled: false}}")
    assert "initContainers" not in only(objects, "Deployment")["spec"]["template"]["spec"]
    assert "envoy.yaml" not in only(objects, "ConfigMap")["data"]
    assert [port["name"] for port in only(objects, "Service")["spec"]["ports"]] == [
        "grpc-ext-proc",
        "grpc-health",
        "http-metrics",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {pools: [{name: a, models: [m]}]}", "expected one of matchLabels, inferencePool and static, got 0"),
        ("gateway: {pools: [{name: a, models: []}]}", "minItems"),
        ("gateway: {pools: [{name: a, matchLabels: {a: b}}]}", "missing property 'models'"),
        ("gateway: {scheduling: {plugins: [{parameters: {maxNumOfEndpoints: 2}}]}}", "takes one address"),
        ("inferenceExtension: {listenPort: 9901}", "must differ"),
        ("inferenceExtension: {sidecar: {proxyType: agentgateway}}", "value must be 'envoy'"),
    ],
)
def test_refuses(text: str, said: str) -> None:
    assert said in refusal("standalone", text)


def test_says_what_it_needs() -> None:
    assert "which pods? Set gateway.pools" in refusal("standalone", "", least=False)
