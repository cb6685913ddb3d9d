"""Experiments as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create
from extproc.settings.serving.delivery import check, unknown_segments

ARMS = [{"name": "control", "weight": 50, "entity": "a"}, {"name": "treatment", "weight": "50", "entity": "b"}]


def document(**experiment: Any) -> dict[str, Any]:
    entities = [{"name": each, "entity_name": f"model-{each}"} for each in "ab"]
    return {"name": "chat", "config": {"served_entities": entities}, "experiments": [{"name": "e", "arms": ARMS, **experiment}]}


def test_what_is_kept_is_whole() -> None:
    written = {
        "match": {"segments": ["beta"]},
        "salt": "2026",
        "start": "2026-05-01T00:00:00Z",
        "end": "2026-06-01T00:00:00+02:00",
        "overrides": {"ann": "treatment"},
    }
    assert read_create(document(**written)).config.delivery["experiments"] == [
        {
            "name": "e",
            "arms": [{"name": "control", "weight": 50, "entity": "a"}, {"name": "treatment", "weight": 50, "entity": "b"}],
            "match": [{"segments": ["beta"]}],
            "salt": "2026",
            "start": "2026-05-01T00:00:00+00:00",
            "end": "2026-06-01T00:00:00+02:00",
            "overrides": {"ann": "treatment"},
        }
    ]


@pytest.mark.parametrize(
    ("experiment", "problem"),
    [
        ({"arms": []}, "experiments[0].arms: got a list of 0; expected at least 1"),
        ({"arms": [*ARMS, {"name": "third", "weight": 1}]}, "the weights of the arms add up to 101; expected at most 100"),
        ({"arms": [ARMS[0], ARMS[0]]}, "arms are called control, control; expected a name of its own for each"),
        ({"arms": [{"name": "a", "weight": 0.5}]}, "expected a whole number from 0 to 100"),
        ({"overrides": {"ann": "third"}}, "overrides has third; expected one of the arms: control, treatment"),
        ({"start": "2026-06-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}, "end is not behind start"),
        ({"start": "2026-06-01"}, "expected a time with its zone"),
        ({"weight": 3}, "experiments[0].weight: unknown key"),
    ],
)
def test_what_is_wrong_is_said(experiment: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_create(document(**experiment))
    assert any(problem in line for line in raised.value.problems), raised.value.problems


def test_entities_are_the_endpoints_and_names_their_own() -> None:
    delivery = read_create(document()).config.delivery
    assert check(delivery, [{"name": "a"}], "") == [
        "experiments[0].arms[1].entity: got 'b'; expected one of the endpoint's served entities: a"
    ]
    twice = {"experiments": [*delivery["experiments"], *delivery["experiments"]]}
    assert "experiments[1].name: got 'e' 2 times; expected a name of its own" in check(
        twice, [{"name": "a"}, {"name": "b"}], ""
    )


def test_segments_are_the_gateways() -> None:
    delivery = read_create(document(match=[{"model": "m"}, {"segments": ["beta", "gamma"]}])).config.delivery
    assert unknown_segments(delivery, ["beta"], "x.") == [
        "x.experiments[0].match[1].segments: got 'gamma'; expected one of the gateway's segments: beta"
    ]
    assert unknown_segments(delivery, [], "", before=delivery) == []
