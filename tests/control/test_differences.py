from __future__ import annotations

import dataclasses

from extproc.control.differences import differences
from tests.control.desks import document
from tests.control.test_exchange import record_of


def test_an_entity_goes_by_its_name_wherever_it_stands() -> None:
    one = record_of(document(a=50, b=50))
    other = dataclasses.replace(one, entities=tuple(reversed(one.entities)), updated_ms=9, config_version=7)
    assert differences(one, other) == ()


def test_what_comes_and_what_goes_is_told_field_by_field() -> None:
    one = record_of({**document(a=100), "tags": [{"key": "k", "value": "v"}], "later": {"x": [1]}})
    other = record_of({**document(b=100), "description": "words"})
    assert [tuple(each) for each in differences(one, other)] == [
        ("config.served_entities.a.entity_name", "model-A", None),
        ("config.served_entities.b.entity_name", None, "model-B"),
        ("config.traffic.a", 100, None),
        ("config.traffic.b", None, 100),
        ("tags.k", "v", None),
        ("description", "", "words"),
        ("later.x", [1], None),
    ]
    assert [each.path for each in differences(None, one)] == [each.path for each in differences(one, None)]
