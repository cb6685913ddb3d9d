"""An endpoint as Istio's VirtualService and DestinationRule.

Rules are HTTP routes in their order, as the first that matches wins there too; the split is the last one; shadows are mirrors
of each. A served entity is a subset of one host by labels, or a host of its own. Facts: istio.io/api 1.32,
`networking/v1/virtual_service.proto`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from extproc.interop.endpoint import EXACT, ONE_OF, PREFIX, PRESENT, Endpoint, Losses, Match, Object, Rule, TextTest
from extproc.interop.naming import (
    ENDPOINT,
    ENTITIES,
    LABEL,
    MODEL_LABEL,
    VERSION_LABEL,
    Placing,
    label_of,
    metadata,
)
from extproc.interop.patterns import pattern_of
from extproc.interop.sayable import header_tests, mirrors

API: Final = "networking.istio.io/v1"
SPLIT: Final = "split"
"""The name of the route that is the endpoint's split."""
_NO_HEADERS: Final = frozenset({"uri", "scheme", "method", "authority"})
"""Keys of `headers` that Istio does not take for headers."""


def virtual_service(endpoint: Endpoint, placing: Placing, losses: Losses) -> list[Object]:
    """The VirtualService, and the DestinationRule if any entity is a subset."""
    host = placing.host or label_of(endpoint.name)
    routes = [_rule(rule, endpoint, host, placing, losses) for rule in endpoint.rules]
    http = [route for route in routes if route is not None]
    http.append({"name": SPLIT, **_routed(endpoint.shares, endpoint, host, placing, losses, "config.traffic_config.routes")})
    spec: Object = {"hosts": [host]}
    if placing.gateways:
        spec["gateways"] = list(placing.gateways)
    name = label_of(endpoint.name)
    annotations = {} if name == endpoint.name else {ENDPOINT: endpoint.name}
    subsets, unsaid = _subsets(endpoint, placing)
    if unsaid:
        annotations[ENTITIES] = json.dumps(unsaid, sort_keys=True)
    spec["http"] = http
    found = [_object("VirtualService", name, annotations, placing, spec)]
    if subsets:
        found.append(_object("DestinationRule", name, {}, placing, {"host": host, "subsets": subsets}))
    return found


def _object(kind: str, name: str, annotations: dict[str, str], placing: Placing, spec: Object) -> Object:
    return {"apiVersion": API, "kind": kind, "metadata": metadata(name, placing, annotations), "spec": spec}


def _subsets(endpoint: Endpoint, placing: Placing) -> tuple[list[Object], dict[str, dict[str, str]]]:
    """Subsets with their labels; and of each entity what neither its subset's name nor its labels say."""
    subsets = []
    unsaid: dict[str, dict[str, str]] = {}
    for entity in endpoint.entities:
        whole = {"name": entity.name, "entity_name": entity.model, "entity_version": entity.version}
        if (backend := placing.backends.get(entity.name)) is not None:
            key = backend.name if backend.port is None else f"{backend.name}:{backend.port}"
            unsaid[key] = {field: text for field, text in whole.items() if text}
            continue
        subset = label_of(entity.name)
        labels = {}
        rest = {} if subset == entity.name else {"name": entity.name}
        for label, field, text in (
            (MODEL_LABEL, "entity_name", entity.model),
            (VERSION_LABEL, "entity_version", entity.version),
        ):
            if text and LABEL.fullmatch(text):
                labels[label] = text
            elif text:
                labels[label] = label_of(text)
                rest[field] = text
        subsets.append({"name": subset, "labels": labels})
        if rest:
            unsaid[subset] = rest
    return subsets, unsaid


def _destination(entity: str, host: str, placing: Placing) -> Object:
    backend = placing.backends.get(entity)
    if backend is None:
        return {"host": host, "subset": label_of(entity)}
    return {"host": backend.name, **({} if backend.port is None else {"port": {"number": backend.port}})}


def _routed(
    shares: Sequence[tuple[str, int]], endpoint: Endpoint, host: str, placing: Placing, losses: Losses, where: str
) -> Object:
    """Destinations with their weights, and the mirrors."""
    found: Object = {
        "route": [{"destination": _destination(entity, host, placing), "weight": share} for entity, share in shares]
    }
    copies = [(_destination(entity, host, placing), share) for entity, share in mirrors(shares, endpoint, where, losses)]
    if len(copies) == 1:
        found["mirror"], found["mirrorPercentage"] = copies[0][0], {"value": _number(copies[0][1])}
    elif copies:
        found["mirrors"] = [{"destination": to, "percentage": {"value": _number(share)}} for to, share in copies]
    return found


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _rule(rule: Rule, endpoint: Endpoint, host: str, placing: Placing, losses: Losses) -> Object | None:
    """None: none of its matches can be said."""
    route: Object = {"name": rule.name}
    if rule.matches:
        matches = [said for match in rule.matches if (said := _match(match, losses)) is not None]
        if not matches:
            losses.drop(rule.where, f"{rule.name}: none of its matches can be said; its requests go on to what comes next")
            return None
        route["match"] = matches
    if rule.refusal is not None:
        answer: Object = {"status": rule.refusal.status}
        if rule.refusal.message:
            answer["body"] = {"string": rule.refusal.message}
        return {**route, "directResponse": answer}
    return {**route, **_routed(rule.shares, endpoint, host, placing, losses, rule.where)}


def _match(match: Match, losses: Losses) -> Object | None:
    """None: one of its conditions can't be said."""
    headers: dict[str, Any] = {}
    without: dict[str, Any] = {}
    for name, test, where in header_tests(match, losses):
        if name in _NO_HEADERS or name in headers or name in without:
            why = "Istio has other words for it" if name in _NO_HEADERS else "one header has one condition there"
            losses.drop(where, f"{why}; so the match is left out")
            return None
        if test.kind == ONE_OF and "" in test.values:
            losses.drop(where, "an empty value is no condition there; so the match is left out")
            return None
        if test.kind == PRESENT and not test.wanted:
            without[name] = {}
        else:
            headers[name] = _string(test)
    found: Object = {}
    if match.path is not None:
        if match.path.kind == PRESENT:
            losses.drop(f"{match.where}.path", "each request has a path; so the match is left out")
            return None
        found["uri"] = _string(match.path)
    if headers:
        found["headers"] = headers
    if without:
        found["withoutHeaders"] = without
    return found


def _string(test: TextTest) -> Object:
    """Istio's StringMatch; of a header that only has to be there, an empty one."""
    if test.kind == PRESENT:
        return {}
    return {test.kind: test.values[0]} if test.kind in (EXACT, PREFIX) else {"regex": pattern_of(test)}
