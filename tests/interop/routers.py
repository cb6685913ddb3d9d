"""How Istio and an implementation of the Gateway API choose a route, as their documents say; for one request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

Object = dict[str, Any]


class Asked(NamedTuple):
    """A request."""

    path: str
    headers: Mapping[str, str]


def istio(service: Object, asked: Asked) -> Object | None:
    """The HTTP route that has it; None: nobody, 404."""
    for route in service["spec"]["http"]:
        if "match" not in route or any(_matches(match, asked) for match in route["match"]):
            return dict(route)
    return None


def _matches(match: Object, asked: Asked) -> bool:
    assert match.keys() <= {"uri", "headers", "withoutHeaders"}
    if "uri" in match and not _string(match["uri"], asked.path):
        return False
    if not all(name in asked.headers and _string(test, asked.headers[name]) for name, test in match.get("headers", {}).items()):
        return False
    assert all(test == {} for test in match.get("withoutHeaders", {}).values())
    return not any(name in asked.headers for name in match.get("withoutHeaders", {}))


def _string(test: Object, text: str) -> bool:
    if not test:
        return True
    ((kind, value),) = test.items()
    if kind == "exact":
        return bool(text == value)
    return text.startswith(value) if kind == "prefix" else re.fullmatch(value, text, re.DOTALL) is not None


def gateway_api(route: Object, asked: Asked, *, patterns_first: bool) -> Object | None:
    """The rule that has it. `patterns_first`: paths that are patterns go before all others, else behind all but `/`."""
    best: tuple[tuple[int, int, int, int], Object] | None = None
    for index, rule in enumerate(route["spec"]["rules"]):
        for match in rule.get("matches", [{}]):
            headers = match.get("headers", [])
            path = match.get("path", {"type": "PathPrefix", "value": "/"})
            if not _path(path, asked.path) or not all(_header(each, asked) for each in headers):
                continue
            kind = {"Exact": 1, "PathPrefix": 0, "RegularExpression": 2 if patterns_first else 0}[path["type"]]
            length = 2 if path["type"] == "RegularExpression" else len(path["value"])
            rank = (kind, length, len(headers), -index)
            if best is None or rank > best[0]:
                best = rank, rule
    return None if best is None else best[1]


def _path(test: Object, path: str) -> bool:
    value = test["value"]
    if test["type"] == "Exact":
        return bool(path == value)
    if test["type"] == "RegularExpression":
        return re.fullmatch(value, path, re.DOTALL) is not None
    whole = value.rstrip("/")
    return path == whole or path.startswith(whole + "/")


def _header(test: Object, asked: Asked) -> bool:
    value = asked.headers.get(test["name"].lower())
    if value is None:
        return False
    return value == test["value"] if test["type"] == "Exact" else re.fullmatch(test["value"], value, re.DOTALL) is not None
