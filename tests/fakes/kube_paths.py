"""What a request to the API server names and asks for: paths, verbs and selectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]


class Place(NamedTuple):
    """What a path names."""

    resource: str
    namespace: str
    name: str


_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)


def place_of(path: str) -> Place | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    resource = f"{match['plural']}.{match['group']}" if match["group"] else match["plural"]
    return Place(resource, match["ns"] or "", match["name"] or "")


def verb_of(method: str, place: Place, query: Mapping[str, str]) -> str:
    if method == "GET":
        if place.name:
            return "get"
        return "watch" if query.get("watch") in ("1", "true") else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


def wanted(place: Place, query: Mapping[str, str], obj: Json) -> bool:
    meta = obj["metadata"]
    if place.namespace and meta.get("namespace", "") != place.namespace:
        return False
    for field in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = field.partition("=")
        if path.startswith("metadata.") and meta.get(path.removeprefix("metadata.")) != value.lstrip("="):
            return False
    labels = meta.get("labels") or {}
    return all(_labelled(labels, term) for term in _terms(query.get("labelSelector", "")))


def _terms(selector: str) -> Iterator[str]:
    yield from (term for term in re.split(r",(?![^(]*\))", selector) if term)


def _labelled(labels: Mapping[str, str], term: str) -> bool:
    if match := re.fullmatch(r"\s*([^\s!=]+)\s+(in|notin)\s+\(([^)]*)\)\s*", term):
        values = [value.strip() for value in match[3].split(",")]
        return (labels.get(match[1]) in values) == (match[2] == "in")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key) != value
    if "=" in term:
        key, _, value = term.partition("=")
        return labels.get(key) == value.lstrip("=")
    return term.strip() in labels
