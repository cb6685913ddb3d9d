"""An endpoint as an HTTPRoute of the Gateway API 1.6, with InferencePools or Services behind it.

Who wins there is not who comes first: an exact path goes before a prefix, a longer prefix before a shorter one, then more
headers before fewer; only between equals the order counts (its `HTTPRouteRule.matches`). A match that would go before one that
it stands behind is left out, unless no request has both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from extproc import names
from extproc.interop.endpoint import EXACT, ONE_OF, PREFIX, PRESENT, Endpoint, Losses, Match, Object, Rule, TextTest
from extproc.interop.naming import Placing, label_of, metadata
from extproc.interop.patterns import pattern_of
from extproc.interop.sayable import BY_BODY, header_tests, mirrors

API: Final = "gateway.networking.k8s.io/v1"
POOLS: Final = "inference.networking.k8s.io"
MOST_RULES: Final = 16
MOST_MATCHES: Final = 64
"""Of a rule."""
MOST_IN_ALL: Final = 128
"""Matches of all rules, that of the split among them."""
MOST_BACKENDS: Final = 16
_LONGEST_PATH: Final = 1024
_LONGEST_HEADER: Final = 4096
_MOST_HEADERS: Final = 16
_PATH: Final = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_NOT_IN_PATH: Final = re.compile(r"//|/\./|/\.\./|%2[fF]|#|/\.\.?$")


class _Rank(NamedTuple):
    """Who goes first; more is earlier."""

    exact: bool
    length: int
    headers: int


class _Said(NamedTuple):
    """A match as it is there."""

    match: Match
    value: Object
    rank: _Rank | None
    """None: a pattern, whose place each implementation chooses."""


def http_routes(endpoint: Endpoint, placing: Placing, losses: Losses) -> list[Object]:
    """The HTTPRoute. Without `placing.host` it has the requests of which the router says that their model is the endpoint."""
    rules: list[Object] = []
    before: list[_Said] = []
    for rule in endpoint.rules:
        if (said := _rule(rule, endpoint, placing, before, losses)) is None:
            continue
        if len(rules) == MOST_RULES - 1:
            losses.drop(rule.where, f"{rule.name}: an HTTPRoute has at most {MOST_RULES} rules")
            continue
        number = sum(len(each.get("matches", [{}])) for each in (*rules, said))
        if number >= MOST_IN_ALL:
            losses.drop(rule.where, f"{rule.name}: an HTTPRoute has at most {MOST_IN_ALL} matches")
            continue
        rules.append(said)
    base = _conditions(Match(), endpoint, placing, losses)
    split: Object = {} if base is None or not base.value else {"matches": [base.value]}
    rules.append({**split, **_backends(endpoint.shares, endpoint, placing, losses, "config.traffic_config.routes")})
    spec: Object = {"parentRefs": [_parent(name) for name in placing.gateways or ("inference-gateway",)]}
    if placing.host:
        spec["hostnames"] = [placing.host]
    else:
        losses.remark("name", BY_BODY)
    spec["rules"] = rules
    return [{"apiVersion": API, "kind": "HTTPRoute", "metadata": metadata(label_of(endpoint.name), placing), "spec": spec}]


def _parent(name: str) -> Object:
    namespace, _, rest = name.rpartition("/")
    return {"name": rest, **({"namespace": namespace} if namespace else {})}


def _reference(entity: str, endpoint: Endpoint, placing: Placing) -> Object:
    backend = placing.backends.get(entity)
    if backend is not None and backend.port is not None:
        return {"name": backend.name, "port": backend.port}
    return {
        "group": POOLS,
        "kind": "InferencePool",
        "name": label_of(f"{endpoint.name}-{entity}") if backend is None else backend.name,
    }


def _backends(shares: Sequence[tuple[str, int]], endpoint: Endpoint, placing: Placing, losses: Losses, where: str) -> Object:
    """Backends with their weights, and the mirrors."""
    given = [each for each in shares if each[1]] if len(shares) > MOST_BACKENDS else list(shares)
    found: Object = {}
    filters: list[Object] = []
    for entity, percentage in mirrors(shares, endpoint, where, losses):
        part = Fraction(str(percentage)) / 100
        share: Object = {"fraction": {"numerator": part.numerator, "denominator": part.denominator}}
        if percentage == int(percentage):
            share = {"percent": int(percentage)}
        reference = _reference(entity, endpoint, placing)
        filters.append({"type": "RequestMirror", "requestMirror": {"backendRef": reference, **share}})
    if filters:
        found["filters"] = filters
    found["backendRefs"] = [{**_reference(entity, endpoint, placing), "weight": share} for entity, share in given]
    return found


def _rule(rule: Rule, endpoint: Endpoint, placing: Placing, before: list[_Said], losses: Losses) -> Object | None:
    if rule.refusal is not None:
        losses.drop(rule.where, f"{rule.name}: an HTTPRoute refuses nothing; its requests go on to what comes next")
        return None
    said = []
    for match in _alternatives(rule):
        found = _conditions(match, endpoint, placing, losses)
        if found is not None and _in_order(found, before, losses):
            said.append(found)
    if len(said) > MOST_MATCHES:
        losses.drop(rule.where, f"{rule.name}: a rule there has at most {MOST_MATCHES} matches")
        return None
    if not said:
        losses.drop(rule.where, f"{rule.name}: none of its matches can be said; its requests go on to what comes next")
        return None
    before += said
    matches = [each.value for each in said if each.value]
    about: Object = {"matches": matches} if len(matches) == len(said) else {}
    return {**about, **_backends(rule.shares, endpoint, placing, losses, rule.where)}


def _in_order(said: _Said, before: Sequence[_Said], losses: Losses) -> bool:
    for other in before:
        same = said.rank is not None and other.rank is not None and said.rank <= other.rank
        if not same and not _apart(said.match, other.match):
            losses.drop(
                said.match.where, f"it would go before {other.match.where}, as paths and numbers of headers decide there"
            )
            return False
    return True


def _apart(one: Match, other: Match) -> bool:
    """Whether surely no request has both."""
    if one.path is not None and other.path is not None and _differ(one.path, other.path):
        return True
    if one.model is not None and other.model is not None and _differ(one.model, other.model):
        return True
    if one.regions and other.regions and set(one.regions).isdisjoint(other.regions):
        return True
    tests = dict(other.headers)
    return any(name in tests and _differ(test, tests[name]) for name, test in one.headers)


def _differ(one: TextTest, other: TextTest) -> bool:
    if one.kind in (EXACT, ONE_OF) and other.kind in (EXACT, ONE_OF):
        return set(one.values).isdisjoint(other.values)
    if other.kind in (EXACT, ONE_OF):
        one, other = other, one
    if other.kind == PREFIX and one.kind in (EXACT, ONE_OF):
        return not any(value.startswith(other.values[0]) for value in one.values)
    if one.kind == other.kind == PREFIX:
        a, b = one.values[0], other.values[0]
        return not a.startswith(b) and not b.startswith(a)
    return False


def _conditions(match: Match, endpoint: Endpoint, placing: Placing, losses: Losses) -> _Said | None:
    """None: one of its conditions can't be said."""
    headers: list[Object] = []
    if not placing.host:
        headers.append({"name": names.MODEL_HEADER, "type": "Exact", "value": endpoint.name})
    for name, test, where in header_tests(match, losses):
        value = _header(test)
        if value is None or name in {each["name"].lower() for each in headers} or len(headers) == _MOST_HEADERS:
            losses.drop(where, "it can't be said of a header there, or the header has a condition; so the match is left out")
            return None
        headers.append({"name": name, **value})
    found: Object = {}
    kind, length = "PathPrefix", 1
    if match.path is not None:
        path = _path(match.path, f"{match.where}.path", losses)
        if path is None:
            return None
        found["path"] = path
        kind, length = path["type"], len(path["value"])
    if headers:
        found["headers"] = headers
    return _Said(match, found, None if kind == "RegularExpression" else _Rank(kind == "Exact", length, len(headers)))


