"""Istio's objects as people write them, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extproc.interop import Losses, Placing, document_of, of_istio, read_endpoint, virtual_service
from extproc.settings.base import SettingsError
from extproc.settings.document import load_documents

# The canary of Istio's own pages (istio.io, "Canary Deployments using Istio"), with a cohort by header.
HELLOWORLD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: helloworld}
spec:
  hosts: [helloworld]
  http:
  - match:
    - headers: {cookie: {regex: "^(group=a|group=b)$"}}
    - uri: {prefix: /beta/}
    route:
    - destination: {host: helloworld, subset: v2}
  - route:
    - destination: {host: helloworld, subset: v1}
      weight: 90
    - destination: {host: helloworld, subset: v2}
      weight: 10
    mirror: {host: helloworld, subset: v3}
    mirrorPercentage: {value: 0.5}
    timeout: 5s
    retries: {attempts: 3}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: helloworld}
spec:
  host: helloworld.default.svc.cluster.local
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2, app: hello}}
  - {name: v3, labels: {version: v3}}
  - {name: v4, labels: {version: v4}}
"""


def taken(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    losses = Losses()
    given = [(each.value, "") for each in load_documents(text)]
    return [document_of(each) for each in of_istio(given, losses)], losses.left_out


def test_a_canary_of_istios_pages() -> None:
    (document,), left_out = taken(HELLOWORLD.replace("{name: helloworld}", "{name: helloworld, namespace: default}"))
    assert document == {
        "name": "helloworld",
        "config": {
            "served_entities": [
                {"name": "v1", "entity_name": "helloworld", "entity_version": "v1"},
                {"name": "v2", "entity_name": "helloworld", "entity_version": "v2"},
                {"name": "v3", "entity_name": "helloworld", "entity_version": "v3"},
            ],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": "v1", "traffic_percentage": 90},
                    {"served_entity_name": "v2", "traffic_percentage": 10},
                    {"served_entity_name": "v3", "traffic_percentage": 0},
                ]
            },
        },
        "rules": [
            {
                "name": "http-0",
                "match": [{"headers": {"cookie": {"one_of": ["group=a", "group=b"]}}}, {"path": {"prefix": "/beta/"}}],
                "entity": "v2",
            }
        ],
        "sticky": "none",
    }
    assert [line.partition(": left out")[0] for line in left_out] == [
        "spec.trafficPolicy",
        "spec.subsets[1].labels.app",
        "spec.http[1].retries",
        "spec.http[1].timeout",
        "spec.http[1].mirror",
        "spec.subsets[3]",
    ]
    assert "v3: spec.http[0] has no such mirror" in left_out[4]


SPLIT = "{route: [{destination: {host: a, subset: x}, weight: 1}, {destination: {host: b, port: {number: 80}}, weight: 2}]}"


def service(http: str, more: str = "") -> str:
    return f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s}}\nspec: {{http: [{http}]{more}}}\n"


def test_weights_are_relative_and_come_to_whole_percents() -> None:
    (document,), left_out = taken(service(SPLIT))
    assert [each["traffic_percentage"] for each in document["config"]["traffic_config"]["routes"]] == [33, 67]
    assert document["config"]["served_entities"] == [{"name": "x", "entity_name": "a"}, {"name": "b", "entity_name": "b"}]
    assert left_out == [
        "spec.http[0].route[0].destination.subset: 'x': its DestinationRule is not among these objects",
        "spec.http[0].route: the weights are x 33.3, b 66.7 %; here they are whole: 33, 67",
    ]


def test_requests_of_which_nothing_is_said_are_a_404_here_too() -> None:
    (document,), left_out = taken(service("{match: [{uri: {exact: /a}}], route: [{destination: {host: a}}]}"))
    assert left_out == []
    assert document["rules"] == [
        {"name": "http-0", "match": [{"path": "/a"}], "entity": "a"},
        {"name": "otherwise", "refuse": {"status": 404, "message": "No route for this request"}},
    ]


