"""An endpoint as objects of KServe 0.20: a stable predictor with canaries, two revisions, or a group of LLMInferenceServices.

They say the split alone. Where a model is stored and in which format is KServe's affair; `Placing` has it, for all entities by
one template. What the entity is here stands in annotations.
"""

from __future__ import annotations

from typing import Any, Final

from extproc.interop.endpoint import Endpoint, Entity, Losses, Object
from extproc.interop.naming import (
    ENDPOINT,
    ENTITY,
    MODEL,
    VERSION,
    Placing,
    Prefixed,
    label_of,
    metadata,
)
from extproc.settings.base import SettingsError

GROUP: Final = "serving.kserve.io"
SERVICES: Final = f"{GROUP}/v1beta1"
LLM_SERVICES: Final = f"{GROUP}/v1alpha2"
MODE: Final = f"{GROUP}/deploymentMode"
STANDARD: Final = "Standard"
CONTAINER: Final = "kserve-container"
"""What KServe calls the container of a model; the schema of 0.20 wants the word in canaries, where its webhook has no other."""
KNATIVE: Final = "Serverless"
"""Later called Knative; all versions know this word."""


def inference_services(endpoint: Endpoint, placing: Placing, losses: Losses) -> list[Object]:
    """One InferenceService for deployment mode Standard: the entity with the most is the predictor, others are canaries."""
    _only_split(endpoint, losses)
    stable, *others = _by_share(endpoint)
    shares = dict(endpoint.shares)
    spec: Object = {"predictor": _predictor(stable, placing)}
    if others:
        spec["canary"] = [{"trafficPercent": shares[each.name], "predictor": _canary(each, placing)} for each in others]
    return [_service(endpoint, placing, STANDARD, spec)]


def knative_services(endpoint: Endpoint, placing: Placing, losses: Losses) -> list[Object]:
    """One InferenceService for deployment mode Serverless, twice: as it is first, and with the canary's revision.

    Raises SettingsError when more than two entities have a share.
    """
    _only_split(endpoint, losses)
    shares = dict(endpoint.shares)
    stable, *others = _by_share(endpoint)
    sharing = [each for each in others if shares[each.name]]
    if len(sharing) > 1:
        names = ", ".join(each.name for each in (stable, *sharing))
        raise SettingsError([f"config.traffic_config.routes: got {names} with shares; expected two at most, one a revision"])
    canary = next(iter(sharing or others), None)
    for each in others:
        if each is not canary:
            losses.drop(f"config.served_entities.{each.name}", "there are two revisions, and it has no share")
    found = [_service(endpoint, placing, KNATIVE, {"predictor": _predictor(stable, placing)})]
    if canary is not None:
        predictor = {**_predictor(canary, placing), "canaryTrafficPercent": shares[canary.name]}
        found.append(_service(endpoint, placing, KNATIVE, {"predictor": predictor}))
        losses.remark("config.traffic_config", "the second object is the next revision: apply it when the first is ready")
    return found


def llm_services(endpoint: Endpoint, placing: Placing, losses: Losses) -> list[Object]:
    """A group of LLMInferenceServices, one for each entity, with weights."""
    _only_split(endpoint, losses)
    group, found = label_of(endpoint.name), []
    shares = dict(endpoint.shares)
    for entity in endpoint.entities:
        name = label_of(f"{endpoint.name}-{entity.name}")
        annotations = _annotations(entity) | {ENTITY: entity.name}
        if group != endpoint.name:
            annotations[ENDPOINT] = endpoint.name
        spec = {
            "model": {"uri": _storage(entity, placing), "name": endpoint.name},
            "router": {"gateway": {}, "route": {"http": {}, "group": group, "weight": shares[entity.name]}, "scheduler": {}},
        }
        found.append(_object(LLM_SERVICES, "LLMInferenceService", metadata(name, placing, annotations), spec))
    return found


def _object(version: str, kind: str, about: dict[str, object], spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": about, "spec": spec}


def _service(endpoint: Endpoint, placing: Placing, mode: str, spec: Object) -> Object:
    name = label_of(endpoint.name)
    annotations = {MODE: mode, **({} if name == endpoint.name else {ENDPOINT: endpoint.name})}
    return _object(SERVICES, "InferenceService", metadata(name, placing, annotations), spec)


def _only_split(endpoint: Endpoint, losses: Losses) -> None:
    for rule in endpoint.rules:
        losses.drop(rule.where, f"{rule.name}: KServe splits all requests of a service")
    for index, shadow in enumerate(endpoint.shadows):
        losses.drop(f"shadows[{index}]", f"{shadow.entity}: KServe has no mirrors")


def _by_share(endpoint: Endpoint) -> list[Entity]:
    """The one with the most first; the others as they stand."""
    shares = dict(endpoint.shares)
    most = max(endpoint.entities, key=lambda each: shares[each.name])
    return [most, *(each for each in endpoint.entities if each is not most)]


def _annotations(entity: Entity) -> dict[str, str]:
    return {MODEL: entity.model, **({VERSION: entity.version} if entity.version else {})}


def _predictor(entity: Entity, placing: Placing) -> dict[str, Any]:
    name = label_of(entity.name, letter_first=True)
    annotations = _annotations(entity)
    if name != entity.name:
        annotations[ENTITY] = entity.name
    return {
        "name": name,
        "annotations": annotations,
        "model": {"modelFormat": {"name": placing.model_format}, "storageUri": _storage(entity, placing)},
    }


def _canary(entity: Entity, placing: Placing) -> dict[str, Any]:
    found = _predictor(entity, placing)
    return {**found, "model": {"name": CONTAINER, **found["model"]}}


def _storage(entity: Entity, placing: Placing) -> str:
    return Prefixed(placing.storage).of(entity.name, entity.model, entity.version)
