"""KServe's objects as people write them, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extproc.interop import (
    Losses,
    Placing,
    document_of,
    inference_services,
    knative_services,
    llm_services,
    of_kserve,
    read_endpoint,
)
from extproc.interop.naming import label_of
from extproc.settings.base import SettingsError
from extproc.settings.document import load_documents

SKLEARN = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: sklearn-iris, annotations: {serving.kserve.io/deploymentMode: Standard}}
spec:
  predictor:
    minReplicas: 2
    model: {modelFormat: {name: sklearn}, storageUri: "gs://kfserving-examples/models/sklearn/1.0/model"}
"""
CANARY = """
  canary:
  - trafficPercent: 10
    predictor: {name: v2, model: {modelFormat: {name: sklearn}, storageUri: "gs://b/2"}}
  - trafficPercent: 0
    predictor: {name: v3, model: {modelFormat: {name: sklearn}, storageUri: "gs://b/3"}}
"""


def taken(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    losses = Losses()
    given = [(each.value, "") for each in load_documents(text)]
    return [document_of(each) for each in of_kserve(given, losses)], losses.left_out


def split(document: dict[str, Any]) -> dict[str, int]:
    return {each["served_entity_name"]: each["traffic_percentage"] for each in document["config"]["traffic_config"]["routes"]}


def test_a_stable_predictor_with_canaries() -> None:
    (document,), left_out = taken(SKLEARN + CANARY)
    assert document["name"] == "sklearn-iris"
    assert split(document) == {"current": 90, "v2": 10, "v3": 0}
    assert document["config"]["served_entities"] == [
        {"name": "current", "entity_name": "sklearn-iris"},
        {"name": "v2", "entity_name": "sklearn-iris", "entity_version": "v2"},
        {"name": "v3", "entity_name": "sklearn-iris", "entity_version": "v3"},
    ]
    assert [line.partition(": ")[0] for line in left_out] == [
        "spec.predictor.minReplicas",
        "spec.predictor.model",
        "spec.canary[0].predictor.model",
        "spec.canary[1].predictor.model",
    ]


def test_two_revisions_of_one_service() -> None:
    after = SKLEARN.replace("minReplicas: 2", "canaryTrafficPercent: 20")
    (document,), _ = taken(f"{SKLEARN}---{after}")
    assert split(document) == {"current": 80, "canary": 20}
    (promoted,), _ = taken(f"{SKLEARN}---{SKLEARN}")
    assert split(promoted) == {"current": 0, "canary": 100}


MEMBER = """
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: %s, annotations: {serving.kserve.io/stop: "%s"}}
spec:
  model: {uri: "hf://meta-llama/Llama-3", name: llama}
  replicas: 2
  router: {route: {group: llama, weight: %d}}
---"""


def test_a_group_of_llm_services() -> None:
    (document,), left_out = taken(MEMBER % ("llama-old", "false", 3) + MEMBER % ("llama-new", "", 1))
    assert document["name"] == "llama"
    assert split(document) == {"llama-old": 75, "llama-new": 25}
    assert left_out == ["spec.replicas: left out: how a model server runs is KServe's affair"] * 2
    (stopped,), _ = taken(MEMBER % ("llama-old", "false", 3) + MEMBER % ("llama-new", "true", 1))
    assert split(stopped) == {"llama-old": 100, "llama-new": 0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            SKLEARN + CANARY.replace("10", "101"),
            "spec.canary[0].trafficPercent: got 101; expected a whole number from 0",
        ),
        (
            SKLEARN + CANARY.replace("10", "60").replace("trafficPercent: 0", "trafficPercent: 41"),
            "spec.canary: got trafficPercents that add up to 101; expected at most 100",
        ),
        (SKLEARN + CANARY.replace("name: v2, ", ""), "spec.canary[0].predictor.name: got nothing; expected the canary's name"),
        (
            SKLEARN.replace("minReplicas: 2", "canaryTrafficPercent: 20"),
            "spec.predictor.canaryTrafficPercent: got 20, and the other revision is not among these objects",
        ),
        (
            SKLEARN.replace("minReplicas: 2", "canaryTrafficPercent: 20") + CANARY,
            "spec.canary: got it beside predictor.canaryTrafficPercent; expected one of them",
        ),
        (f"{SKLEARN}---{SKLEARN}---{SKLEARN}", "metadata.name: got 3 InferenceServices of this name; expected one, or"),
        (SKLEARN.replace("spec:", "spec: []\nother:"), "spec: got a list of 0; expected an object"),
        (MEMBER % ("a", "", -1), "spec.router.route.weight: got -1; expected a whole number from 0 to 1000000"),
        (MEMBER % ("a", "", 0), "spec.router.route.weight: got weights that add up to 0; expected at least one above 0"),
        (SKLEARN.replace("v1beta1", "v1"), "apiVersion: got 'serving.kserve.io/v1'; expected serving.kserve.io/v1beta1"),
    ],
)
def test_nonsense_is_refused_with_path_value_and_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        taken(text)
    assert any(line.startswith(problem) for line in refused.value.problems), refused.value.problems