@pytest.mark.parametrize(
    ("http", "where"),
    [
        ("{match: [{method: {exact: GET}}], route: [{destination: {host: b}}]}", "match[0].method"),
        ("{match: [{uri: {regex: 'a+'}}], route: [{destination: {host: b}}]}", "match[0].uri"),
        ("{match: [{uri: {prefix: /A}, ignoreUriCase: true}], route: [{destination: {host: b}}]}", "match[0].ignoreUriCase"),
        ("{match: [{queryParams: {a: {exact: b}}}], route: [{destination: {host: b}}]}", "match[0].queryParams"),
        (
            "{match: [{withoutHeaders: {a: {exact: b}}}], route: [{destination: {host: b}}]}",
            "match[0].withoutHeaders.a",
        ),
        ("{match: [{somethingNew: 1}], route: [{destination: {host: b}}]}", "match[0].somethingNew"),
        ("{match: [{uri: {exact: /r}}], redirect: {uri: /x}}", ""),
        ("{match: [{uri: {exact: /r}}], directResponse: {status: 204}}", "directResponse"),
    ],
)
def test_a_route_that_can_not_be_taken_whole_is_not_taken_at_all(http: str, where: str) -> None:
    (document,), left_out = taken(service(f"{http}, {{route: [{{destination: {{host: a}}}}]}}"))
    assert "rules" not in document
    assert left_out[0].startswith(f"spec.http[0].{where}".removesuffix(".") + ": left out: ")


def test_what_is_the_proxys_affair_is_said() -> None:
    more = ", gateways: [mesh], tcp: [{route: [{destination: {host: c}}]}], hosts: [other], exportTo: ['.']"
    http = "{route: [{destination: {host: a}, headers: {request: {set: {a: b}}}}], rewrite: {uri: /}, fault: {delay: {}}}"
    _, left_out = taken(service(http, more))
    assert [line.partition(": ")[0].removeprefix("spec.") for line in left_out] == [
        *("exportTo", "gateways", "tcp", "hosts"),
        *("http[0].fault", "http[0].rewrite", "http[0].route[0].headers"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a", "got 'a'; expected an object with apiVersion and kind"),
        ("kind: Pod", "kind: got 'Pod'; expected VirtualService, DestinationRule"),
        ("{kind: VirtualService, apiVersion: v1}", "apiVersion: got 'v1'; expected networking.istio.io/v1, "),
        (service(""), "spec.http: got a list of 0; expected at least 1"),
        (service("{}"), "spec.http[0].route: got nothing; expected where the requests go"),
        (service("{rout: []}"), "spec.http[0].rout: unknown key; expected route"),
        (service("{route: [{destination: {}}]}"), "spec.http[0].route[0].destination: got nothing; expected a value"),
        (service("{route: [{destination: {host: a}, weight: -1}]}"), "spec.http[0].route[0].weight: got -1; expected a whole"),
        (
            service("{route: [{destination: {host: a}, weight: 1.5}]}"),
            "spec.http[0].route[0].weight: got 1.5; expected",
        ),
        (
            service("{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}"),
            "spec.http[0].route: got weights that add up to 0; expected at least one above 0",
        ),
        (
            service("{match: [{uri: {exact: a, regex: b}}]}"),
            "spec.http[0].match[0].uri: got an object with 2",
        ),
        (service("{directResponse: {status: 99}}"), "spec.http[0].directResponse.status: got 99; expected a status from 200"),
        (
            service("{directResponse: {status: 404}, route: [{destination: {host: a}}]}"),
            "spec.http[0]: got route and directResponse; expected one of them",
        ),
        (service("{directResponse: {status: 404}}"), "spec.http: got no route with a destination that is taken; expected at"),
        (
            service("{route: [{destination: {host: a}}], mirror: {host: b}, mirrorPercentage: {value: 101}}"),
            "spec.http[0].mirrorPercentage.value: got 101; expected a number from 0 to 100",
        ),
        (
            service("{route: [{destination: {host: a}}], mirrors: [{destination: {host: b}}, {destination: {host: b}}]}"),
            "spec.http[0].mirrors[1]: got b, which has a mirror here; expected each destination once",
        ),
        (HELLOWORLD.split("---")[1], "got DestinationRules alone; expected a VirtualService"),
    ],
)
def test_nonsense_is_refused_with_path_value_and_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        taken(text)
    assert any(line.startswith(problem) for line in refused.value.problems), refused.value.problems


def test_a_subset_that_its_rule_has_not() -> None:
    with pytest.raises(SettingsError) as refused:
        taken(
            HELLOWORLD.replace("subset: v3", "subset: v9").replace(
                "host: helloworld.default.svc.cluster.local", "host: helloworld"
            )
        )
    assert refused.value.problems == [
        "spec.http[1].mirror.subset: got 'v9'; expected one of its DestinationRule: v1, v2, v3, v4"
    ]