def _alternatives(rule: Rule) -> list[Match]:
    """The matches, with one for each of several paths, so that there are few patterns, of which nobody knows who goes first."""
    found = []
    for match in rule.matches or (Match(where=f"{rule.where}.match"),):
        if match.path is not None and match.path.kind == ONE_OF:
            found += [match._replace(path=TextTest(EXACT, (value,))) for value in match.path.values]
        else:
            found.append(match)
    return found


def _header(test: TextTest) -> Object | None:
    if test.kind == PRESENT and not test.wanted:
        return None
    exact = test.kind == EXACT
    value = test.values[0] if exact else pattern_of(test)
    if not 1 <= len(value) <= _LONGEST_HEADER or (test.kind == ONE_OF and "" in test.values):
        return None
    return {"type": "Exact" if exact else "RegularExpression", "value": value}


def _path(test: TextTest, where: str, losses: Losses) -> Any:
    """None: it can't be said."""
    value = test.values[0] if test.values else ""
    plain = _PATH.fullmatch(value) is not None and _NOT_IN_PATH.search(value) is None
    if test.kind == EXACT and plain:
        found = {"type": "Exact", "value": value}
    elif test.kind == PREFIX and plain and value.endswith("/"):
        if value != "/":
            losses.differ(where, f"there it also has {value[:-1][:80]!r}, without the slash")
        found = {"type": "PathPrefix", "value": value}
    elif test.kind == PRESENT:
        losses.drop(where, "each request has a path; so the match is left out")
        return None
    else:
        losses.remark(where, "a pattern goes before a route of all paths there, which is left to implementations")
        found = {"type": "RegularExpression", "value": pattern_of(test)}
    if len(found["value"]) > _LONGEST_PATH:
        losses.drop(where, f"a path there has at most {_LONGEST_PATH} characters; so the match is left out")
        return None
    return found
