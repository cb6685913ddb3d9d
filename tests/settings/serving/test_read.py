from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.settings.serving import (
    MAX_DOCUMENT_BYTES,
    read_config,
    read_create,
    read_gateway,
    read_notifications,
    read_rate_limits,
    read_tags,
    read_telemetry,
)
from extproc.settings.serving.split import Share
from tests.settings.serving.documents import KEY, external, openai, own


def problems(document: object) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read_create(document)
    return list(raised.value.problems)


def with_routes(*percentages: object) -> dict[str, Any]:
    document = own()
    document["config"]["traffic_config"]["routes"] = [
        {"served_entity_name": name, "traffic_percentage": each}
        for name, each in zip(["current", "challenger"], percentages, strict=False)
    ]
    return document


def test_the_articles_first_example_is_read() -> None:
    form = read_create(own())
    assert form.name == "chat"
    assert [entity["entity_name"] for entity in form.config.entities or []] == ["model-current", "model-challenger"]
    assert form.config.shares == [
        Share("current", 90, "config.traffic_config.routes[0]"),
        Share("challenger", 10, "config.traffic_config.routes[1]"),
    ]
    assert form.sticky


@pytest.mark.parametrize(("given", "read"), [("90", 90), (90, 90), (90.0, 90), (" 0 ", 0), ("100", 100)])
def test_percentages_are_whole_numbers_however_they_are_written(given: object, read: int) -> None:
    (share,) = read_create(with_routes(given)).config.shares or []
    assert share.percentage == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ninety", "got 'ninety'"),
        (90.5, "got 90.5"),
        ("90.5", "got '90.5'"),
        (-1, "got -1"),
        (101, "got 101"),
        (True, "got True"),
        (None, "got nothing"),
        ([90], "got a list of 1"),
        ({"value": 90}, "got an object with 1 keys"),
    ],
)
def test_what_is_no_percentage_is_said_with_its_path_and_value(given: object, said: str) -> None:
    (line,) = problems(with_routes(given))
    assert line.startswith(f"config.traffic_config.routes[0].traffic_percentage: {said}; expected ")


@pytest.mark.parametrize("given", [float("nan"), float("inf"), -float("inf"), 10**40])
def test_numbers_that_json_readers_differ_on_are_refused(given: object) -> None:
    (line,) = problems(with_routes(given))
    assert line.startswith("config.traffic_config.routes[0].traffic_percentage: got ")
    assert "expected" in line


def test_all_problems_are_said_at_once() -> None:
    document = own("a name")
    document["config"]["served_entities"][0]["entity_name"] = 3
    document["config"]["traffic_config"]["routes"][1]["traffic_percentage"] = "many"
    document["tags"] = "none"
    document["ai_gateway"] = {"rate_limits": [{"renewal_period": "hour", "calls": -1}]}
    paths = [line.partition(":")[0] for line in problems(document)]
    assert paths == [
        "name",
        "config.served_entities[0].entity_name",
        "config.traffic_config.routes[1].traffic_percentage",
        "tags",
        "ai_gateway.rate_limits[0].renewal_period",
        "ai_gateway.rate_limits[0].calls",
    ]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "ä", "a" * 129, 3, None, ["a"], "a\n"])
def test_names_are_letters_digits_dashes_and_underscores(name: object) -> None:
    document = own()
    document["name"] = name
    assert [line.partition(":")[0] for line in problems(document)] == ["name"]


def test_both_keys_of_a_route_may_be_given_when_they_agree() -> None:
    document = own()
    route = document["config"]["traffic_config"]["routes"][0]
    route["served_entity_name"] = "current"
    assert (read_create(document).config.shares or [])[0].entity == "current"
    route["served_entity_name"] = "challenger"
    (line,) = problems(document)
    assert line.startswith("config.traffic_config.routes[0]: ")
    assert "differ" in line


def test_served_models_is_the_same_in_the_words_of_before() -> None:
    document: dict[str, Any] = {
        "name": "old",
        "config": {"served_models": [{"model_name": "ads1", "model_version": "1", "workload_size": "Small"}]},
    }
    form = read_create(document)
    assert form.config.entities == [{"workload_size": "Small", "entity_name": "ads1", "entity_version": "1"}]
    document["config"]["served_entities"] = own()["config"]["served_entities"]
    (line,) = problems(document)
    assert "served_models and served_entities are both given" in line


