"""Requests held against the types of the providers' own libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter


def checked(shape: TypeAdapter[Any], document: Mapping[str, Any]) -> None:
    """Raises ValidationError when the document is not of the shape. What pydantic would look at later is looked at now."""
    _whole(shape.validate_python(document))


def _whole(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            _whole(each)
    elif isinstance(value, list) or type(value).__name__ == "ValidatorIterator":
        for each in value:
            _whole(each)
