"""Rules of an endpoint: in order, the first that matches a request decides before the split does.

A rule sends to an entity, splits by itself, or refuses. All conditions of a match must hold; of several matches, one.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, model_validator

from extproc.errors import listed
from extproc.expressions import compiled
from extproc.settings.base import shown
from extproc.settings.serving.fields import Closed, Label, Name, Percentage, Text, header_name, said, whole

_HOUR: Final = re.compile(r"([0-2]\d):([0-5]\d)")
MOST_MATCHES: Final = 16
MOST_VALUES: Final = 1000
"""Of a list in a condition; more belong into a segment's file."""


class TextTest(Closed):
    """What a text is compared with. A text by itself is `exact`."""

    exact: Text | None = None
    prefix: Label | None = None
    suffix: Label | None = None
    one_of: Annotated[list[Text], Field(min_length=1, max_length=MOST_VALUES)] | None = None
    present: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return {"exact": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> TextTest:
        ways = [field for field in type(self).model_fields if field != "name"]
        if len(self.model_fields_set.intersection(ways)) != 1:
            raise ValueError(f"expected one of {', '.join(ways)}")
        return self


class FieldTest(TextTest):
    """The same for a field of a JSON body, which may be a number or a switch: those by themselves are `equals`."""

    equals: bool | int | float | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return {"equals": value} if isinstance(value, bool | int | float) else value


def _path_of_field(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 256 or not all(value.split(".")) or value.count(".") > 7:
        raise ValueError("expected a field's name, or up to 8 of them with dots between, such as metadata.tier")
    return value


HeaderName = Annotated[str, BeforeValidator(header_name)]
FieldPath = Annotated[str, BeforeValidator(_path_of_field)]


def minute_of(hour: str) -> int:
    """Minutes from midnight to `09:30`; `24:00` is the end of the day. Raises ValueError."""
    found = _HOUR.fullmatch(hour)
    minute = -1 if found is None else int(found[1]) * 60 + int(found[2])
    if not 0 <= minute <= 24 * 60:
        raise ValueError("expected hours such as 09:00-17:30, or 22:00-06:00 over midnight")
    return minute


def _hours(value: object) -> str:
    begin, dash, end = value.partition("-") if isinstance(value, str) else ("", "", "")
    if not dash or minute_of(begin) == minute_of(end):
        raise ValueError("expected hours such as 09:00-17:30, or 22:00-06:00 over midnight")
    return f"{begin}-{end}"


def _moment(value: object) -> str:
    moment = value if isinstance(value, datetime) else None
    if isinstance(value, str) and len(value) <= 64:
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(value)
    if moment is None or moment.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-05-01T09:00:00+02:00 or ...Z")
    return moment.isoformat()


def _zone(value: object) -> str:
    try:
        return ZoneInfo(value if isinstance(value, str) else "").key
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise ValueError("expected a time zone such as Europe/Berlin") from None


def _share(value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 < number <= 100 or abs(number * 100 - round(number * 100)) > 1e-9:
        raise ValueError("expected more than 0, at most 100, with two decimals at most")
    return number


def _expression(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected an expression in CEL")
    compiled(value)
    return value


Moment = Annotated[str, BeforeValidator(_moment)]
"""A time with its zone."""
Share = Annotated[int | float, BeforeValidator(_share)]
"""In percent."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final = get_args(Day)


class Time(Closed):
    """When: by the calendar, by the day of the week, by the hour."""

    after: Moment | None = None
    before: Moment | None = None
    days: Annotated[list[Day], Field(min_length=1, max_length=7)] | None = None
    hours: Annotated[str, BeforeValidator(_hours)] | None = None
    timezone: Annotated[str, BeforeValidator(_zone)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Time:
        if self.after and self.before and datetime.fromisoformat(self.after) >= datetime.fromisoformat(self.before):
            raise ValueError("before is not behind after; expected a time that begins before it ends")
        return self


class Match(Closed):
    """Conditions; all must hold."""

    headers: Annotated[dict[HeaderName, TextTest], Field(min_length=1, max_length=20)] | None = None
    path: TextTest | None = None
    model: TextTest | None = None
    body: Annotated[dict[FieldPath, FieldTest], Field(min_length=1, max_length=20)] | None = None
    segments: Annotated[list[Name], Field(min_length=1, max_length=MOST_VALUES)] | None = None
    regions: Annotated[list[Label], Field(min_length=1, max_length=MOST_VALUES)] | None = None
    time: Time | None = None
    percentage: Share | None = None
    expression: Annotated[str, BeforeValidator(_expression)] | None = None


def one_or_more(values: object) -> object:
    """What has a `match`, which may be one by itself or a list."""
    if isinstance(values, dict) and isinstance(values.get("match"), dict):
        return {**values, "match": [values["match"]]}
    return values


class Refusal(Closed):
    """An answer instead of any entity's."""

    status: Annotated[int, whole(400, 599, "a status from 400 to 599")] = 403
    message: Label | None = None


class Rule(Closed):
    """One of `rules`."""

    name: Name
    match: Annotated[list[Match], Field(min_length=1, max_length=MOST_MATCHES)] | None = None
    entity: Name | None = None
    split: Annotated[dict[Name, Percentage], Field(min_length=1, max_length=200)] | None = None
    refuse: Refusal | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_match(cls, values: object) -> object:
        return one_or_more(values)

    @model_validator(mode="after")
    def _one_action(self) -> Rule:
        if sum(each is not None for each in (self.entity, self.split, self.refuse)) != 1:
            raise ValueError("expected one of entity, split and refuse")
        if self.split is not None and (total := sum(self.split.values())) != 100:
            raise ValueError(f"split adds up to {total}; expected 100")
        return self


def check_rules(rules: Sequence[Mapping[str, Any]], entities: Collection[str], prefix: str) -> list[str]:
    """Problems of the rules of an endpoint that has these entities."""
    problems = []
    often = Counter(rule["name"] for rule in rules)
    for index, rule in enumerate(rules):
        path = f"{prefix}rules[{index}]"
        if often[rule["name"]] > 1:
            words = f"got {shown(rule['name'])} {often[rule['name']]} times; expected a name of its own for each rule"
            problems.append(said(f"{path}.name", words))
        named = [("entity", rule["entity"])] if "entity" in rule else [("split", name) for name in rule.get("split", ())]
        for field, name in named:
            if name not in entities:
                words = f"got {shown(name)}; expected one of the endpoint's served entities: {listed(entities)}"
                problems.append(said(f"{path}.{field}", words))
    return problems
