"""InferenceObjective and InferenceModelRewrite, of llm-d.ai and of inference.networking.x-k8s.io."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from extproc.discovery.kubernetes.pools import GROUP
from extproc.discovery.kubernetes.reading import Json, ObjectProblem, created_s, mapping, sequence, text
from extproc.media import has_controls
from extproc.settings.base import shown
from extproc.traffic.rewrites import MAX_MODEL_CHARS, MAX_WEIGHT, ModelRewrite, RewriteRule, RewriteTarget

NEW_GROUP: Final = "llm-d.ai"
OLD_GROUP: Final = "inference.networking.x-k8s.io"
VERSION: Final = "v1alpha2"

_INT32: Final = 2**31


class PoolRef(NamedTuple):
    """The pool that an object is for; it is in the object's namespace."""

    group: str
    name: str


def pool_ref(obj: Json) -> PoolRef:
    """Raises ObjectProblem for one that is no pool."""
    ref = mapping(obj, "spec", "poolRef")
    kind = ref.get("kind", "InferencePool")
    if kind != "InferencePool":
        raise ObjectProblem(f"spec.poolRef.kind: expected InferencePool (got {shown(kind)})")
    name, group = ref.get("name"), ref.get("group", GROUP)
    if not isinstance(name, str) or not name:
        raise ObjectProblem(f"spec.poolRef.name: expected a pool's name (got {shown(name)})")
    if not isinstance(group, str):
        raise ObjectProblem(f"spec.poolRef.group: expected a group's name (got {shown(group)})")
    return PoolRef(group or GROUP, name)


def read_objective(obj: Json) -> int:
    """Its priority, 0 when it has none. Raises ObjectProblem."""
    priority = mapping(obj, "spec").get("priority")
    if priority is None:
        return 0
    if isinstance(priority, bool) or not isinstance(priority, int) or not -_INT32 <= priority < _INT32:
        raise ObjectProblem(f"spec.priority: expected a whole number of 32 bits (got {shown(priority)})")
    return priority


def read_rewrite(obj: Json) -> ModelRewrite:
    """Raises ObjectProblem with everything that is wrong."""
    problems: list[str] = []
    rules = []
    for index, rule in enumerate(sequence(obj, "spec", "rules")):
        where = f"spec.rules[{index}]"
        models = [_match(each, f"{where}.matches[{at}]", problems) for at, each in enumerate(sequence(rule, "matches"))]
        targets = [_target(each, f"{where}.targets[{at}]", problems) for at, each in enumerate(sequence(rule, "targets"))]
        if not targets:
            problems.append(f"{where}.targets: expected at least one")
        rules.append(RewriteRule(tuple(models), tuple(targets)))
    if not rules:
        problems.append("spec.rules: expected at least one")
    if problems:
        raise ObjectProblem("; ".join(problems))
    meta = mapping(obj, "metadata")
    return ModelRewrite(f"{text(meta, 'namespace')}/{text(meta, 'name')}", created_s(obj), tuple(rules))


def _match(match: Any, where: str, problems: list[str]) -> str:
    model = mapping(match, "model")
    kind, value = model.get("type", "Exact"), model.get("value")
    if kind != "Exact":
        problems.append(f"{where}.model.type: expected Exact (got {shown(kind)})")
    return _name(value, f"{where}.model.value", problems)


def _target(target: Any, where: str, problems: list[str]) -> RewriteTarget:
    weight = mapping(target).get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= MAX_WEIGHT):
        problems.append(f"{where}.weight: expected 1 to {MAX_WEIGHT} (got {shown(weight)})")
        weight = None
    return RewriteTarget(_name(mapping(target).get("modelRewrite"), f"{where}.modelRewrite", problems), weight)


def _name(value: object, where: str, problems: list[str]) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_MODEL_CHARS or has_controls(value):
        problems.append(f"{where}: expected a model's name (got {shown(value)})")
        return ""
    return value