def test_fields_of_their_cloud_and_of_times_to_come_are_kept() -> None:
    document = own()
    document["config"]["served_entities"][0] |= {
        "workload_type": "GPU_SMALL",
        "min_provisioned_throughput": "10",
        "new": {"a": 1},
    }
    document |= {"route_optimized": True, "budget_policy_id": "b", "later": [1]}
    form = read_create(document)
    assert (form.config.entities or [])[0] == {
        "name": "current",
        "entity_name": "model-current",
        "entity_version": "1",
        "workload_type": "GPU_SMALL",
        "min_provisioned_throughput": 10,
        "new": {"a": 1},
    }
    assert form.rest == {"route_optimized": True, "budget_policy_id": "b", "later": [1]}


def test_a_write_only_field_is_taken_and_not_kept() -> None:
    document = own()
    document["config"]["served_entities"][0]["burst_scaling_enabled"] = True
    assert "burst_scaling_enabled" not in (read_create(document).config.entities or [])[0]


@pytest.mark.parametrize(("slip", "meant"), [("trafic_config", "traffic_config"), ("served_entites", "served_entities")])
def test_a_slip_of_the_pen_is_no_field_of_times_to_come(slip: str, meant: str) -> None:
    document = own()
    document["config"][slip] = document["config"].pop(meant)
    assert f"config.{slip}: unknown key; expected {meant}" in problems(document)


@pytest.mark.parametrize("document", [None, [], "text", 3, True, {}, {"name": "a"}, {"name": "a", "config": {}}])
def test_what_is_no_endpoint_is_refused(document: object) -> None:
    assert all("expected" in line for line in problems(document))


def test_a_document_of_two_megabytes_is_refused() -> None:
    (line,) = problems({**own(), "future": "x" * 2_000_000})
    assert line.startswith("got 2000")
    assert line.endswith(f"expected at most {MAX_DOCUMENT_BYTES}")


def test_a_document_that_is_deeper_than_any_reader_goes_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    (line,) = problems({**own(), "future": deep})
    assert "expected at most 24 objects and lists in each other" in line


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_half_a_character_is_refused_where_it_stands(text: str) -> None:
    assert problems({**own(), "description": text}) == [
        "description: expected text in Unicode, and half of a character is in it"
    ]
    assert "expected text in Unicode as key" in problems({**own(), text: 1})[0]


def test_the_name_in_the_config_is_the_endpoints() -> None:
    document = own()
    document["config"]["name"] = "chat"
    assert read_create(document).name == "chat"
    document["config"]["name"] = "other"
    assert problems(document) == ["config.name: got 'other'; expected the endpoint's name, 'chat', or nothing"]


