"""Objects of KServe to endpoints: one for each InferenceService, and one for each group of LLMInferenceServices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from extproc.interop.endpoint import Endpoint, Entity, Losses
from extproc.interop.kserve_forms import InferenceService, LlmInferenceService, Predictor
from extproc.interop.kserve_out import GROUP, LLM_SERVICES, SERVICES
from extproc.interop.naming import ENDPOINT, ENTITY, MODEL, VERSION, free, own_name
from extproc.interop.objects import Found, Metadata, not_taken, objects_in, read_form
from extproc.interop.written import percentages
from extproc.settings.base import SettingsError, few, shown

KINDS: Final = {"InferenceService": (SERVICES,), "LLMInferenceService": (LLM_SERVICES, f"{GROUP}/v1alpha1")}
STOP: Final = f"{GROUP}/stop"
_RUNS: Final = "how a model server runs is KServe's affair"
_BESIDE: Final = {
    "transformer": "a gateway's entity is asked as it is; an InferenceService with a transformer is one by itself",
    "explainer": "explanations are asked of KServe",
}


class _Revision(NamedTuple):
    """An InferenceService, as one of several objects of one name."""

    found: Found
    service: InferenceService


class _Member(NamedTuple):
    """A LLMInferenceService of a group."""

    found: Found
    service: LlmInferenceService


def of_kserve(documents: Iterable[tuple[object, str]], losses: Losses) -> list[Endpoint]:
    """The endpoints of these documents, each with what stands before its paths.

    Two InferenceServices of one name are two revisions, the first one first. Raises SettingsError with all that is nonsense.
    """
    services: dict[str, list[_Revision]] = {}
    groups: dict[str, list[_Member]] = {}
    problems: list[str] = []
    for each in objects_in(documents, KINDS):
        try:
            if each.kind == "InferenceService":
                service = read_form(InferenceService, each)
                services.setdefault(_key(service.metadata), []).append(_Revision(each, service))
            else:
                member = read_form(LlmInferenceService, each)
                route = member.spec.router.route if member.spec.router is not None else None
                group = (route.group if route is not None else None) or member.metadata.name
                about = member.metadata
                groups.setdefault(f"{about.namespace or ''}/{group}", []).append(_Member(each, member))
        except SettingsError as error:
            problems += error.problems
    endpoints: list[Endpoint] = []
    for revisions in services.values():
        try:
            endpoints.append(_of_revisions(revisions, [each.name for each in endpoints], losses))
        except SettingsError as error:
            problems += error.problems
    for key, members in groups.items():
        try:
            endpoints.append(_of_group(key.partition("/")[2], members, [each.name for each in endpoints], losses))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(few(problems))
    return endpoints


def _key(about: Metadata) -> str:
    return f"{about.namespace or ''}/{about.name}"


def _of_revisions(revisions: Sequence[_Revision], taken: Sequence[str], losses: Losses) -> Endpoint:
    """One InferenceService."""
    first = revisions[0]
    if len(revisions) > 2:
        words = f"got {len(revisions)} InferenceServices of this name; expected one, or the one before and the one after"
        raise SettingsError([f"{revisions[2].found.path}metadata.name: {words}"])
    name = _name(first.service.metadata.annotations.get(ENDPOINT), first.service.metadata.name, first.found, taken, losses)
    if len(revisions) == 2:
        return _of_two(name, first, revisions[1], losses)
    spec, path = first.service.spec, f"{first.found.path}spec."
    not_taken(spec, path, losses, _BESIDE, _RUNS)
    if spec.predictor.canaryTrafficPercent is not None and spec.canary:
        raise SettingsError([f"{path}canary: got it beside predictor.canaryTrafficPercent; expected one of them"])
    if (percent := spec.predictor.canaryTrafficPercent) not in (None, 100):
        words = (
            f"got {percent}, and the other revision is not among these objects; expected it before this one, of the same name"
        )
        raise SettingsError([f"{path}predictor.canaryTrafficPercent: {words}"])
    service = first.service.metadata.name
    entities = [_entity(spec.predictor, f"{path}predictor", "current", service, [], losses)]
    shares = {entities[0].name: 100 - sum(each.trafficPercent for each in spec.canary)}
    if shares[entities[0].name] < 0:
        words = f"got trafficPercents that add up to {100 - shares[entities[0].name]}; expected at most 100"
        raise SettingsError([f"{path}canary: {words}"])
    for index, canary in enumerate(spec.canary):
        where = f"{path}canary[{index}].predictor"
        if canary.predictor.name is None:
            raise SettingsError([f"{where}.name: got nothing; expected the canary's name"])
        entity = _entity(canary.predictor, where, "canary", service, [each.name for each in entities], losses)
        entities.append(entity)
        shares[entity.name] = canary.trafficPercent
    return Endpoint(name, tuple(entities), tuple(shares.items()))


def _of_two(name: str, before: _Revision, after: _Revision, losses: Losses) -> Endpoint:
    """The revision before, and the last one with its share."""
    for revision in (before, after):
        path = f"{revision.found.path}spec."
        not_taken(revision.service.spec, path, losses, _BESIDE, _RUNS)
        if revision.service.spec.canary:
            raise SettingsError([f"{path}canary: got it in one of two revisions; expected predictor.canaryTrafficPercent"])
    old, new = before.service.spec.predictor, after.service.spec.predictor
    service = before.service.metadata.name
    stable = _entity(old, f"{before.found.path}spec.predictor", "current", service, [], losses)
    canary = _entity(new, f"{after.found.path}spec.predictor", "canary", service, [stable.name], losses)
    share = 100 if new.canaryTrafficPercent is None else new.canaryTrafficPercent
    return Endpoint(name, (stable, canary), ((stable.name, 100 - share), (canary.name, share)))


def _of_group(group: str, members: Sequence[_Member], taken: Sequence[str], losses: Losses) -> Endpoint:
    first = members[0]
    name = _name(first.service.metadata.annotations.get(ENDPOINT), group, first.found, taken, losses)
    entities: list[Entity] = []
    weights: dict[str, int] = {}
    for found, service in members:
        about, spec = service.metadata, service.spec
        not_taken(spec, f"{found.path}spec.", losses, {}, _RUNS)
        given = about.annotations.get(ENTITY) or about.name
        entity_name = free(own_name(given), weights)
        entities.append(Entity(entity_name, about.annotations.get(MODEL) or about.name, about.annotations.get(VERSION, "")))
        route = spec.router.route if spec.router is not None else None
        weight = 1 if route is None or route.weight is None else route.weight
        stopped = about.annotations.get(STOP) == "true"
        if stopped and weight:
            losses.remark(f"{found.path}metadata.annotations.{STOP}", f"it is stopped, so its weight {weight} is 0")
        weights[entity_name] = 0 if stopped else weight
    shares = percentages(weights, f"{first.found.path}spec.router.route.weight", losses)
    return Endpoint(name, tuple(entities), tuple(shares.items()))


def _name(annotated: str | None, given: str, found: Found, taken: Sequence[str], losses: Losses) -> str:
    wanted = annotated or given
    name = free(own_name(wanted), taken)
    if name != wanted:
        losses.differ(f"{found.path}metadata.name", f"got {shown(wanted)}, which is {name} here")
    return name


def _entity(predictor: Predictor, where: str, usual: str, service: str, taken: Sequence[str], losses: Losses) -> Entity:
    """`usual`: its name, if it has none."""
    about = predictor.annotations
    for key in predictor.model_extra or {}:
        if key != "model" or MODEL not in about:
            losses.drop(f"{where}.{key}", _RUNS)
    name = free(own_name(about.get(ENTITY) or predictor.name or usual), taken)
    return Entity(name, about.get(MODEL) or service, about.get(VERSION) or ("" if MODEL in about else predictor.name or ""))
