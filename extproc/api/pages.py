"""What is read of an endpoint besides itself: its metrics, its OpenAPI document, its logs; and what clients look for first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import Metric

from extproc import __version__
from extproc.api.answers import Answer, Json, Sliced
from extproc.api.ask import Ask
from extproc.api.endpoints import states
from extproc.api.errors import missing
from extproc.control.records import EndpointRecord
from extproc.observability.exposition import choose, exposition
from extproc.settings.base import shown

_LABEL: Final = "serving_endpoint"


async def metrics(ask: Ask) -> Answer:
    """The endpoint's series, as Prometheus reads them."""
    ask.inside.desk.get(ask.name)
    encode, content_type = choose(ask.request.headers.get("accept", ""))
    return Sliced(ask.inside.slices, exposition(_of_endpoint(ask, ask.name), encode, frozenset()), content_type)


def _of_endpoint(ask: Ask, name: str) -> Iterator[Metric | None]:
    for metric in ask.inside.metrics():
        samples = [] if metric is None else [each for each in metric.samples if each.labels.get(_LABEL) == name]
        if metric is None or not samples:
            yield None
            continue
        part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        part.samples = samples
        yield part


async def logs(ask: Ask) -> Answer:
    """How the entity is. What a model server logs, it keeps itself."""
    record, name = _entity(ask)
    deployment, message = states(ask).of(record).entities[name]
    words = f"{name}: {deployment}{f', {message}' if message else ''}\n"
    return Json({"logs": words + "The model server's own log is where it runs; the gateway has no copy of it.\n"})


async def build_logs(ask: Ask) -> Answer:
    """Nothing is built here."""
    _entity(ask)
    return Json({"logs": "Nothing is built: the entity is served by a pool of model servers, or by a provider.\n"})


def _entity(ask: Ask) -> tuple[EndpointRecord, str]:
    record, name = ask.inside.desk.get(ask.name), ask.word("entity")
    if all(entity["name"] != name for entity in record.entities):
        there = ", ".join(str(entity["name"]) for entity in record.entities)
        raise missing(f"The endpoint {record.name!r} has no served entity {shown(name)}. There are: {there}")
    return record, name


async def discovery(_: Ask) -> Answer:
    """Each client asks for it first, and takes what it does not say from its own configuration."""
    return Json({})


async def openapi(ask: Ask) -> Answer:
    """How to query the endpoint, as OpenAPI has it."""
    record = ask.inside.desk.get(ask.name)
    shapes = [_BODIES[record.task]] if record.task in _BODIES else [*_BODIES.values(), _OPAQUE]
    call = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": shapes}}}},
        "responses": {
            "200": {
                "description": "The model server's answer.",
                "headers": {"served-model-name": {"schema": {"type": "string"}, "description": "Which entity answered."}},
                "content": {"application/json": {"schema": {}}, "text/event-stream": {"schema": {"type": "string"}}},
            },
            "default": {"description": "An error.", "content": {"application/json": {"schema": ERROR}}},
        },
    }
    paths: dict[str, Any] = {"/invocations": {"post": {"summary": f"Query {record.name}", **call}}}
    for entity in record.entities:
        name = entity["name"]
        paths[f"/served-models/{name}/invocations"] = {"post": {"summary": f"Query {name} alone, past the split", **call}}
    return Json(
        {
            "openapi": "3.1.0",
            "info": {"title": record.name, "version": str(record.config_version), "x-extproc-version": __version__},
            "servers": [{"url": f"/serving-endpoints/{record.name}"}],
            "paths": paths,
        }
    )


ERROR: Final = {
    "type": "object",
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error_code", "message"],
}
_MESSAGE: Final = {"type": "object", "properties": {"role": {"type": "string"}, "content": {}}, "required": ["role"]}
_COMMON: Final = {"stream": {"type": "boolean"}, "max_tokens": {"type": "integer"}, "temperature": {"type": "number"}}


def _body(field: str, schema: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {field: schema, **more}, "required": [field]}


_BODIES: Final[dict[str, dict[str, Any]]] = {
    "llm/v1/chat": _body("messages", {"type": "array", "items": _MESSAGE}, _COMMON),
    "llm/v1/completions": _body("prompt", {}, _COMMON),
    "llm/v1/embeddings": _body("input", {}, {}),
}
_OPAQUE: Final[dict[str, Any]] = {
    "type": "object",
    "description": "instances, inputs, dataframe_split or dataframe_records: passed to the model server as they are.",
}
