"""Rules and the like as sentences: of each condition that a document may have, and of every document of the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from extproc.api.page import sentences
from extproc.control.changes import Create
from extproc.settings.serving.rules import FieldTest, Match, TextTest, Time
from tests.control.desks import Bench, split

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"entity": "b"}, "All requests go to b."),
        ({"match": [{}], "entity": "b"}, "All requests go to b."),
        (
            {"match": [{"headers": {"x-tier": {"one_of": ["gold", "platinum"]}}, "path": {"prefix": "/v1/"}}], "entity": "b"},
            "Requests where the header x-tier is one of “gold”, “platinum” and the path begins with “/v1/” go to b.",
        ),
        (
            {"match": [{"body": {"metadata.trial": {"equals": True}}}], "split": {"a": 50, "b": 50}},
            "Requests where the body's metadata.trial is true are split: 50 % to a and 50 % to b.",
        ),
        (
            {"match": [{"body": {"n": {"equals": 3}}}, {"headers": {"x": {"present": False}}}], "entity": "b"},
            "Requests where the body's n is 3, or where the header x is not there go to b.",
        ),
        (
            {"match": [{"time": {"hours": "22:00-06:00", "timezone": "Europe/Berlin"}, "percentage": 20.5}], "entity": "b"},
            "Requests where it is from 22:00 to 06:00 (Europe/Berlin) and the user is among 20.5 % of all go to b.",
        ),
        (
            {"match": [{"time": {"days": ["sat", "sun"], "after": "2026-05-01T00:00:00+00:00"}}], "entity": "b"},
            "Requests where it is on Saturday and Sunday after 2026-05-01T00:00:00+00:00 (UTC) go to b.",
        ),
        (
            {"match": [{"segments": ["vip"], "regions": ["eu", "us"], "model": {"suffix": "-x"}}], "entity": "b"},
            "Requests where the model ends with “-x”, the segment is vip and the region is one of eu, us go to b.",
        ),
        (
            {"match": [{"expression": "size(body.messages) > 50"}], "refuse": {"status": 429, "message": "no"}},
            "Requests where size(body.messages) > 50 holds are refused with 429, saying “no”.",
        ),
        ({"match": [{"path": {"exact": "/x"}}], "refuse": {}}, "Requests where the path is “/x” are refused with 403."),
    ],
)
def test_rules(rule: dict[str, Any], text: str) -> None:
    (sentence,) = sentences.rules({"rules": [{"name": "r", **rule}]})
    assert sentence == ("r", text)


def test_experiments_and_shadows() -> None:
    arms = [{"name": "control", "weight": 10, "entity": "a"}, {"name": "treatment", "weight": 10}]
    whole = {"name": "e", "arms": arms, "match": [{"segments": ["vip"]}], "start": "2026-05-01", "end": "2026-06-01"}
    (sentence,) = sentences.experiments({"experiments": [whole | {"overrides": {"ann": "treatment"}}]})
    assert sentence.text == (
        "Users where the segment is vip take part: 10 % are control and get a and 10 % are treatment and are told apart, and "
        "the split decides; 80 % stay outside. It runs from 2026-05-01 until 2026-06-01. 1 user is put into an arm by name."
    )
    (shadow,) = sentences.shadows({"shadows": [{"entity": "b", "percentage": 2.5}]})
    assert shadow.text == "A copy of 2.5 % of the requests goes to b; nobody gets its answers."


def test_every_condition_that_there_is_has_words() -> None:
    """A new one has to be put into words, too."""
    conditions = {"headers", "path", "model", "body", "segments", "regions", "time", "percentage", "expression"}
    assert set(Match.model_fields) - {"name"} == conditions
    ways = {"exact", "prefix", "suffix", "one_of", "present"}
    assert set(TextTest.model_fields) - {"name"} == ways
    assert set(FieldTest.model_fields) - {"name"} == ways | {"equals"}
    assert set(Time.model_fields) - {"name"} == {"after", "before", "days", "hours", "timezone"}


async def test_the_rules_of_the_docs() -> None:
    text = (DOCS / "experiments.md").read_text()
    (rules,) = re.findall(r'(?s)```json\n("rules": .*?)```', text)
    bench = Bench()
    await bench.desk.open()
    entities = {"current": 25, "challenger": 25, "small": 25, "large": 25}
    models = [{"name": name, "entity_name": "model-A"} for name in entities]
    given = {"name": "chat", "config": {"served_entities": models, **split(**entities)}, **json.loads("{" + rules + "}")}
    applied = await bench.desk.apply(Create(given), "alice")
    assert applied.record is not None
    told = sentences.rules(applied.record.delivery)
    assert [each.name for each in told] == ["beta", "trial", "night", "long", "closed"]
    assert told[2].text.startswith("Requests where it is from 22:00 to 06:00 (Europe/Berlin) and the user is among 20 % of all")
    await bench.desk.close()
