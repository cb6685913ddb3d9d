"""A checked config, and what is made of it for each pool: plugins keep state, so every pool has its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from extproc.scheduling.plugins.base import Clock, Kit, PluginType, Random
from extproc.scheduling.plugins.handlers import SingleProfile
from extproc.scheduling.plugins.pickers import MaxScorePicker
from extproc.scheduling.profile import NamedFilter, Profile, WeightedScorer
from extproc.scheduling.saturation import SaturationDetector, default_detector
from extproc.scheduling.scheduler import Hooks, Scheduler


class Planned(NamedTuple):
    """A plugin that will be made."""

    row: PluginType
    parameters: BaseModel
    sources: tuple[str | None, ...] = ()
    """As Kit.sources."""
    references: tuple[str, ...] = ()
    """The plugins that it asks."""


class ProfilePlan(NamedTuple):
    """A profile by its plugins' names."""

    name: str
    filters: tuple[str, ...] = ()
    scorers: tuple[tuple[str, float], ...] = ()
    """With their weights."""
    picker: str | None = None
    """None for the default."""


class PoolPlugins(NamedTuple):
    """What a pool's requests go by."""

    scheduler: Scheduler
    detector: SaturationDetector


DEFAULT_INTERVAL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Blueprint:
    """How to make a pool's plugins, and the parameters of those that others make."""

    profiles: tuple[ProfilePlan, ...]
    plugins: Mapping[str, Planned] = field(default_factory=dict)
    """Those that are used, by name, each behind whom it asks and what it needs."""
    handler: str | None = None
    producers: tuple[str, ...] = ()
    """In the order in which they need each other."""
    screeners: tuple[str, ...] = ()
    admitters: tuple[str, ...] = ()
    detector: str | None = None
    parameters: Mapping[str, BaseModel] = field(default_factory=dict)
    """By plugin name, for the types that the caller brought along."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Plugin name to type."""
    agent_headers: tuple[str, ...] = ()
    """Where a request's agent says who it is, which is its fairness id when it has none (`identity.identity_of`); none without
    an `agent-identity` in the file."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Plugins, by name, that can't be had and are left out as was allowed; and why."""
    warnings: tuple[str, ...] = ()
    """What its owner should know."""

    @property
    def attributes(self) -> frozenset[str]:
        """Those of endpoints that any plugin reads."""
        return frozenset(name for each in self.plugins.values() for name in each.row.attributes(each.parameters))

    @property
    def profile(self) -> ProfilePlan:
        """The first one."""
        return self.profiles[0]

    def pool(self, random: Random, clock: Clock, interval_s: float = DEFAULT_INTERVAL_S) -> PoolPlugins:
        """New plugins, for a pool whose pages are read every `interval_s`."""
        made: dict[str, Any] = {}
        for name, planned in self.plugins.items():
            assert planned.row.make is not None, f"{planned.row.name} can't be made"
            asked = {ref: made[ref] for ref in (*planned.references, *planned.sources) if ref is not None}
            made[name] = planned.row.make(planned.parameters, Kit(name, random, clock, interval_s, planned.sources, asked))
        handler = made[self.handler] if self.handler is not None else None
        scheduler = Scheduler(
            [self._profile(plan, made) for plan in self.profiles],
            random,
            handler=None if isinstance(handler, SingleProfile) else handler,
            screeners=[NamedFilter(name, made[name]) for name in self.screeners],
            producers=[(name, made[name]) for name in self.producers],
            admitters=[(name, made[name]) for name in self.admitters],
            hooks=Hooks(
                picked=_who(made, "picked"),
                answered=_who(made, "answered"),
                prefilled=_who(made, "prefilled"),
                ended=_who(made, "ended"),
                watchers=_who(made, "forget"),
                dressers=_who(made, "dress"),
                dumpers=_who(made, "dump"),
                reusers=_who(made, "reuse"),
                keepers=_who(made, "snapshot"),
                measured=_who(made, "figures"),
                tellers=_who(made, "tells"),
                reporters=_who(made, "reports"),
            ),
        )
        return PoolPlugins(scheduler, default_detector(interval_s) if self.detector is None else made[self.detector])

    def scheduler(self, random: Random, clock: Clock = lambda: 0.0) -> Scheduler:
        """The scheduler alone, for who has no pool."""
        return self.pool(random, clock).scheduler

    def _profile(self, plan: ProfilePlan, made: Mapping[str, Any]) -> Profile:
        return Profile(
            plan.name,
            [WeightedScorer(name, made[name], weight) for name, weight in plan.scorers],
            MaxScorePicker() if plan.picker is None else made[plan.picker],
            [NamedFilter(name, made[name]) for name in plan.filters],
        )


def _who(made: Mapping[str, Any], method: str) -> dict[str, Any]:
    return {name: plugin for name, plugin in made.items() if hasattr(plugin, method)}