def test_part_of_a_config_is_read() -> None:
    config, sticky = read_config(
        {"traffic_config": {"routes": [{"served_model_name": "a", "traffic_percentage": "100"}]}}, "chat"
    )
    assert config.entities is None
    assert config.shares == [Share("a", 100, "traffic_config.routes[0]")]
    assert sticky is None
    assert read_config({"sticky": "none"}, "chat")[1] is False


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "got nothing to change; expected served_entities, traffic_config or both"),
        ({"sticky": 3}, "sticky: got 3; expected 'key' or 'none'"),
        ({"name": "other", "sticky": "none"}, "name: got 'other'; expected the endpoint's name, 'chat', or nothing"),
        ({"served_entities": []}, "served_entities: got a list of 0; expected at least 1"),
        ([], "got a list of 0; expected an object"),
    ],
)
def test_what_is_no_part_of_a_config_is_refused(document: object, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_config(document, "chat")
    assert list(raised.value.problems) == [said]


def test_guardrails_that_nobody_would_enforce_are_refused() -> None:
    assert read_gateway({"guardrails": {"input": {"pii": {"behavior": "NONE"}, "safety": False}}})
    for check in ({"safety": True}, {"pii": {"behavior": "BLOCK"}}, {"invalid_keywords": ["x"]}, {"valid_topics": ["x"]}):
        with pytest.raises(SettingsError, match="not enforced"):
            read_gateway({"guardrails": {"output": check}})


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([{"renewal_period": "minute"}], "rate_limits[0]: got an object with 1 keys; expected calls, tokens or both"),
        ([{"renewal_period": "minute", "calls": 1, "key": "user_group"}], "expected principal with key user_group"),
        ([{"renewal_period": "minute", "calls": 1, "principal": "x"}], "principal does not belong to key endpoint"),
        ([{"renewal_period": "minute", "calls": 1}] * 2, "rate_limits has two limits for endpoint"),
    ],
)
def test_rate_limits_say_whose_and_how_many(limits: object, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_gateway({"rate_limits": limits})
    assert said in raised.value.problems[0]


def test_the_small_documents_are_read() -> None:
    assert read_tags({"add_tags": [{"key": "a"}, {"key": "b", "value": "2"}], "delete_tags": ["c"]}) == (
        {"a": None, "b": "2"},
        ["c"],
    )
    assert read_rate_limits({"rate_limits": [{"calls": "5", "renewal_period": "minute"}]}) == [
        {"calls": 5, "renewal_period": "minute"}
    ]
    assert read_rate_limits({}) == []
    assert read_notifications({"email_notifications": {"on_update_failure": ["a@b"]}}) == {"on_update_failure": ["a@b"]}
    assert read_notifications({}) == {}
    assert read_telemetry({"telemetry_config": {"table_names": {"logs_table": "x"}}}) == {"table_names": {"logs_table": "x"}}
    assert read_telemetry({}) == {}


# -- whatever comes -------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
READERS = [
    read_create,
    lambda document: read_config(document, "chat"),
    read_tags,
    read_rate_limits,
    read_gateway,
    read_notifications,
    read_telemetry,
]
WHOLE = {
    **external(openai(), openai("second", openai_api_key_plaintext=KEY)),
    "tags": [{"key": "a", "value": "b"}],
    "ai_gateway": {"fallback_config": {"enabled": True}, "rate_limits": [{"renewal_period": "minute", "calls": 1}]},
    "rate_limits": [{"calls": 1, "renewal_period": "minute"}],
    "email_notifications": {"on_update_failure": ["x"]},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[each for key, inner in inside for each in places(inner, (*path, key))]]


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    document = copy.deepcopy(WHOLE)
    if not path:
        return value
    part: Any = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return document


def refusal(document: object) -> str:
    """The problems' text, '' when it is read."""
    try:
        read_create(document)
    except SettingsError as error:
        return str(error.problems)
    return ""


def check(reader: Any, document: object) -> None:
    """It is read, or every problem says what was expected; and what is read can be written."""
    try:
        form = reader(document)
    except SettingsError as error:
        form = None
        assert_said(list(error.problems))
    json.dumps(form, allow_nan=False)


def assert_said(problems: list[str]) -> None:
    assert problems
    assert all("expected" in line and len(line) < 1000 and "\n" not in line for line in problems)


def test_a_key_that_can_t_be_printed_is_spelled() -> None:
    with pytest.raises(SettingsError) as error:
        read_create({"a\nb": 2**63})
    assert error.value.problems == ["a\\nb: got a number of very many digits; expected one of at most 64 bits"]


@pytest.mark.parametrize("reader", READERS)
@given(document=VALUES)
def test_any_value_is_read_or_refused_in_words(reader: Any, document: Any) -> None:
    check(reader, document)


@given(st.sampled_from(places(WHOLE)), VALUES)
def test_any_value_anywhere_in_an_endpoint_is_read_or_refused_in_words(path: tuple[Any, ...], value: Any) -> None:
    check(read_create, replaced(path, value))


@given(st.sampled_from([path for path in places(WHOLE) if "external_model" in path]), st.sampled_from([KEY, [KEY], {"a": KEY}]))
def test_what_stands_where_a_key_may_be_is_never_quoted(path: tuple[Any, ...], value: Any) -> None:
    if path[-1] in ("name", "provider", "task"):
        return
    assert KEY not in refusal(replaced(path, value))
