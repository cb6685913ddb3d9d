"""Where picker configs are in a chart's values: as texts under `pluginsCustomConfig`, and as maps under `pluginsConfig`, in
`inferenceExtension` or in `router.epp`; and those of the gateway in our chart standalone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from extproc.app.checking.kinds import CUSTOM, STRUCTURED, places
from extproc.settings.base import shown

_FILE: Final = "pluginsConfigFile"
_DEFAULT: Final = "default-plugins.yaml"
_SHIPPED: Final = frozenset({_DEFAULT, "plugins-v2.yaml", "payload-agnostic.yaml", "predicted-latency-plugins.yaml"})
"""What the charts bring along: upstream's of any version, and ours."""


class Found(NamedTuple):
    """Of one file of values. Configs are by their paths in it."""

    texts: dict[str, str]
    maps: dict[str, dict[Any, Any]]
    problems: list[str]
    warnings: list[str]


def texts_of_map(data: object, path: str) -> dict[str, str]:
    """The texts in a ConfigMap's data, by their paths."""
    if not isinstance(data, Mapping):
        return {}
    return {f"{path}.{name}": text for name, text in data.items() if isinstance(text, str)}


def configs_of_values(values: dict[Any, Any]) -> Found:
    """The configs, and what is wrong with how they are there."""
    found = Found({}, {}, [], [])
    for path, around in places(values):
        _customs(found, path, around)
        _structured(found, path, around)
    for path, config in _of_gateway(values.get("gateway")):
        _map(found, path, config)
    return found


def _customs(found: Found, path: str, around: dict[Any, Any]) -> None:
    custom = around.get(CUSTOM)
    if custom is None:
        return
    if not isinstance(custom, Mapping):
        found.problems.append(f"{path}{CUSTOM}: expected a map of file names to configs as text (got {shown(custom)})")
        return
    for name, text in custom.items():
        if isinstance(text, str):
            found.texts[f"{path}{CUSTOM}.{name}"] = text
        else:
            found.problems.append(
                f"{path}{CUSTOM}.{name}: expected a config as text, such as `{name}: |` and lines below it (got {shown(text)})"
            )
    chosen = around.get(_FILE)
    if isinstance(chosen, str) and chosen not in custom and chosen not in _SHIPPED and not around.get(STRUCTURED):
        names = ", ".join(map(str, custom)) or "nothing"
        found.warnings.append(f"{path}{_FILE}: {shown(chosen)} is not in {CUSTOM} (there is: {names})")


def _structured(found: Found, path: str, around: dict[Any, Any]) -> None:
    config = around.get(STRUCTURED)
    if not config:
        return
    _map(found, f"{path}{STRUCTURED}", config)
    chosen, custom = around.get(_FILE) or _DEFAULT, around.get(CUSTOM)
    if isinstance(chosen, str) and isinstance(custom, Mapping) and chosen in custom:
        found.problems.append(f"{path}{STRUCTURED}: it is the file {shown(chosen)}, which is in {CUSTOM}, too")


def _map(found: Found, path: str, config: object) -> None:
    if isinstance(config, dict):
        found.maps[path] = config
    else:
        found.problems.append(f"{path}: expected a config as a map (got {shown(config)})")


def _of_gateway(gateway: object) -> Iterator[tuple[str, object]]:
    """`gateway.scheduling`, and what pools have of their own."""
    if not isinstance(gateway, dict):
        return
    pools = gateway.get("pools")
    for index, pool in enumerate(pools if isinstance(pools, list) else ()):
        if isinstance(pool, dict) and pool.get("scheduling"):
            yield f"gateway.pools[{index}].scheduling", pool["scheduling"]
    if gateway.get("scheduling"):
        yield "gateway.scheduling", gateway["scheduling"]
