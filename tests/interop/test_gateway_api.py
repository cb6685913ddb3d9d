"""What an HTTPRoute says of an endpoint, and what its order of precedence keeps it from saying."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.interop import Losses, Placing, http_routes, read_endpoint
from extproc.interop.naming import Backend
from tests.interop.test_istio import DOCUMENT

PLACING = Placing(host="chat.example.com", gateways=("infra/front",), backends={"next": Backend("vllm-b", 8000)})


def rendered(placing: Placing = PLACING, **more: Any) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    (route,) = http_routes(read_endpoint({**DOCUMENT, **more}, losses), placing, losses)
    return route, losses.left_out


def rules(*matches: Any) -> list[dict[str, Any]]:
    return [{"name": f"r{index}", "match": match, "entity": "next"} for index, match in enumerate(matches)]


def test_pools_services_and_mirrors() -> None:
    route, left_out = rendered(shadows=[{"entity": "next", "percentage": 0.5}])
    assert left_out == []
    assert route["spec"] == {
        "parentRefs": [{"name": "front", "namespace": "infra"}],
        "hostnames": ["chat.example.com"],
        "rules": [
            {
                "filters": [
                    {
                        "type": "RequestMirror",
                        "requestMirror": {
                            "backendRef": {"name": "vllm-b", "port": 8000},
                            "fraction": {"numerator": 1, "denominator": 200},
                        },
                    }
                ],
                "backendRefs": [
                    {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "chat-current", "weight": 100},
                    {"name": "vllm-b", "port": 8000, "weight": 0},
                ],
            }
        ],
    }


def test_without_a_host_the_model_says_whose_requests_they_are() -> None:
    route, left_out = rendered(Placing(), rules=rules({"headers": {"x-a": "b"}}))
    assert left_out == []
    name = {"name": "X-Gateway-Model-Name", "type": "Exact", "value": "chat"}
    assert [each["matches"] for each in route["spec"]["rules"]] == [
        [{"headers": [name, {"name": "x-a", "type": "Exact", "value": "b"}]}],
        [{"headers": [name]}],
    ]
    _, left_out = rendered(Placing(), rules=rules({"model": "other"}))
    assert left_out[0].startswith("rules[0].match[0].model: left out: ")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"headers": {"a": "1"}}, {"path": "/v1/x"}, False),
        ({"path": "/v1/x"}, {"headers": {"a": "1"}}, True),
        ({"path": {"prefix": "/v1/"}}, {"path": {"prefix": "/v1/chat/"}}, False),
        ({"path": {"prefix": "/v1/"}}, {"path": {"prefix": "/v2/chat/"}}, True),
        ({"headers": {"a": "1"}}, {"headers": {"a": "2", "b": "1"}}, True),
        ({"headers": {"a": {"prefix": "1"}}}, {"headers": {"a": "2", "b": "1"}}, True),
        ({"headers": {"a": {"prefix": "2"}}}, {"headers": {"a": "21", "b": "1"}}, False),
        ({"path": {"suffix": "/chat"}}, {"path": "/v1/chat"}, False),
        ({"path": {"suffix": "/chat"}}, {"headers": {"a": "1"}}, False),
        ({"path": "/a", "headers": {"a": "1"}}, {"path": "/a"}, True),
    ],
)
def test_who_would_go_before_a_rule_that_stands_before_it_is_left_out(first: Any, second: Any, said: bool) -> None:
    route, left_out = rendered(rules=rules(first, second))
    assert len(route["spec"]["rules"]) == (3 if said else 2)
    assert (
        any(line.startswith("rules[1].match[0]: left out: it would go before rules[0].match[0]") for line in left_out)
        is not said
    )


def test_what_an_http_route_can_not_say() -> None:
    given = [
        {"name": "no", "match": {"headers": {"x-bad": "1"}}, "refuse": {"status": 403}},
        *rules({"headers": {"a": {"present": False}}}, {"path": "/" + "a" * 2000}),
    ]
    route, left_out = rendered(rules=given)
    assert len(route["spec"]["rules"]) == 1
    assert [line.partition(": ")[0] for line in left_out] == [
        *("rules[0]", "rules[1].match[0].headers.a", "rules[1]", "rules[2].match[0].path", "rules[2]"),
    ]


def test_there_are_16_rules_at_most() -> None:
    route, left_out = rendered(rules=rules(*({"headers": {"a": str(number)}} for number in range(20))))
    assert len(route["spec"]["rules"]) == 16
    assert len(left_out) == 5
    assert left_out[0] == "rules[15]: left out: r15: an HTTPRoute has at most 16 rules"
