"""Istio's VirtualServices and DestinationRules to endpoints: one endpoint for each VirtualService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from extproc.interop.endpoint import Endpoint, Losses, Refusal, Rule, Shadow
from extproc.interop.istio_forms import DestinationRule, HttpRoute, VirtualService
from extproc.interop.istio_match import match_of
from extproc.interop.istio_places import Places, is_host
from extproc.interop.naming import ENDPOINT, free, own_name
from extproc.interop.objects import Found, not_taken, objects_in, read_form
from extproc.interop.written import percentages
from extproc.settings.base import SettingsError, few, shown

_VERSIONS: Final = ("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3")
KINDS: Final = {"VirtualService": _VERSIONS, "DestinationRule": _VERSIONS}
OTHERWISE: Final = "otherwise"
"""The rule for requests of which the VirtualService says nothing, which Istio answers with 404."""

_SPEC: Final = {
    "gateways": "which gateways a request comes by is the proxy's affair",
    "tcp": "only HTTP is served",
    "tls": "only HTTP is served",
    "exportTo": "an endpoint is of the whole gateway",
}
_ROUTE: Final = {
    "rewrite": "a model server's path follows from the request's",
    "retries": "another entity is tried with ai_gateway.fallback_config; retries at the same one are the proxy's affair",
    "timeout": "timeouts are the proxy's affair",
    "fault": "faults are the proxy's affair",
    "headers": "headers are the proxy's affair",
    "corsPolicy": "it is the proxy's affair",
}
_UNKNOWN: Final = "nothing is known of it here"


def of_istio(documents: Iterable[tuple[object, str]], losses: Losses) -> list[Endpoint]:
    """The endpoints of these documents, each with what stands before its paths.

    Raises SettingsError with all that is nonsense, by path.
    """
    found = objects_in(documents, KINDS)
    problems: list[str] = []
    rules: list[tuple[str, DestinationRule]] = []
    services: list[tuple[Found, VirtualService]] = []
    for each in found:
        try:
            if each.kind == "DestinationRule":
                rules.append((each.path, read_form(DestinationRule, each)))
            else:
                services.append((each, read_form(VirtualService, each)))
        except SettingsError as error:
            problems += error.problems
    endpoints: list[Endpoint] = []
    used: set[int] = set()
    for each, service in services:
        try:
            name = free(_name(service, each.path, losses), [endpoint.name for endpoint in endpoints])
            endpoints.append(_endpoint(name, each.path, service, rules, used, losses))
        except SettingsError as error:
            problems += error.problems
    if not services and not problems:
        problems.append("got DestinationRules alone; expected a VirtualService, which says who gets which requests")
    if problems:
        raise SettingsError(few(problems))
    for index, (path, rule) in enumerate(rules):
        if index not in used:
            losses.drop(f"{path}spec", f"no VirtualService here sends requests to {shown(rule.spec.host)}")
    return endpoints


def _name(service: VirtualService, path: str, losses: Losses) -> str:
    given = service.metadata.annotations.get(ENDPOINT, service.metadata.name)
    name = own_name(given)
    if name != given:
        losses.differ(f"{path}metadata.name", f"got {shown(given)}, which is {name} here")
    return name


def _endpoint(
    name: str,
    path: str,
    service: VirtualService,
    rules: list[tuple[str, DestinationRule]],
    used: set[int],
    losses: Losses,
) -> Endpoint:
    spec = service.spec
    not_taken(spec, f"{path}spec.", losses, _SPEC, _UNKNOWN)
    for host in spec.hosts:
        if not is_host(host, service.metadata.name, service.metadata.namespace):
            losses.drop(f"{path}spec.hosts", f"got {shown(host)}; which host a request is for is the proxy's affair")
    places = Places(service, path, rules, used, losses)
    http = list(enumerate(spec.http))
    last = None if http[-1][1].match else http[-1][0]
    for position, each in enumerate(http[-1][1].route):  # entities in the order of the split
        places.entity(each.destination, f"{path}spec.http[{len(http) - 1}].route[{position}].destination")
    split: dict[str, int] | None = None
    found: list[Rule] = []
    heard: list[tuple[str, frozenset[str], tuple[Shadow, ...]]] = []
    for index, route in http:
        where = f"{path}spec.http[{index}]"
        not_taken(route, f"{where}.", losses, _ROUTE, _UNKNOWN)
        if route.redirect is not None or route.delegate is not None:
            losses.drop(where, "redirect and delegate are the proxy's affair; its requests go on to what comes next")
            continue
        shares = _shares(route, where, places, losses)
        if shares:
            alone = frozenset([entity for entity, share in shares.items() if share == 100])
            heard.append((where, alone, _mirrors(route, where, places)))
        if index == last and shares:
            split = shares
            continue
        rule = _rule(route, shares, where, free(own_name(route.name or f"http-{index}"), [r.name for r in found]), losses)
        if rule is not None:
            found.append(rule)
    if split is None:
        split, found = _without_split(found, last is None, places, path)
    shadows = _shadows(heard, losses)
    places.tell_others()
    entities = places.entities()
    return Endpoint(name, entities, tuple([(each.name, split.get(each.name, 0)) for each in entities]), tuple(found), shadows)


def _without_split(found: list[Rule], falls_through: bool, places: Places, path: str) -> tuple[dict[str, int], list[Rule]]:
    """A split that nobody comes to, where rules have all requests or the rest is a 404."""
    entities = places.entities()
    if not entities:
        raise SettingsError([f"{path}spec.http: got no route with a destination that is taken; expected at least one"])
    if falls_through:
        otherwise = free(OTHERWISE, [rule.name for rule in found])
        found = [*found, Rule(otherwise, refusal=Refusal(404, "No route for this request"))]
    return {entities[0].name: 100}, found


def _shares(route: HttpRoute, where: str, places: Places, losses: Losses) -> dict[str, int]:
    """In percent by entity; nothing for an answer of the proxy's own."""
    if route.directResponse is not None:
        if route.route:
            raise SettingsError([f"{where}: got route and directResponse; expected one of them"])
        return {}
    if not route.route:
        raise SettingsError([f"{where}.route: got nothing; expected where the requests go"])
    weights: dict[str, int] = {}
    for index, each in enumerate(route.route):
        entity = places.entity(each.destination, f"{where}.route[{index}].destination")
        usual = 100 if len(route.route) == 1 else 0
        weights[entity] = weights.get(entity, 0) + (usual if each.weight is None or len(route.route) == 1 else each.weight)
        if each.headers:
            losses.drop(f"{where}.route[{index}].headers", _ROUTE["headers"])
    return percentages(weights, f"{where}.route", losses)