def document(**shares: int) -> dict[str, Any]:
    return {
        "name": "churn",
        "config": {
            "served_entities": [
                {"name": name, "entity_name": "catalog.churn", "entity_version": str(index)}
                for index, name in enumerate(shares, 1)
            ],
            "traffic_config": {
                "routes": [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
            },
        },
        "sticky": "none",
    }


PLACING = Placing(namespace="ml", storage="s3://models/{name}/{version}", model_format="mlflow")


def test_who_has_the_most_is_the_predictor() -> None:
    losses = Losses()
    (service,) = inference_services(read_endpoint(document(old=20, new=70, Dark=10), losses), PLACING, losses)
    assert losses.left_out == []
    assert service == yaml.safe_load(f"""
        apiVersion: serving.kserve.io/v1beta1
        kind: InferenceService
        metadata: {{name: churn, namespace: ml, annotations: {{serving.kserve.io/deploymentMode: Standard}}}}
        spec:
          predictor:
            name: new
            annotations: {{extproc.dev/entity-name: catalog.churn, extproc.dev/entity-version: "2"}}
            model: {{modelFormat: {{name: mlflow}}, storageUri: s3://models/catalog.churn/2}}
          canary:
          - trafficPercent: 20
            predictor:
              name: old
              annotations: {{extproc.dev/entity-name: catalog.churn, extproc.dev/entity-version: "1"}}
              model: {{name: kserve-container, modelFormat: {{name: mlflow}}, storageUri: s3://models/catalog.churn/1}}
          - trafficPercent: 10
            predictor:
              name: {label_of("Dark")}
              annotations:
                {{extproc.dev/entity-name: catalog.churn, extproc.dev/entity-version: "3", extproc.dev/served-entity: Dark}}
              model: {{name: kserve-container, modelFormat: {{name: mlflow}}, storageUri: s3://models/catalog.churn/3}}
        """)


def test_two_revisions_have_a_share_at_most() -> None:
    losses = Losses()
    first, second = knative_services(read_endpoint(document(old=90, dark=0, new=10), losses), PLACING, losses)
    assert "canaryTrafficPercent" not in first["spec"]["predictor"]
    assert second["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert losses.left_out == ["config.served_entities.dark: left out: there are two revisions, and it has no share"]
    with pytest.raises(SettingsError, match="got a, b, c with shares; expected two at most"):
        knative_services(read_endpoint(document(a=50, b=30, c=20), Losses()), PLACING, Losses())


def test_members_of_a_group_share_a_models_name() -> None:
    losses = Losses()
    services = llm_services(read_endpoint(document(old=90, new=10), losses), PLACING, losses)
    assert [each["metadata"]["name"] for each in services] == ["churn-old", "churn-new"]
    assert {each["spec"]["model"]["name"] for each in services} == {"churn"}
    assert [each["spec"]["router"]["route"]["weight"] for each in services] == [90, 10]
