"""Where picker configs are in a chart's values: upstream's charts and ours keep them as texts under `pluginsCustomConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from extproc.app.checking.kinds import CUSTOM, customs
from extproc.settings.base import shown

_FILE: Final = "pluginsConfigFile"
_SHIPPED: Final = frozenset(
    {"default-plugins.yaml", "plugins-v2.yaml", "payload-agnostic.yaml", "predicted-latency-plugins.yaml"}
)
"""What the charts bring along: upstream's of any version, and ours."""


def texts_of_map(data: object, path: str) -> dict[str, str]:
    """The texts in a ConfigMap's data, by their paths."""
    if not isinstance(data, Mapping):
        return {}
    return {f"{path}.{name}": text for name, text in data.items() if isinstance(text, str)}


def texts_of_values(values: dict[Any, Any]) -> tuple[dict[str, str], list[str], list[str]]:
    """The configs by their paths, problems, and warnings."""
    texts: dict[str, str] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for path, custom, around in customs(values):
        if custom is None:
            continue
        if not isinstance(custom, Mapping):
            problems.append(f"{path}: expected a map of file names to configs as text (got {shown(custom)})")
            continue
        for name, text in custom.items():
            if isinstance(text, str):
                texts[f"{path}.{name}"] = text
            else:
                problems.append(
                    f"{path}.{name}: expected a config as text, such as `{name}: |` and lines below it (got {shown(text)})"
                )
        chosen = around.get(_FILE)
        if isinstance(chosen, str) and chosen not in custom and chosen not in _SHIPPED:
            names = ", ".join(map(str, custom)) or "nothing"
            warnings.append(f"{path.removesuffix(CUSTOM)}{_FILE}: {shown(chosen)} is not in {CUSTOM} (there is: {names})")
    return texts, problems, warnings
