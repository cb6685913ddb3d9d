"""Where a version is served, and by which name: the gateway's file says it, else a tag on the version, else the catalog.

The file goes first, as who writes it answers for the gateway; a tag may be written by everybody who may write in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from extproc.errors import listed
from extproc.registry.answers import ModelVersion

POOL_TAG: Final = "extproc.pool"
MODEL_TAG: Final = "extproc.model"


class Unplaced(ValueError):
    """No pool serves the version. The message goes on after `got …; `."""


class Placing:
    """What this gateway says of versions."""

    def __init__(
        self,
        lines: Collection[tuple[str, str]] = (),
        pools: Mapping[str, str | None] = {},
        resolve: Callable[[str, str], object] = lambda name, version: None,
    ) -> None:
        """`lines`: name and version of those that the file lists below `registry.models`, '' for every version; `pools`: each
        with the only model of its routes, None where there is none or several; `resolve` raises ValueError for a name and a
        version that the catalog has no pool for. The lines are in the catalog, too.
        """
        self._lines = frozenset(lines)
        self._pools = pools
        self._resolve = resolve

    def block(self, name: str, version: ModelVersion) -> dict[str, str]:
        """What is to be kept with an entity: the version; with pool and model where a tag says them. Raises Unplaced."""
        pool = version.tags.get(POOL_TAG, "")
        listed_here = (name, version.version) in self._lines or (name, "") in self._lines
        if pool and not listed_here:
            if pool not in self._pools:
                there = listed(sorted(self._pools))
                raise Unplaced(f"the tag {POOL_TAG} of version {version.version} is {pool!r}; expected a pool: {there}")
            model = version.tags.get(MODEL_TAG) or self._pools[pool] or name
            return {"version": version.version, "pool": pool, "model": model}
        try:
            self._resolve(name, version.version)
        except ValueError as error:
            raise Unplaced(f"no pool serves version {version.version}: {error}") from None
        return {"version": version.version}
