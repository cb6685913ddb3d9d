"""What `extproc render` prints, as a real API server takes it with the schemas of KServe, Istio and the Gateway API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings

from extproc.cli.objects import objects_text
from extproc.interop import (
    Endpoint,
    Losses,
    Placing,
    http_routes,
    inference_services,
    knative_services,
    llm_services,
    read_endpoint,
    virtual_service,
)
from extproc.interop.naming import Backend
from extproc.settings.base import SettingsError
from tests.e2e.parts import until
from tests.interop.documents import Document, endpoints
from tests.k8s.api import Object, Refused, path_of
from tests.k8s.cluster import PEER_CRDS, Cluster

Renderer = Callable[[Endpoint, Placing, Losses], list[Object]]
RENDERERS: Final[dict[str, Renderer]] = {
    "istio": virtual_service,
    "gateway-api": http_routes,
    "kserve": inference_services,
    "kserve-serverless": knative_services,
    "kserve-llm": llm_services,
}
PLACINGS: Final = (
    Placing(),
    Placing(
        host="chat.example.com",
        gateways=("istio-system/front", "own"),
        storage="s3://models/{name}/{version}",
        model_format="mlflow",
    ),
)
_PEERS: Final = (
    "virtualservices.networking.istio.io",
    "inferenceservices.serving.kserve.io",
    "llminferenceservices.serving.kserve.io",
)
"""The others are in the cluster already."""
_RESOURCES: Final = {
    ("networking.istio.io/v1", "VirtualService"): ("virtualservices", True),
    ("networking.istio.io/v1", "DestinationRule"): ("destinationrules", True),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): ("httproutes", True),
    ("serving.kserve.io/v1beta1", "InferenceService"): ("inferenceservices", True),
    ("serving.kserve.io/v1alpha2", "LLMInferenceService"): ("llminferenceservices", True),
}


class Applying:
    """Server-side apply of what is printed, without effect: all that the API server would say of it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._admin = cluster.admin
        self._namespace = namespace

    def apply(self, made: Object) -> Object:
        """Raises Refused, with the schema's words."""
        text = objects_text([made]).encode()
        return self._admin.apply(path_of(made, self._namespace, _RESOURCES), text, dryRun="All", fieldValidation="Strict")


def peers() -> list[Object]:
    """The projects' own schemas. Descriptions are half of them, and say nothing to an API server."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # these files are two megabytes each
    texts = [file.read_text() for file in sorted(PEER_CRDS.glob("*.yaml"))]
    found = [crd for text in texts for crd in yaml.load_all(text, loader) if crd and crd["metadata"]["name"] in _PEERS]
    return [without_descriptions(crd) for crd in found]


def without_descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_descriptions(each)
            for key, each in value.items()
            if not (key == "description" and isinstance(each, str))
        }
    return [without_descriptions(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def applying(session_cluster: Cluster) -> Applying:
    crds = peers()
    if len(crds) < len(_PEERS):
        pytest.fail("not installed: peers; run scripts/install-kubernetes", pytrace=False)
    session_cluster.install_crds(crds)
    made = Applying(session_cluster, session_cluster.namespace())
    for kind in RENDERERS:
        until(lambda kind=kind: taken(made, kind), within_s=60, what=f"the API server serves what is rendered for {kind}")  # type: ignore[misc]
    return made


def taken(applying: Applying, kind: str) -> bool:
    """A kind is served a moment after its schema is established."""
    try:
        applying.apply(broken(lambda spec: None, kind))
    except Refused as error:
        if error.status == 404:
            return False
        raise
    return True


@pytest.mark.parametrize("kind", RENDERERS)
@settings(max_examples=60, deadline=None)
@given(document=endpoints())
def test_every_rendered_object_is_accepted(applying: Applying, kind: str, document: Document) -> None:
    names = [each["name"] for each in document["config"]["served_entities"]]
    backends = {name: Backend(f"svc-{index}", 8000 + index) for index, name in enumerate(names) if index % 2}
    for placing in (*PLACINGS, Placing(backends=backends)):
        losses = Losses()
        endpoint = read_endpoint(document, losses)
        try:
            objects = RENDERERS[kind](endpoint, placing, losses)
        except SettingsError:
            assert kind == "kserve-serverless"
            continue
        for made in objects:
            kept = applying.apply(made)
            assert kept["spec"].keys() >= made["spec"].keys()
            assert kept["metadata"].get("annotations", {}) == made["metadata"].get("annotations", {})


MATCHES: Final = [{"headers": {f"x-{number}": {"one_of": [str(number), "b"]}}} for number in range(16)]


def test_the_largest_that_an_endpoint_may_be(applying: Applying) -> None:
    """15 entities, 100 rules with 16 matches each, and four shadows."""
    names = [f"entity-{number}" for number in range(15)]
    shares = [100, *(0 for _ in names[1:])]
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in zip(names, shares, strict=True)]
    entities = [{"name": name, "entity_name": "m" * 256, "entity_version": "v" * 256} for name in names]
    document = {
        "name": "n" * 128,
        "config": {"served_entities": entities, "traffic_config": {"routes": routes}},
        "rules": [{"name": f"r{number}", "match": MATCHES, "entity": names[1]} for number in range(100)],
        "shadows": [{"entity": name, "percentage": 0.01} for name in names[1:5]],
        "sticky": "none",
    }
    for kind, render in RENDERERS.items():
        losses = Losses()
        for made in render(read_endpoint(document, losses), Placing(), losses):
            applying.apply(made)
        assert (kind == "istio") == (not losses.left_out), "but for Istio something has to be left out, and is said"


def broken(change: Callable[[Any], None], kind: str) -> Object:
    document = {
        "name": "chat",
        "config": {
            "served_entities": [{"name": "a", "entity_name": "a"}, {"name": "b", "entity_name": "b"}],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": "a", "traffic_percentage": 90},
                    {"served_entity_name": "b", "traffic_percentage": 10},
                ]
            },
        },
    }
    losses = Losses()
    made = RENDERERS[kind](read_endpoint(document, losses), Placing(), losses)[0]
    change(made["spec"])
    return made


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("istio", lambda spec: spec["http"][0]["route"][0].update(weight="ninety"), "weight"),
        ("istio", lambda spec: spec["http"][0].update(mirorPercentage=1), "mirorPercentage"),
        ("gateway-api", lambda spec: spec["rules"][0]["backendRefs"][0].update(weight=-1), "weight"),
        ("gateway-api", lambda spec: spec["rules"][0]["backendRefs"][0].update(kind="Service", group=""), "port"),
        ("kserve", lambda spec: spec["canary"][0].update(trafficPercent=101), "trafficPercent"),
        ("kserve", lambda spec: spec["canary"][0]["predictor"].update(name="UPPER"), "name"),
        ("kserve-llm", lambda spec: spec["router"]["route"].update(weight=-1), "weight"),
    ],
)
def test_a_wrong_one_is_refused(applying: Applying, kind: str, change: Callable[[Any], None], said: str) -> None:
    """Or nothing above says anything."""
    with pytest.raises(Refused, match=said):
        applying.apply(broken(change, kind))