def _rule(route: HttpRoute, shares: Mapping[str, int], where: str, name: str, losses: Losses) -> Rule | None:
    matches = [
        match
        for index, each in enumerate(route.match)
        if (match := match_of(each, f"{where}.match[{index}]", losses)) is not None
    ]
    if route.match and not matches:
        losses.drop(where, "none of its matches is taken; its requests go on to what comes next")
        return None
    refusal = None
    if (answer := route.directResponse) is not None:
        body: Any = answer.body
        if answer.status < 400 or (body is not None and body.bytes):
            losses.drop(
                f"{where}.directResponse", "an endpoint refuses with a status from 400 and a text, and answers nothing else"
            )
            return None
        refusal = Refusal(answer.status, (body.string if body is not None else None) or "")
    everything = not matches or any(match == type(match)(where=match.where) for match in matches)
    return Rule(name, () if everything else tuple(matches), tuple(shares.items()), refusal, where)


def _mirrors(route: HttpRoute, where: str, places: Places) -> tuple[Shadow, ...]:
    given = [(each.destination, each.percentage, f"mirrors[{index}]") for index, each in enumerate(route.mirrors)]
    if route.mirror is not None:
        given.append((route.mirror, route.mirrorPercentage, "mirror"))
    found: list[Shadow] = []
    for destination, percentage, field in given:
        share = 100.0
        if percentage is not None:
            share = percentage.value
        elif field == "mirror":
            older = route.mirrorPercent if route.mirrorPercent is not None else route.mirror_percent
            share = share if older is None else older
        entity = places.entity(destination, f"{where}.{field}")
        if any(entity == each.entity for each in found):
            raise SettingsError([f"{where}.{field}: got {entity}, which has a mirror here; expected each destination once"])
        found.append(Shadow(entity, share))
    return tuple(found)


def _shadows(heard: list[tuple[str, frozenset[str], tuple[Shadow, ...]]], losses: Losses) -> tuple[Shadow, ...]:
    """Those that all routes have, but for routes where the shadow serves everything itself."""
    every = {shadow.entity: shadow for _, _, shadows in reversed(heard) for shadow in shadows}
    found = []
    for entity, shadow in every.items():
        others = [where for where, alone, shadows in heard if shadow not in shadows and entity not in alone]
        if not others:
            found.append(shadow)
            continue
        for where, _, shadows in heard:
            if any(each.entity == entity for each in shadows):
                losses.drop(f"{where}.mirror", f"{entity}: {others[0]} has no such mirror; a shadow here is of all requests")
    return tuple(found)
