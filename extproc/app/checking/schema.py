"""The JSON schema of a picker's config, for editors: parameters follow from the type of their plugin.

Draft 2020-12. It says what the reader takes, without what it also takes for others' sake: a number as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from extproc.app.pool_parts import ELSEWHERE_TYPES
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.missing import MISSING
from extproc.scheduling.registry import PLUGIN_TYPES
from extproc.settings.picker import API_VERSIONS, DEPRECATED_API_VERSIONS, KIND, EndpointPickerConfig

_REF: Final = "#/$defs/{model}"


class _Quiet(GenerateJsonSchema):
    """Defaults that JSON can't hold are left out without a word."""

    def emit_warning(self, kind: Any, detail: str) -> None:
        pass


def picker_schema(types: Mapping[str, PluginType] = {}) -> dict[str, Any]:
    """The schema. `types` are plugins beside those that come with us."""
    schema = EndpointPickerConfig.model_json_schema(by_alias=True, schema_generator=_Quiet, ref_template=_REF)
    definitions = schema.pop("$defs")
    rows = {**PLUGIN_TYPES, **ELSEWHERE_TYPES, **types}
    for row in rows.values():
        parameters = row.parameters.model_json_schema(by_alias=True, schema_generator=_Quiet, ref_template=_REF)
        definitions.update(parameters.pop("$defs", {}))
        definitions[row.name] = parameters
    definitions["PluginSpec"] = _plugin(definitions["PluginSpec"], rows)
    properties = schema["properties"]
    properties["apiVersion"] = {"enum": [*API_VERSIONS, *DEPRECATED_API_VERSIONS], "default": API_VERSIONS[0]}
    properties["kind"] = {"const": KIND}
    body = _plain({**schema, "$defs": dict(sorted(definitions.items()))})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": KIND, **body}


def _plain(value: Any) -> Any:
    """Without titles that pydantic makes of names, and bounds that mean nothing of text. What may be left out may be empty."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {
        key: _plain(each)
        for key, each in value.items()
        if key not in ("", "gt", "ge", "lt", "le") and not (key == "title" and isinstance(each, str))
    }
    if made.get("type") == "object" and "properties" in made:
        required = made.get("required", ())
        made["properties"] = {key: each if key in required else _or_nothing(each) for key, each in made["properties"].items()}
    return made


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """It, or null: a key with nothing behind it is as if it were not there."""
    kind = schema.get("type")
    if "enum" in schema or "const" in schema or "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if kind is None:
        return schema
    kinds = kind if isinstance(kind, list) else [kind]
    return schema if "null" in kinds else {**schema, "type": [*kinds, "null"]}


def _plugin(spec: dict[str, Any], rows: Mapping[str, PluginType]) -> dict[str, Any]:
    """One entry of `plugins`: a union over the types."""
    choices: list[dict[str, Any]] = [{"const": name, "description": f"{row.family}: {row.what}"} for name, row in rows.items()]
    choices += [
        {"const": old, "description": f"older name of {row.name}", "deprecated": True}
        for row in rows.values()
        for old in row.older
    ]
    choices += [{"const": name, "description": f"not available: {why}"} for name, why in MISSING.items() if name not in rows]
    return {
        **spec,
        "properties": {
            "type": {"oneOf": choices},
            "name": spec["properties"]["name"],
            "parameters": {"type": ["object", "null"], "description": "Those of the type."},
        },
        "allOf": [
            {
                "if": {"properties": {"type": {"enum": [row.name, *row.older]}}, "required": ["type"]},
                "then": {"properties": {"parameters": {"anyOf": [{"$ref": _REF.format(model=row.name)}, {"type": "null"}]}}},
            }
            for row in rows.values()
        ],
    }
