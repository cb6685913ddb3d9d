"""One plugin by its type, without a config around it; and configs with plugins of tests in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from extproc.candidates import Candidates
from extproc.scheduling import Blueprint, Cycle, Scheduler, build_scheduler
from extproc.scheduling.facts import PREFIX_MATCH, PROMPT, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import FILTER, PRODUCER, Clock, PluginType, Random
from extproc.scheduling.plugins.parameters import Parameters
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from extproc.testing import kit, make
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock

__all__ = [
    "FAKES",
    "Keys",
    "OnlyThese",
    "TellsMatch",
    "TellsPrompt",
    "Told",
    "blueprint_of",
    "figures_of",
    "kit",
    "make",
    "problems_of",
    "scheduler_of",
]


class TellsPrompt(Parameters):
    """What a `told-prompt` says."""

    tokens: int = 0
    multimodal: bool = False


class TellsMatch(Parameters):
    """What a `told-match` says, of the endpoints in their order."""

    matched: list[float] = []
    total: int = 0
    block: int = 16


class Told:
    """A producer that says what it was told; its value may be changed."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.asked = 0

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        self.asked += 1
        return self.value


class Keys(Parameters):
    """Whom an `only-these` leaves, by their keys."""

    keys: list[str] = []
    busy: bool = False


class OnlyThese:
    """A filter."""

    fixed = False

    def __init__(self, keys: Sequence[str], by_load: bool) -> None:
        self.keys = keys
        self.by_load = by_load

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        return [position for position, endpoint in enumerate(candidates.endpoints) if endpoint.key in self.keys]


FAKES: Mapping[str, PluginType] = {
    row.name: row
    for row in (
        PluginType(
            "told-prompt",
            PRODUCER,
            "",
            TellsPrompt,
            lambda parameters, kit: Told(Prompt(parameters.tokens, parameters.multimodal)),
            provides=PROMPT,
        ),
        PluginType(
            "told-match",
            PRODUCER,
            "",
            TellsMatch,
            lambda parameters, kit: Told(PrefixMatch(list(parameters.matched), parameters.total, parameters.block)),
            provides=PREFIX_MATCH,
        ),
        PluginType("only-these", FILTER, "", Keys, lambda parameters, kit: OnlyThese(parameters.keys, parameters.busy)),
    )
}
"""Types for configs of tests: producers whose words are in the file, and a filter."""


def blueprint_of(text: str) -> Blueprint:
    """Of a config that may name `FAKES`."""
    return build_scheduler(load_picker_config(text)[0], elsewhere=FAKES)


def scheduler_of(text: str, *, random: Random | None = None, clock: Clock | None = None) -> Scheduler:
    """The same, made."""
    return blueprint_of(text).scheduler(random or seeded(), clock or FakeClock())


def problems_of(text: str) -> list[str]:
    """What is wrong with such a config."""
    with pytest.raises(SettingsError) as caught:
        blueprint_of(text)
    return caught.value.problems


def figures_of(scheduler: Scheduler) -> dict[str, float]:
    """What the plugins measure, but zeros; the names with their labels."""
    told = {}
    for _, figure in scheduler.figures():
        labels = ",".join(value for _, value in figure.labels)
        if figure.value:
            told[f"{figure.name}{{{labels}}}" if labels else figure.name] = figure.value
    return told
