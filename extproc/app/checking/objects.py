"""Objects of Kubernetes: pools, objectives, rewrites."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from extproc.discovery.kubernetes.pools import VERSIONS, read_pool
from extproc.discovery.kubernetes.reading import Json, ObjectProblem, mapping
from extproc.discovery.kubernetes.traffic import NEW_GROUP, OLD_GROUP, VERSION, pool_ref, read_objective, read_rewrite
from extproc.settings.base import shown

_NEXT: Final = re.compile(r"; (?=spec\.)")


class _Kind(NamedTuple):
    versions: tuple[str, ...]
    readers: tuple[Callable[[Json], Any], ...]


_TRAFFIC: Final = (f"{NEW_GROUP}/{VERSION}", f"{OLD_GROUP}/{VERSION}")
KINDS: Final[Mapping[str, _Kind]] = {
    "InferencePool": _Kind(tuple(f"{group}/{version}" for group, version in VERSIONS.items()), (read_pool,)),
    "InferenceObjective": _Kind(_TRAFFIC, (pool_ref, read_objective)),
    "InferenceModelRewrite": _Kind(_TRAFFIC, (pool_ref, read_rewrite)),
}


def check_object(obj: dict[str, Any], prefix: str) -> list[str]:
    """What is wrong with an object of one of the `KINDS`."""
    kind = KINDS[obj["kind"]]
    problems = []
    version, name = obj.get("apiVersion"), mapping(obj, "metadata").get("name")
    if version not in kind.versions:
        problems.append(f"{prefix}apiVersion: expected {' or '.join(kind.versions)} (got {shown(version)})")
    if not isinstance(name, str) or not name:
        problems.append(f"{prefix}metadata.name: expected a name (got {shown(name)})")
    for read in kind.readers:
        try:
            read(obj)
        except ObjectProblem as error:
            problems += [prefix + problem for problem in _NEXT.split(str(error))]
    return problems
