"""Objectives and rewrites of the pools of one namespace, watched together and given to each pool's tables.

Two groups have these kinds. Where both CRDs are installed the old one's objects are ignored, as upstream does; where neither
is, there are no objectives and rewrites, and everything else works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from extproc.discovery.kubernetes.pools import INSTALL
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.discovery.kubernetes.reading import Json, ObjectProblem
from extproc.discovery.kubernetes.traffic import (
    NEW_GROUP,
    OLD_GROUP,
    VERSION,
    PoolRef,
    pool_ref,
    read_objective,
    read_rewrite,
)
from extproc.kubernetes.api import Api
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.reflector import Change, Key, Reflector, Resource
from extproc.observability.logs import logger
from extproc.traffic import PoolTables
from extproc.traffic.objectives import ObjectiveTable
from extproc.traffic.rewrites import ModelRewrite, RewriteTable

_log = logger(__name__)

OBJECTIVE: Final = "InferenceObjective"
REWRITE: Final = "InferenceModelRewrite"
_PLURALS: Final = {OBJECTIVE: "inferenceobjectives", REWRITE: "inferencemodelrewrites"}
_WITHOUT: Final = {
    OBJECTIVE: "priorities by InferenceObjective of {group} are off; those of {other} count",
    REWRITE: "rewrites by InferenceModelRewrite of {group} are off; those of {other} count",
}
"""What people lose who can't have a kind of one group. Everything else works."""


class _Objects:
    """The objects of one kind in one group: what each says, and of which pool."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.reflector: Reflector | None = None
        self.good: dict[Key, tuple[PoolRef, Any]] = {}
        self.problems: dict[Key, str] = {}

    @property
    def there(self) -> bool:
        """The CRD is installed, as far as is known."""
        return self.reflector is not None and self.reflector.synced and self.reflector.refusal != 404


class TrafficObjects:
    """Keeps the tables of the pools equal to the objects. `run` returns never."""

    def __init__(
        self,
        pools: dict[PoolRef, PoolTables],
        contact: ApiContact,
        errors: ObjectErrors,
        *,
        namespace: str,
        reflector: Callable[..., Reflector] = Reflector,
    ) -> None:
        self._pools = pools
        self._contact = contact
        self._errors = errors
        self._namespace = namespace
        self._reflector = reflector
        self._kinds = {kind: (_Objects(NEW_GROUP), _Objects(OLD_GROUP)) for kind in _PLURALS}
        self._elsewhere: set[tuple[str, Key]] = set()
        """Objects of pools that are not ours, said once."""
        self._chains: dict[PoolRef, tuple[tuple[str, str, str], ...]] = {}

    def __repr__(self) -> str:
        return f"<TrafficObjects of {', '.join(ref.name for ref in self._pools)} in {self._namespace}>"

    async def run(self, api: Api) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind, both in self._kinds.items():
                for objects, other in zip(both, reversed(both), strict=True):
                    resource = Resource(_PLURALS[kind], objects.group, VERSION, self._namespace)
                    watched = self._contact.watched(
                        resource,
                        without=_WITHOUT[kind].format(group=objects.group, other=other.group),
                        install=INSTALL if objects.group == OLD_GROUP else "",
                    )
                    objects.reflector = self._reflector(api, resource, partial(self._changed, kind, objects), watched)
                    group.create_task(objects.reflector.run(), name=f"watch {resource.name}")

    def _changed(self, kind: str, objects: _Objects, change: Change) -> None:
        for key in change.gone:
            objects.good.pop(key, None)
            objects.problems.pop(key, None)
            self._errors.forget(kind, key)
            self._elsewhere.discard((kind, key))
        for key, obj in change.put.items():
            try:
                objects.good[key] = (pool_ref(obj), _READERS[kind](obj))
                objects.problems.pop(key, None)
            except ObjectProblem as problem:
                objects.problems[key] = str(problem)
        self._tell(kind)

    def _tell(self, kind: str) -> None:
        new, old = self._kinds[kind]
        chosen, other = (new, old) if new.there else (old, new)
        for key in other.problems.keys() - chosen.problems.keys():
            self._errors.forget(kind, key)
        for key in {**chosen.good, **chosen.problems}:
            self._errors.check(kind, key, chosen.problems.get(key))
        found: dict[PoolRef, dict[Key, Any]] = {ref: {} for ref in self._pools}
        for key, (ref, value) in chosen.good.items():
            if ref in found:
                found[ref][key] = value
                self._elsewhere.discard((kind, key))
            elif (kind, key) not in self._elsewhere:
                self._elsewhere.add((kind, key))
                _log.info("object is for another pool, ignored", kind=kind, namespace=key[0], name=key[1], pool=ref.name)
        for ref, values in found.items():
            if kind == OBJECTIVE:
                priorities = {name: priority for (_, name), priority in values.items()}
                self._pools[ref].objectives.replace(ObjectiveTable(priorities))
            else:
                self._rewrites(ref, values)

    def _rewrites(self, ref: PoolRef, values: dict[Key, ModelRewrite]) -> None:
        table = RewriteTable(values.values())
        self._pools[ref].rewrites.replace(table)
        chains = table.followed_by()
        if chains != self._chains.get(ref, ()):
            self._chains[ref] = chains
            for rewrite, model, target in chains:
                _log.warning(
                    "a rewrite leads to a model that is rewritten too; it is done once", object=rewrite, model=model, to=target
                )


_READERS: Final[dict[str, Callable[[Json], Any]]] = {OBJECTIVE: read_objective, REWRITE: read_rewrite}