def test_a_list_of_objects_is_taken_one_by_one() -> None:
    items = [yaml.safe_load(service(SPLIT)), yaml.safe_load(service("{route: [{destination: {host: a, subset: 7}}]}"))]
    with pytest.raises(SettingsError) as refused:
        taken(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert refused.value.problems == [
        "items[1].spec.http[0].route[0].destination.subset: got 7; expected text of 1 to 256 characters"
    ]


DOCUMENT: dict[str, Any] = {
    "name": "chat",
    "config": {
        "served_entities": [{"name": "current", "entity_name": "a"}, {"name": "next", "entity_name": "b"}],
        "traffic_config": {
            "routes": [
                {"served_entity_name": "current", "traffic_percentage": 100},
                {"served_entity_name": "next", "traffic_percentage": 0},
            ]
        },
    },
}


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ({"headers": {"X-A": "b"}}, {"headers": {"x-a": {"exact": "b"}}}),
        ({"headers": {"x-a": {"prefix": "b"}}}, {"headers": {"x-a": {"prefix": "b"}}}),
        ({"headers": {"x-a": {"suffix": "b.c"}}}, {"headers": {"x-a": {"regex": ".*b\\.c"}}}),
        ({"headers": {"x-a": {"present": True}}}, {"headers": {"x-a": {}}}),
        ({"headers": {"x-a": {"present": False}}}, {"withoutHeaders": {"x-a": {}}}),
        ({"path": {"one_of": ["/a", "/b"]}}, {"uri": {"regex": "/a|/b"}}),
        ({"model": "m"}, {"headers": {"x-gateway-model-name": {"exact": "m"}}}),
        ({"regions": ["eu", "us"]}, {"headers": {"x-gateway-region": {"regex": "eu|us"}}}),
        ({"headers": {"method": "GET"}}, None),
        ({"headers": {"x-a": {"one_of": ["", "b"]}}}, None),
        ({"headers": {"x-gateway-region": "eu"}, "regions": ["us"]}, None),
        ({"path": {"present": True}}, None),
        ({"segments": ["vip"]}, None),
        ({"headers": {"x-a": "b"}, "percentage": 10}, None),
        ({"time": {"days": ["mon"]}}, None),
        ({"body": {"stream": True}}, None),
    ],
)
def test_conditions_of_rules(match: dict[str, Any], said: dict[str, Any] | None) -> None:
    losses = Losses()
    endpoint = read_endpoint({**DOCUMENT, "rules": [{"name": "r", "match": match, "entity": "next"}]}, losses)
    objects = virtual_service(endpoint, Placing(), losses)
    routes = objects[0]["spec"]["http"]
    if said is None:
        assert [each["name"] for each in routes] == ["split"]
        assert losses.left_out[0].startswith("rules[0].match[0].")
        assert losses.left_out[-1].startswith("rules[0]: left out: r: none of its matches can be said")
    else:
        assert routes[0]["match"] == [said]
        assert losses.left_out == []


def test_everything_that_is_lost_is_listed() -> None:
    document: dict[str, Any] = {
        **DOCUMENT,
        "config": {
            **DOCUMENT["config"],
            "served_entities": [
                {"name": "current", "entity_name": "a", "price": {"per_request": 1.0}, "workload_size": "Small"},
                {"name": "next", "entity_name": "b"},
            ],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": "current", "traffic_percentage": 90},
                    {"served_entity_name": "next", "traffic_percentage": 10},
                ]
            },
        },
        "experiments": [{"name": "checkout", "arms": [{"name": "a", "weight": 50, "entity": "next"}]}],
        "shadows": [{"entity": "next", "percentage": 5, "max_in_flight": 2}],
        "residency": [{"name": "eu", "stay_in": ["eu"]}],
        "rollout": {"baseline": "current", "canary": "next", "steps": [{"setWeight": 10}]},
        "ai_gateway": {
            "fallback_config": {"enabled": True},
            "rate_limits": [{"renewal_period": "minute", "calls": 5, "key": "user"}],
        },
        "tags": [{"key": "team"}],
        "description": "ours",
    }
    losses = Losses()
    virtual_service(read_endpoint(document, losses), Placing(), losses)
    assert [line.partition(": ")[0] for line in losses.left_out] == [
        *("config.served_entities[0].workload_size", "config.served_entities[0].price"),
        *("shadows[0].max_in_flight", "sticky", "experiments[0]", "rollout", "residency"),
        *("ai_gateway.fallback_config", "ai_gateway.rate_limits", "tags", "description", "shadows[0]"),
    ]


def test_external_models_are_refused() -> None:
    external = {
        "name": "gpt",
        "external_model": {
            "name": "gpt-4",
            "provider": "openai",
            "task": "llm/v1/chat",
            "openai_config": {"openai_api_key": "{{secrets/a/b}}"},
        },
    }
    with pytest.raises(SettingsError, match=r"config.served_entities\[0\].external_model: got a provider's model; expected"):
        read_endpoint({"name": "chat", "config": {"served_entities": [external]}}, Losses())
