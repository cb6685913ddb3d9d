"""How Istio's proxies are told to connect: TLS on the ExtProc port, and on that alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.k8s.gateways import tls_to
from tests.k8s.helm import kinds, only, rendered

UNVERIFIED = {"mode": "SIMPLE", "insecureSkipVerify": True}
EVERY = pytest.mark.parametrize(
    ("chart", "service", "grpc"), [("body-based-routing", "models", 9004), ("inferencepool", "models-epp", 9002)]
)


def policy(chart: str, given: dict[str, Any], **flags: object) -> dict[str, Any]:
    component = "bbr" if chart == "body-based-routing" else "inferenceExtension"
    istio = {"name": "istio", "istio": {"destinationRule": {"trafficPolicy": given}}}
    objects = rendered(chart, yaml.safe_dump({"provider": istio, component: {"flags": flags}}))
    found: dict[str, Any] = only(objects, "DestinationRule")["spec"]["trafficPolicy"]
    return found


@EVERY
def test_tls_on_the_ext_proc_port_only(chart: str, service: str, grpc: int) -> None:
    """Health and metrics are plaintext: with TLS on all ports of the Service a client in the mesh reaches neither."""
    objects = rendered(chart, "provider: {name: istio}")
    assert only(objects, "DestinationRule")["spec"]["trafficPolicy"] == {
        "portLevelSettings": [{"port": {"number": grpc}, "tls": UNVERIFIED}]
    }
    host = f"{service}.ai.svc.cluster.local"
    ports = {each["name"]: tls_to(objects, host, each["port"]) for each in only(objects, "Service")["spec"]["ports"]}
    assert ports == {"grpc-ext-proc": True, "grpc-health": False, "http-metrics": False}


@EVERY
def test_ones_own_tls_is_for_that_port_too(chart: str, service: str, grpc: int) -> None:
    own = {"mode": "MUTUAL", "credentialName": "c"}
    assert policy(chart, {"tls": own}) == {"portLevelSettings": [{"port": {"number": grpc}, "tls": own}]}


@EVERY
def test_a_port_inherits_nothing(chart: str, service: str, grpc: int) -> None:
    """So what the values say for all ports is said for this one again."""
    pool = {"http": {"http2MaxRequests": 10000}}
    assert policy(chart, {"connectionPool": pool}) == {
        "connectionPool": pool,
        "portLevelSettings": [{"port": {"number": grpc}, "tls": UNVERIFIED, "connectionPool": pool}],
    }


@EVERY
def test_ones_own_settings_of_ports(chart: str, service: str, grpc: int) -> None:
    metrics = {"port": {"number": 9090}, "tls": {"mode": "SIMPLE"}}
    detection = {"port": {"number": grpc}, "outlierDetection": {"consecutive5xxErrors": 3}}
    assert policy(chart, {"portLevelSettings": [metrics, detection]}) == {
        "portLevelSettings": [{**detection, "tls": UNVERIFIED}, metrics]
    }
    off = {"port": {"number": grpc}, "tls": {"mode": "DISABLE"}}
    assert policy(chart, {"portLevelSettings": [off]}) == {"portLevelSettings": [off]}


@EVERY
def test_plaintext_is_what_the_mesh_makes_of_it(chart: str, service: str, grpc: int) -> None:
    """Nothing said is mutual TLS where a sidecar is, and plaintext elsewhere; DISABLE would be plaintext in a mesh."""
    component = "bbr" if chart == "body-based-routing" else "inferenceExtension"
    values = f"{{provider: {{name: istio}}, {component}: {{flags: {{secure-serving: false}}}}}}"
    assert "DestinationRule" not in kinds(rendered(chart, values))
    pool = {"http": {"http2MaxRequests": 10000}}
    assert policy(chart, {"connectionPool": pool}, **{"secure-serving": False}) == {
        "connectionPool": pool,
        "portLevelSettings": [{"port": {"number": grpc}, "connectionPool": pool}],
    }
