"""What a served entity's name stands for: a model, the pool that serves it, and where its other bodies go.

A route of the gateway may list entities (`catalog.schema.model-A` in version 1 is the model `model-A`). A name that no route
lists is a model's own name, and its version is a label.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from extproc.errors import UnknownModel, listed
from extproc.names import INVOCATIONS
from extproc.traffic.routes import RouteTable


class UnknownEntity(ValueError):
    """Nothing serves the entity; the message says what there is."""


class Served(NamedTuple):
    """What serves an entity."""

    model: str
    """The name that the model server knows."""
    pool: str
    path: str = INVOCATIONS
    """Of the model server, for bodies that are in no shape of OpenAI's."""
    beside: tuple[str, ...] = ()
    """Pools of other regions that serve it as well."""


VERSION_MARK: Final = "{version}"
"""In the name of an entry's model: the version that is asked for."""


class CatalogEntry(NamedTuple):
    """One entity that a route lists."""

    name: str
    version: str
    """'' when the route lists no version: then every version is this one."""
    served: Served


def _no_base(_: str) -> str:
    return ""


class Catalog:
    """Entities by their names. Immutable: a change is a new catalog."""

    def __init__(
        self,
        entries: Iterable[CatalogEntry] = (),
        routes: RouteTable | None = None,
        base_of: Callable[[str], str] = _no_base,
        regions: tuple[str, ...] = (),
        pools: Collection[str] = (),
    ) -> None:
        """`routes` serve the names that no entry has; `base_of` is the adapters' (`RouteTable.pool_of`); `regions` are the
        gateway's, () when it has none; `pools` are those that there are.

        Raise ValueError when two entries have the same name and version.
        """
        self._versions: dict[str, dict[str, Served]] = {}
        for entry in entries:
            versions = self._versions.setdefault(entry.name, {})
            if entry.version in versions:
                what = f"version {entry.version!r}" if entry.version else "no version"
                raise ValueError(f"the entity {entry.name!r} with {what} is listed twice")
            versions[entry.version] = entry.served
        self._routes = RouteTable([]) if routes is None else routes
        self._base_of = base_of
        self.regions = regions
        self._pools = frozenset(pools)

    def resolve(self, name: str, version: str = "") -> Served:
        """What serves the entity. Raises UnknownEntity, which lists what there is instead."""
        versions = self._versions.get(name)
        if versions is not None:
            served = versions.get(version) or versions.get("")
            if served is None:
                there = ", ".join(sorted(versions))
                asked = f"version {version!r}" if version else "no version"
                raise UnknownEntity(f"entity {name!r} has versions {there}, and {asked} was asked for")
            if VERSION_MARK not in served.model:
                return served
            if not version:
                raise UnknownEntity(f"entity {name!r} is served as {served.model!r}, and no version was asked for")
            return served._replace(model=served.model.replace(VERSION_MARK, version))
        try:
            pool = self._routes.pool_of(name, self._base_of)
            return Served(name, pool, beside=self._routes.beside(name, self._base_of))
        except UnknownModel:
            raise UnknownEntity(f"no pool serves {name!r}; there are: {self.listed()}") from None

    def placed(self, served: Served) -> Served:
        """The same, when there is such a pool. Raises UnknownEntity."""
        if served.pool not in self._pools:
            raise UnknownEntity(f"no pool is called {served.pool!r}; there are: {listed(sorted(self._pools))}")
        return served

    def listed(self) -> str:
        """The entities and models for people to read, shortened when there are many."""
        return listed([*self._versions, *(model for model in self._routes.models if model not in self._versions)])

    def __repr__(self) -> str:
        return f"<Catalog {len(self._versions)} entities, {len(self._routes.models)} models>"
