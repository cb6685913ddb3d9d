"""What MLflow's REST API answers: `registered-models/get`, `model-versions/get`, and errors.

Shapes as mlflow 3.17 sends them, and Databricks' Unity Catalog under its own paths (`databricks_uc_registry_messages`). Of
tags only those that begin with `extproc.` are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

READY: Final = ("READY", "MODEL_VERSION_STATUS_READY", "")
"""A version's status when it may be used; MLflow leaves it out in some answers."""
TAG_PREFIX: Final = "extproc."
MOST_ALIASES: Final = 10_000
_LONGEST: Final = 256


class BadAnswer(ValueError):
    """No answer of MLflow's. The message says what was expected, and quotes nothing."""


class ModelVersion(NamedTuple):
    """A version of a registered model."""

    version: str
    status: str = "READY"
    tags: Mapping[str, str] = {}
    """Those of ours."""


def aliases_of(document: object, name: str) -> dict[str, str]:
    """Of a registered model: each alias and the version that it means. Raises BadAnswer."""
    model = _object(document, "registered_model")
    if model.get("name") != name:
        raise BadAnswer("expected the registered model that was asked for")
    found: dict[str, str] = {}
    for each in _objects(model, "aliases"):
        found[_text(each, "alias")] = _number(each)
    return found


def version_of(document: object, version: str) -> ModelVersion:
    """Raises BadAnswer."""
    found = _object(document, "model_version")
    if _number(found) != version:
        raise BadAnswer("expected the version that was asked for")
    tags = {_text(each, "key"): str(each.get("value") or "")[:_LONGEST] for each in _objects(found, "tags")}
    status = found.get("status", "")
    return ModelVersion(
        version,
        status if isinstance(status, str) else "",
        {key: value for key, value in tags.items() if key.startswith(TAG_PREFIX)},
    )


def code_of(document: object) -> str:
    """The `error_code` of an answer that is an error, such as `RESOURCE_DOES_NOT_EXIST`; '' for what is none of MLflow's."""
    code = document.get("error_code") if isinstance(document, dict) else None
    return code if isinstance(code, str) else ""


def _object(document: object, key: str) -> Mapping[str, Any]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise BadAnswer(f"expected an object with {key}")
    return found


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or len(found) > MOST_ALIASES or not all(isinstance(each, dict) for each in found):
        raise BadAnswer(f"expected {key} to be a list of at most {MOST_ALIASES} objects")
    return found


def _text(document: Mapping[str, Any], key: str) -> str:
    found = document.get(key)
    if not isinstance(found, str) or not found:
        raise BadAnswer(f"expected text in {key}")
    return found[:_LONGEST]


def _number(document: Mapping[str, Any]) -> str:
    found = document.get("version")
    text = str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadAnswer("expected a whole number in version")
    return text
