"""What the chart body-based-routing makes of its values; no cluster needed, only helm."""

from __future__ import annotations

import pytest
import yaml

from tests.k8s.helm import container, flags, kinds, only, refusal, rendered


def test_adapters_and_scope() -> None:
    own = rendered("body-based-routing", "bbr: {adapters: [{baseModel: llama, adapters: [a, 'on']}]}")
    role = only(own, "Role")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    names = {each["name"] for each in container(own)["env"]}
    assert "NAMESPACE" in names
    data = only(own, "ConfigMap")["data"]
    assert data["baseModel"] == "llama"
    assert yaml.safe_load(data["adapters"]) == ["a", "on"]
    assert only(own, "ConfigMap")["metadata"]["labels"]["inference.networking.k8s.io/bbr-managed"] == "true"
    everywhere = rendered("body-based-routing", "bbr: {multiNamespace: true}")
    assert "Role" not in kinds(everywhere)
    assert "NAMESPACE" not in {each["name"] for each in container(everywhere)["env"]}
    none = rendered("body-based-routing", "bbr: {adapterConfigMaps: false, monitoring: {prometheus: {auth: {enabled: false}}}}")
    assert not kinds(none) & {"Role", "ClusterRole"}
    assert only(none, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_istio_sends_nothing_of_an_answer() -> None:
    objects = rendered("body-based-routing", "provider: {name: istio}")
    spec = only(objects, "EnvoyFilter")["spec"]
    assert spec["targetRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inference-gateway"}]
    (patch,) = spec["configPatches"]
    assert patch["match"]["context"] == "GATEWAY"
    value = patch["patch"]["value"]
    assert value["name"] == "envoy.filters.http.ext_proc.bbr"
    config = value["typed_config"]
    assert config["processing_mode"] == {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
        "response_trailer_mode": "SKIP",
    }
    assert config["grpc_service"] == {"envoy_grpc": {"cluster_name": "outbound|9004||models.ai.svc.cluster.local"}}
    assert config["message_timeout"] == "5s"
    assert config["failure_mode_allow"] is False


def test_istio_anchor() -> None:
    text = "provider: {name: istio, istio: {envoyFilter: {operation: INSERT_AFTER, anchorSubFilter: authn}}}"
    (patch,) = only(rendered("body-based-routing", text), "EnvoyFilter")["spec"]["configPatches"]
    assert patch["patch"]["operation"] == "INSERT_AFTER"
    assert patch["match"]["listener"]["filterChain"]["filter"]["subFilter"] == {"name": "authn"}


def test_gateway_in_another_namespace() -> None:
    istio = rendered("body-based-routing", "{provider: {name: istio}, inferenceGateway: {namespace: gateways}}")
    assert only(istio, "EnvoyFilter")["metadata"]["namespace"] == "gateways"
    envoy = rendered("body-based-routing", "{provider: {name: envoy-gateway}, inferenceGateway: {namespace: gateways}}")
    assert only(envoy, "EnvoyExtensionPolicy")["metadata"]["namespace"] == "gateways"
    assert only(envoy, "ReferenceGrant")["spec"]["from"][0]["namespace"] == "gateways"


def test_gke() -> None:
    objects = rendered("body-based-routing", "provider: {name: gke}")
    (extension,) = only(objects, "GCPRoutingExtension")["spec"]["extensionChains"][0]["extensions"]
    assert extension["supportedEvents"] == ["RequestHeaders", "RequestBody", "RequestTrailers"]
    assert extension["requestBodySendMode"] == "FullDuplexStreamed"
    assert "responseBodySendMode" not in extension
    assert only(objects, "HealthCheckPolicy")["metadata"]["name"] == "models"


def test_envoy_gateway() -> None:
    objects = rendered("body-based-routing", "provider: {name: envoy-gateway}")
    (ext_proc,) = only(objects, "EnvoyExtensionPolicy")["spec"]["extProc"]
    assert ext_proc["processingMode"] == {"request": {"body": "FullDuplexStreamed"}}
    route = only(objects, "HTTPRoute")["spec"]
    assert route["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}], (
        "the extension is asked on routes only"
    )
    assert "HTTPRoute" not in kinds(
        rendered("body-based-routing", "provider: {name: envoy-gateway, envoyGateway: {firstRoute: false}}")
    )
    assert flags(objects)["secure-serving"] == "false", "it would want to know who signed our certificate"
    known = rendered(
        "body-based-routing",
        "{provider: {name: envoy-gateway, envoyGateway: {tls: {caConfigMapName: ca}}}, bbr: {tls: {secretName: t}}}",
    )
    assert flags(known)["secure-serving"] == "true"
    assert flags(known)["cert-path"] == "/etc/extproc/tls"
    assert only(known, "BackendTLSPolicy")["spec"]["validation"]["hostname"] == "models.ai.svc"


def test_plugins_go_to_the_command_line() -> None:
    text = """
    bbr:
      plugins:
        - {type: body-field-to-header, name: tenant, json: {fieldName: user, headerName: X-Tenant}}
        - {type: base-model-to-header, name: base}
        - base-model-to-header:again
    """
    found = [argument for argument in container(rendered("body-based-routing", text))["args"] if "--plugin" in argument]
    assert found == [
        '--plugin=body-field-to-header:tenant:{"fieldName":"user","headerName":"X-Tenant"}',
        "--plugin=base-model-to-header:base",
        "--plugin=base-model-to-header:again",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("provider: {name: nginx}", "/provider/name"),
        ("provider: {supportedEvents: {requestTrailers: false}}", "request bodies in full duplex need them"),
        ("provider: {supportedEvents: {responseBody: true}}", "need responseHeaders and responseTrailers"),
        ("provider: {name: istio, istio: {envoyFilter: {operation: INSERT_AFTER}}}", "needs the name of a filter"),
        ("provider: {name: istio, istio: {envoyFilter: {failureModeAllow: true}}}", "no copy of a body"),
        ("{provider: {name: gke}, inferenceGateway: {namespace: other}}", "install the release there"),
        ("bbr: {plugins: [{type: semantic-router}]}", "/bbr/plugins/0/type"),
        ("bbr: {port: 9090}", "must differ"),
        ("bbr: {name: Not_A_Name}", "does not match pattern"),
    ],
)
def test_refuses(text: str, said: str) -> None:
    assert said in refusal("body-based-routing", text)
