"""The API's own OpenAPI document, made of the table of calls and of the forms that read their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from extproc import __version__
from extproc.api.pages import ERROR
from extproc.api.table import Call

PATH: Final = "/api/2.0/openapi.json"
_REFERENCE: Final = "#/components/schemas/{model}"
_DRY_RUN: Final = {
    "name": "dry_run",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Change nothing, say the effect.",
}
_REASON: Final = {"name": "reason", "in": "query", "schema": {"type": "string"}, "description": "Why, for the history."}
_VERSION: Final = {
    "name": "config_version",
    "in": "query",
    "schema": {"type": "integer"},
    "description": "409 unless this is the version that is there.",
}

_GUARDS: Final = [
    {"name": "guard", "in": "query", "schema": {"type": "boolean"}, "description": "Refuse what is too much, or too soon."},
    {"name": "bake", "in": "query", "schema": {"type": "string"}, "description": "The same, with this time for too soon."},
    {"name": "force", "in": "query", "schema": {"type": "boolean"}, "description": "Past guards."},
]


def document(calls: Sequence[Call]) -> dict[str, Any]:
    """OpenAPI 3.1 of these calls."""
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Serving endpoints", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(call: Call, schemas: dict[str, Any]) -> dict[str, Any]:
    changes = call.method != "GET"
    names = re.findall(r"{(\w+)}", call.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    if call.query is not None:
        text = {"type": "string"}
        parameters += [{"name": name, "in": "query", "schema": text, "description": it} for name, it in call.query.items()]
    elif changes:
        parameters += [_DRY_RUN, _REASON, _VERSION, *(_GUARDS if call.path.endswith("/config") else ())]
    answer = {"schema": {} if call.gives is None else _schema(TypeAdapter(call.gives), "serialization", schemas)}
    operation: dict[str, Any] = {
        "summary": call.what,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": answer}},
            "default": {
                "description": "Not done.",
                "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
            },
        },
    }
    if call.takes is not None:
        body = _schema(TypeAdapter(call.takes), "validation", schemas)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if call.role is None:
        operation["security"] = []
    else:
        operation["x-extproc-role"] = call.role.name.lower()
    return operation


def _schema(adapter: TypeAdapter[Any], mode: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema, whose parts go to the others. Forms and answers have names in common: those of answers get another one."""
    template = _REFERENCE if mode == "validation" else "#/components/schemas/{model}Answer"
    schema = adapter.json_schema(mode=mode, ref_template=template)
    suffix = "" if mode == "validation" else "Answer"
    for name, part in schema.pop("$defs", {}).items():
        schemas[f"{name}{suffix}"] = part
    return schema
