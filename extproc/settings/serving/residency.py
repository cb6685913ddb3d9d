"""Data residency: rules that say which regions may serve a request. All that match have to be kept.

The same form stands in a gateway's file, below `regions`, and in the document of an endpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from extproc.errors import listed
from extproc.settings.base import shown
from extproc.settings.serving.fields import Closed, Name, is_name, said
from extproc.settings.serving.rules import MOST_MATCHES, MOST_VALUES, Match, one_or_more

OWN: Final = "own"
"""Instead of a list: the region that the request comes from."""
MOST_RESIDENCY: Final = 100


def _regions(value: object) -> object:
    listed_well = isinstance(value, list) and 0 < len(value) <= MOST_VALUES and all(is_name(each) for each in value)
    if value == OWN or listed_well:
        return value
    raise ValueError(f"expected {OWN}, for the region that a request comes from, or a list of regions' names")


class Residency(Closed):
    """One rule."""

    name: Name
    stay_in: Annotated[str | list[str], BeforeValidator(_regions)]
    match: Annotated[list[Match], Field(min_length=1, max_length=MOST_MATCHES)] | None = None
    entities: Annotated[list[Name], Field(min_length=1, max_length=200)] | None = None
    """Served entities that it is about; all when absent. Of an endpoint only."""

    @model_validator(mode="before")
    @classmethod
    def _one_match(cls, values: object) -> object:
        return one_or_more(values)

    @model_validator(mode="after")
    def _of_whole_sets(self) -> Residency:
        if any(match.percentage is not None for match in self.match or ()):
            raise ValueError("match has a percentage; expected none, as residency by chance protects nobody")
        return self

    @property
    def regions(self) -> tuple[str, ...]:
        """() is the request's own."""
        return () if isinstance(self.stay_in, str) else tuple(self.stay_in)


def twice(names: Sequence[str], path: str) -> list[str]:
    """Problems of rules whose names are those of others."""
    often = Counter(names)
    return [
        said(f"{path}[{index}].name", f"got {shown(name)} {often[name]} times; expected a name of its own for each rule")
        for index, name in enumerate(names)
        if often[name] > 1
    ]


def check_residency(rules: Sequence[Mapping[str, Any]], entities: Collection[str], prefix: str) -> list[str]:
    """Problems of the rules of an endpoint that has these entities."""
    path = f"{prefix}residency"
    problems = twice([rule["name"] for rule in rules], path)
    for index, rule in enumerate(rules):
        for name in rule.get("entities", ()):
            if name not in entities:
                words = f"got {shown(name)}; expected one of the endpoint's served entities: {listed(entities)}"
                problems.append(said(f"{path}[{index}].entities", words))
    return problems


def unknown_regions(
    rules: Sequence[Mapping[str, Any]],
    regions: Collection[str],
    prefix: str,
    before: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """What names a region that the gateway has not, or has rules where it has none. What was there before as it is stays."""
    problems = []
    for index, rule in enumerate(rules):
        if rule in before:
            continue
        path = f"{prefix}residency[{index}]"
        if not regions:
            problems.append(said(path, f"got the rule {shown(rule['name'])}; {_NONE}"))
            continue
        named = () if isinstance(rule["stay_in"], str) else rule["stay_in"]
        problems += [said(f"{path}.stay_in", _not_there(name, regions)) for name in named if name not in regions]
    return problems


def regions_of_entities(
    entities: Sequence[Mapping[str, Any]],
    regions: Collection[str],
    path: str,
    before: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The same of external models that say where they are served."""
    return [
        said(f"{path}[{index}].region", _not_there(entity["region"], regions) if regions else f"got a region; {_NONE}")
        for index, entity in enumerate(entities)
        if "region" in entity and entity["region"] not in regions and entity not in before
    ]


_NONE: Final = "expected none, as the gateway's config has no regions"


def _not_there(name: str, regions: Collection[str]) -> str:
    return f"got {shown(name)}; expected one of the gateway's regions: {listed(regions)}"
