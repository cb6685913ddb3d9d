"""What an endpoint has besides entities and split to decide by: fields of our own, at the top of its document.

Each has a file of its own here. `PUT …/config` changes them with the config, as one revision: what is given replaces, `[]`
removes, what is not given stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from extproc.errors import listed
from extproc.settings.base import shown
from extproc.settings.serving.experiments import Experiment, check_experiments
from extproc.settings.serving.fields import Form, said
from extproc.settings.serving.residency import MOST_RESIDENCY, Residency, check_residency
from extproc.settings.serving.rules import Rule, check_rules
from extproc.settings.serving.shadows import MOST_SHADOWS, Shadow, check_shadows

MOST_RULES: Final = 100
MOST_EXPERIMENTS: Final = 50


class Delivery(Form):
    """The fields; a mixin of what is created and of what changes a config."""

    rules: Annotated[list[Rule], Field(max_length=MOST_RULES)] | None = None
    experiments: Annotated[list[Experiment], Field(max_length=MOST_EXPERIMENTS)] | None = None
    shadows: Annotated[list[Shadow], Field(max_length=MOST_SHADOWS)] | None = None
    rollout: dict[str, Any] | Annotated[list[Any], Field(max_length=0)] | None = None
    """The plan by which an entity takes over, when somebody starts it; `rollouts.plan` reads it."""
    residency: Annotated[list[Residency], Field(max_length=MOST_RESIDENCY)] | None = None


FIELDS: Final = tuple(Delivery.__annotations__)


def delivery_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of the fields in the dump of a form; an empty list says that there are to be none."""
    return {field: kept[field] for field in FIELDS if kept.get(field) is not None}


def changed(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields after a change."""
    return {field: value for field, value in {**before, **given}.items() if value}


def check(delivery: Mapping[str, Any], entities: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    """What is wrong with the fields as a whole: names that are used twice, entities that the endpoint has not."""
    names = [entity["name"] for entity in entities]
    return [
        *check_rules(delivery.get("rules", ()), names, prefix),
        *check_experiments(delivery.get("experiments", ()), names, prefix),
        *check_shadows(delivery.get("shadows", ()), entities, prefix),
        *check_residency(delivery.get("residency", ()), names, prefix),
    ]


def unknown_segments(
    delivery: Mapping[str, Any], known: Collection[str], prefix: str, before: Mapping[str, Any] = {}
) -> list[str]:
    """What names a segment that the gateway has not. What was there before as it is stays, as segments may go."""
    problems = []
    for field in ("rules", "experiments", "residency"):
        same = before.get(field, ())
        for index, each in enumerate(delivery.get(field, ())):
            if each in same:
                continue
            for place, match in enumerate(each.get("match", ())):
                for name in match.get("segments", ()):
                    if name not in known:
                        words = f"got {shown(name)}; expected one of the gateway's segments: {listed(known)}"
                        problems.append(said(f"{prefix}{field}[{index}].match[{place}].segments", words))
    return problems
