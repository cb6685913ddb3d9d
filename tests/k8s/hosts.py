"""HTTPRoutes as Envoy Gateway lays them out in Envoy: a virtual host for each hostname, and a filter that routes turn on.

Envoy chooses the most specific virtual host first and looks for a route in that one alone, before and after the filter. A
filter is asked on a request only if the route that the request has when it comes in turns it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.k8s.api import Object
from tests.k8s.gateways import cluster_of


def virtual_hosts(objects: Sequence[Object], turned_on: str) -> list[Object]:
    """Of all HTTPRoutes among these objects; each route turns the filter of this name on, as a policy on the Gateway does.

    A backend is the cluster of its name, an ExtensionRef the HTTPRouteFilter's direct response.
    """
    answers = {
        each["metadata"]["name"]: each["spec"]["directResponse"] for each in objects if each["kind"] == "HTTPRouteFilter"
    }
    by_host: dict[str, list[tuple[tuple[int, ...], Object]]] = {}
    for each in objects:
        if each["kind"] != "HTTPRoute":
            continue
        for hostname in each["spec"].get("hostnames", ["*"]):
            for rule in each["spec"]["rules"]:
                for match in rule["matches"]:
                    route = {
                        "match": _match(match),
                        **_action(rule, answers),
                        "typed_per_filter_config": {turned_on: _ON},
                    }
                    by_host.setdefault(hostname, []).append((_rank(match), route))
    return [
        {"name": hostname, "domains": [hostname], "routes": [route for _, route in sorted(found, key=lambda each: each[0])]}
        for hostname, found in by_host.items()
    ]


_ON = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def _rank(match: Object) -> tuple[int, ...]:
    """Gateway API's order: exact path, longest prefix, a method, most headers."""
    path = match["path"]
    return (
        path["type"] != "Exact",
        -len(path["value"]),
        "method" not in match,
        -len(match.get("headers", [])),
    )


def _match(match: Object) -> Object:
    headers = [{"name": each["name"], "string_match": {"exact": each["value"]}} for each in match.get("headers", [])]
    if "method" in match:
        headers.append({"name": ":method", "string_match": {"exact": match["method"]}})
    path = match["path"]
    return {"path" if path["type"] == "Exact" else "prefix": path["value"], "headers": headers}


def _action(rule: Object, answers: dict[str, Any]) -> Object:
    if "backendRefs" in rule:
        (backend,) = rule["backendRefs"]
        return {"route": {"cluster": cluster_of(backend["name"]), "timeout": "0s"}}
    (reference,) = [each["extensionRef"] for each in rule["filters"]]
    answer = answers[reference["name"]]
    return {
        "direct_response": {"status": answer["statusCode"], "body": {"inline_string": answer["body"]["inline"]}},
        "response_headers_to_add": [{"header": {"key": "content-type", "value": answer["contentType"]}}],
    }
