"""A/B experiments of an endpoint: arms with weights, who may take part, from when to when, and who tests which arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from extproc.errors import listed
from extproc.settings.base import shown
from extproc.settings.serving.fields import Closed, Label, Name, Percentage, said
from extproc.settings.serving.rules import MOST_MATCHES, Match, Moment, one_or_more

MOST_ARMS: Final = 20
MOST_OVERRIDES: Final = 1000


class Arm(Closed):
    """One of `arms`."""

    name: Name
    weight: Percentage
    entity: Name | None = None


class Experiment(Closed):
    """One of `experiments`."""

    name: Name
    arms: Annotated[list[Arm], Field(min_length=1, max_length=MOST_ARMS)]
    match: Annotated[list[Match], Field(min_length=1, max_length=MOST_MATCHES)] | None = None
    salt: Label | None = None
    start: Moment | None = None
    end: Moment | None = None
    overrides: Annotated[dict[Label, Name], Field(max_length=MOST_OVERRIDES)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_match(cls, values: object) -> object:
        return one_or_more(values)

    @model_validator(mode="after")
    def _holds_together(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms are called {', '.join(names)}; expected a name of its own for each")
        if (total := sum(arm.weight for arm in self.arms)) > 100:
            raise ValueError(f"the weights of the arms add up to {total}; expected at most 100")
        if unknown := sorted(set((self.overrides or {}).values()) - set(names)):
            raise ValueError(f"overrides has {listed(unknown)}; expected one of the arms: {listed(names)}")
        if self.start and self.end and datetime.fromisoformat(self.start) >= datetime.fromisoformat(self.end):
            raise ValueError("end is not behind start; expected a time that begins before it ends")
        return self


def check_experiments(experiments: Sequence[Mapping[str, Any]], entities: Collection[str], prefix: str) -> list[str]:
    """Problems of the experiments of an endpoint that has these entities."""
    problems = []
    often = Counter(experiment["name"] for experiment in experiments)
    for index, experiment in enumerate(experiments):
        path, name = f"{prefix}experiments[{index}]", experiment["name"]
        if often[name] > 1:
            problems.append(said(f"{path}.name", f"got {shown(name)} {often[name]} times; expected a name of its own"))
        for position, arm in enumerate(experiment["arms"]):
            if "entity" in arm and arm["entity"] not in entities:
                words = f"got {shown(arm['entity'])}; expected one of the endpoint's served entities: {listed(entities)}"
                problems.append(said(f"{path}.arms[{position}].entity", words))
    return problems
