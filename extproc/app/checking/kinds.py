"""What a document is, by its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from extproc.app.checking.objects import KINDS
from extproc.control.exchange import KEY
from extproc.settings.gateway import API_VERSION as GATEWAY_VERSION
from extproc.settings.picker import KIND as PICKER
from extproc.settings.picker import EndpointPickerConfig

GATEWAY: Final = "Gateway"
CONFIG_MAP: Final = "ConfigMap"
LIST: Final = "List"
OBJECT: Final = "object"
OTHER_OBJECT: Final = "other object"
ENDPOINTS: Final = "serving endpoints"
DISCOVERY: Final = "file-discovery"
ADAPTERS: Final = "adapters"
VALUES: Final = "chart values"

EXPECTED: Final = (
    f"a picker config (kind: {PICKER}), a gateway's (kind: Gateway), {', '.join(KINDS)}, serving endpoints, adapters, "
    "endpoints of file-discovery, or a chart's values"
)

_PICKER_KEYS: Final = {info.alias or name for name, info in EndpointPickerConfig.model_fields.items()} - {"apiVersion", "kind"}
_VALUES_KEYS: Final = frozenset({"inferenceExtension", "inferencePool", "router", "inferenceGateway", "endpointPicker", "bbr"})
CUSTOM: Final = "pluginsCustomConfig"
STRUCTURED: Final = "pluginsConfig"


def kind_of(value: Any) -> str | None:
    """One of the words above, None when that can't be told."""
    if isinstance(value, list):
        return ENDPOINTS if value and all(isinstance(each, dict) and "name" in each for each in value) else None
    if not isinstance(value, dict):
        return None
    kind, version = value.get("kind"), str(value.get("apiVersion", ""))
    if kind == PICKER:
        return PICKER
    if version == GATEWAY_VERSION:
        return GATEWAY
    if isinstance(kind, str) and kind in KINDS:
        return OBJECT
    if kind == CONFIG_MAP:
        return CONFIG_MAP
    if isinstance(kind, str):
        return LIST if kind.endswith(LIST) and isinstance(value.get("items"), list) else OTHER_OBJECT
    return _by_keys(value)


def _by_keys(value: dict[Any, Any]) -> str | None:
    keys = set(value)
    if KEY in keys and len(keys) == 1:
        return ENDPOINTS
    if {"pools", "routes"} & keys and not keys & _VALUES_KEYS:
        return GATEWAY
    if keys & _VALUES_KEYS or any(True for _ in places(value)):
        return VALUES
    if keys & _PICKER_KEYS:
        return PICKER
    if {"name", "config"} <= keys:
        return ENDPOINTS
    if keys == {"endpoints"}:
        return DISCOVERY
    if keys and all(
        isinstance(each, list | None) and all(isinstance(name, str) for name in each or ()) for each in value.values()
    ):
        return ADAPTERS
    return None


def is_adapters(value: Any) -> bool:
    """Whether it is of the adapters' file: a map of them, or a ConfigMap."""
    kind = kind_of(value)
    data = value.get("data") if kind == CONFIG_MAP else None
    return kind == ADAPTERS or (isinstance(data, dict) and not {"baseModel", "adapters"}.isdisjoint(data))


def places(value: Any, path: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every map in a chart's values that has picker configs, with the path that its keys begin with."""
    if isinstance(value, dict):
        if CUSTOM in value or STRUCTURED in value:
            yield path, value
        for key, each in value.items():
            if key not in (CUSTOM, STRUCTURED):
                yield from places(each, f"{path}{key}.")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, f"{path.removesuffix('.')}[{index}].")
