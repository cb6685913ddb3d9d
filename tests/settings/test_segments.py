"""Segments of a gateway's file."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError, validate
from extproc.settings.segments import SegmentSettings


@pytest.mark.parametrize(
    "written",
    [
        {"name": "gold", "header": {"name": "X-Tier", "one_of": ["gold", "platinum"]}},
        {"name": "staff", "groups": ["staff"]},
        {"name": "robots", "subjects": ["ci"]},
        {"name": "vip", "keys": ["ann"]},
        {"name": "vip", "file": "vip.txt"},
        {"name": "some", "percentage": 12.5, "salt": "2026"},
    ],
)
def test_each_way(written: dict[str, Any]) -> None:
    segment = validate(SegmentSettings, written)
    assert segment.name == written["name"]
    assert segment.header is None or segment.header.name == "x-tier"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"name": "x"}, "expected one of header, groups, subjects, keys, file and percentage"),
        ({"name": "x", "keys": ["a"], "groups": ["b"]}, "expected one of header, groups"),
        ({"name": "x", "keys": ["a"], "salt": "b"}, "salt belongs to percentage"),
        ({"name": "x", "header": {"name": "x-tier"}}, "expected one of exact, prefix, suffix, one_of, present"),
        ({"name": "x", "header": {"name": "x tier", "exact": "a"}}, "expected the name of a header"),
        ({"name": "x", "percentage": 101}, "expected more than 0, at most 100"),
        ({"name": "x y", "keys": ["a"]}, "expected a name of 1 to 128 letters"),
        ({"name": "x", "key": ["a"]}, "key: unknown key"),
    ],
)
def test_what_is_wrong_is_said(written: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem.replace("[", r"\[")):
        validate(SegmentSettings, written)
