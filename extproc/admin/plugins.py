"""What /debug/plugins says of each plugin of a pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.scheduling import Blueprint
from extproc.scheduling.blueprint import Planned
from extproc.scheduling.plugins.base import Dumper

MAX_STATE_BYTES: Final = 64 * 2**10
"""Of what one plugin says of its state: a page is read by people."""


class PluginsOfPool(NamedTuple):
    """The plugins as they were planned, and those that have a state to show."""

    blueprint: Blueprint
    dumpers: Mapping[str, Dumper]

    def shapes(self) -> Iterator[dict[str, Any]]:
        """One after the other, in the order in which they were made."""
        used = _uses(self.blueprint)
        for name, planned in self.blueprint.plugins.items():
            shape = _shape(name, planned, used.get(name, []), made=name not in self.blueprint.types)
            dumper = self.dumpers.get(name)
            if dumper is not None:
                shape["state"] = _state(dumper)
            yield shape


def _shape(name: str, planned: Planned, uses: list[str], *, made: bool) -> dict[str, Any]:
    row = planned.row
    needs = zip(row.needs(planned.parameters), planned.sources, strict=True)
    return {
        "name": name,
        "type": row.name,
        "roles": [row.family, *row.roles],
        "used_by": uses,
        "made_on_demand": made,
        "needs": [{"what": need.kind, "from": source, "optional": need.optional} for need, source in needs],
        "asks": list(planned.references),
    }


def _uses(blueprint: Blueprint) -> dict[str, list[str]]:
    """By plugin: the profiles that list it, and the plugins that need or ask it."""
    uses: dict[str, list[str]] = {}
    for profile in blueprint.profiles:
        listed = [*profile.filters, *(name for name, _ in profile.scorers), *([profile.picker] if profile.picker else [])]
        for name in dict.fromkeys(listed):
            uses.setdefault(name, []).append(f"profile {profile.name}")
    for name, planned in blueprint.plugins.items():
        for other in (*planned.references, *planned.sources):
            if other is not None:
                uses.setdefault(other, []).append(name)
    return uses


def _state(dumper: Dumper) -> Any:
    """What the plugin says, if JSON can hold it and it is not too much to read."""
    state = dumper.dump()
    try:
        size = len(orjson.dumps(state, option=orjson.OPT_NON_STR_KEYS))
    except TypeError as error:
        return {"error": f"no JSON: {error}"}
    return state if size <= MAX_STATE_BYTES else {"error": f"{size} bytes, more than {MAX_STATE_BYTES}"}
