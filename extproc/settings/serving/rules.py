"""Rules of an endpoint: in order, the first that matches a request decides before the split does.

A rule sends to an entity, splits by itself, or refuses. All conditions of a match must hold; of several matches, one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from extproc.errors import listed
from extproc.settings.base import shown
from extproc.settings.serving.fields import Closed, Label, Name, Percentage, Text, header_name, said, whole

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
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected one of {', '.join(type(self).model_fields)}")
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


class Match(Closed):
    """Conditions; all must hold."""

    headers: Annotated[dict[HeaderName, TextTest], Field(min_length=1, max_length=20)] | None = None
    path: TextTest | None = None
    model: TextTest | None = None
    body: Annotated[dict[FieldPath, FieldTest], Field(min_length=1, max_length=20)] | None = None


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
        if isinstance(values, dict) and isinstance(values.get("match"), dict):
            return {**values, "match": [values["match"]]}
        return values

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
