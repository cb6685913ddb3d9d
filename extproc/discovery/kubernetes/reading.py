"""Values out of objects that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


class ObjectProblem(Exception):
    """Why an object can't be used: one line with the field, the value and what was expected."""


def mapping(obj: object, *path: str) -> Json:
    """The map at a path, an empty one when it is not there or no map."""
    for key in path:
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj if isinstance(obj, Mapping) else {}


def sequence(obj: object, *path: str) -> list[Any]:
    """The list at a path, an empty one when it is not there or no list."""
    value = mapping(obj, *path[:-1]).get(path[-1])
    return value if isinstance(value, list) else []


def text(obj: object, *path: str) -> str:
    """The string at a path, '' when it is not there or no string."""
    value = mapping(obj, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""


def texts(obj: object, *path: str) -> dict[str, str]:
    """The string values of the map at a path: labels, annotations."""
    return {key: value for key, value in mapping(obj, *path).items() if isinstance(value, str)}


def created_s(obj: object) -> float:
    """Seconds since the epoch of an object's creation; 0 when it does not say."""
    try:
        return datetime.fromisoformat(text(obj, "metadata", "creationTimestamp").replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0
