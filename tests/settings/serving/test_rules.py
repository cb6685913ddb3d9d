"""Rules as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.serving import read_config, read_create
from extproc.settings.serving.delivery import changed, check

ENTITIES = [{"name": "a", "entity_name": "model-A"}]


def document(*rules: Any) -> dict[str, Any]:
    return {"name": "chat", "config": {"served_entities": ENTITIES}, "rules": list(rules)}


def kept(*rules: Any) -> Any:
    return read_create(document(*rules)).config.delivery["rules"]


def problems(*rules: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read_create(document(*rules))
    return raised.value.problems


def test_what_is_kept_is_whole() -> None:
    rule = {
        "name": "gold",
        "match": {
            "headers": {"X-Tier": "gold", "x-country": {"one_of": ["de", "fr"]}},
            "path": {"prefix": "/v1/"},
            "model": {"suffix": "-large"},
            "body": {"metadata.beta": True, "n": 1, "user": {"present": True}},
            "regions": ["eu-west"],
            "time": {"days": ["mon"], "hours": "22:00-06:00", "timezone": "Europe/Berlin", "after": "2026-01-01T00:00:00Z"},
            "percentage": 12.5,
            "expression": "size(model) > 3",
        },
        "split": {"a": "100"},
    }
    (read,) = kept(rule)
    assert read == {
        "name": "gold",
        "match": [
            {
                "headers": {"x-tier": {"exact": "gold"}, "x-country": {"one_of": ["de", "fr"]}},
                "path": {"prefix": "/v1/"},
                "model": {"suffix": "-large"},
                "body": {"metadata.beta": {"equals": True}, "n": {"equals": 1}, "user": {"present": True}},
                "regions": ["eu-west"],
                "time": {
                    "days": ["mon"],
                    "hours": "22:00-06:00",
                    "timezone": "Europe/Berlin",
                    "after": "2026-01-01T00:00:00+00:00",
                },
                "percentage": 12.5,
                "expression": "size(model) > 3",
            }
        ],
        "split": {"a": 100},
    }
    assert kept(read) == [read]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"name": "r"}, "rules[0]: got an object with 1 keys; expected one of entity, split and refuse"),
        ({"name": "r", "entity": "a", "refuse": {"status": 403}}, "expected one of entity, split and refuse"),
        ({"name": "r", "split": {"a": 60}}, "split adds up to 60; expected 100"),
        ({"name": "r", "refuse": {"status": 200}}, "rules[0].refuse.status: got 200; expected a status from 400 to 599"),
        ({"name": "r", "entity": "a", "mach": {"path": "/"}}, "rules[0].mach: unknown key; expected only keys that are known"),
        ({"name": "r", "entity": "a", "match": {"header": {"x": "1"}}}, "rules[0].match[0].header: unknown key"),
        ({"name": "r", "entity": "a", "match": {"path": {"regex": "x"}}}, "rules[0].match[0].path.regex: unknown key"),
        ({"name": "r", "entity": "a", "match": {"path": {"exact": "/", "prefix": "/"}}}, "expected one of exact, prefix"),
        ({"name": "r", "entity": "a", "match": {"headers": {"x y": "1"}}}, "expected the name of a header"),
        ({"name": "r", "entity": "a", "match": {"body": {"a..b": "1"}}}, "expected a field's name"),
        (
            {"name": "r", "entity": "a", "match": {"expression": 'model == "m" && modle == 1'}},
            "rules[0].match[0].expression: got 'model == \"m\" && modle == 1'; line 1, column 17: undeclared",
        ),
        (
            {"name": "r", "entity": "a", "match": {"percentage": 0.001}},
            "rules[0].match[0].percentage: got 0.001; expected",
        ),
        ({"name": "r", "entity": "a", "match": {"time": {"after": "2026-01-01"}}}, "expected a time with its zone"),
        ({"name": "r", "entity": "a", "match": {"time": {"hours": "9-17"}}}, "expected hours such as 09:00-17:30"),
        ({"name": "r", "entity": "a", "match": {"time": {"hours": "09:00-24:30"}}}, "expected hours such as 09:00-17:30"),
        ({"name": "r", "entity": "a", "match": {"time": {"timezone": "Europe/../x"}}}, "expected a time zone such as Europe"),
        ({"name": "r", "entity": "a", "match": {"time": {"days": ["monday"]}}}, "expected 'mon', 'tue'"),
        (
            {"name": "r", "entity": "a", "match": {"time": {"after": "2026-01-01T00:00Z", "before": "2025-01-01T00:00Z"}}},
            "before is not behind after",
        ),
    ],
)
def test_what_is_wrong_is_said(rule: Any, problem: str) -> None:
    assert any(problem in line for line in problems(rule)), problems(rule)


def test_in_the_config_it_is_in_the_wrong_place() -> None:
    with pytest.raises(SettingsError) as raised:
        read_create({"name": "chat", "config": {"served_entities": ENTITIES, "rules": []}})
    assert raised.value.problems == [
        "config.rules: got it in the config; expected it beside the config, at the top of the endpoint"
    ]


def test_a_change_of_the_config_may_be_of_rules_alone() -> None:
    form, _ = read_config({"rules": [{"name": "r", "entity": "a"}]}, "chat")
    assert (form.entities, form.delivery) == (None, {"rules": [{"name": "r", "entity": "a"}]})
    assert read_config({"rules": []}, "chat")[0].delivery == {"rules": []}
    assert changed({"rules": [1]}, {}) == {"rules": [1]}
    assert changed({"rules": [1]}, {"rules": []}) == {}


def test_names_are_those_of_the_endpoint_and_each_once() -> None:
    rules = kept({"name": "r", "entity": "z"}, {"name": "r", "split": {"a": 50, "y": 50}})
    assert check({"rules": rules}, [{"name": "a"}, {"name": "b"}], "x.") == [
        "x.rules[0].name: got 'r' 2 times; expected a name of its own for each rule",
        "x.rules[0].entity: got 'z'; expected one of the endpoint's served entities: a, b",
        "x.rules[1].name: got 'r' 2 times; expected a name of its own for each rule",
        "x.rules[1].split: got 'y'; expected one of the endpoint's served entities: a, b",
    ]
