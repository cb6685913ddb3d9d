"""`flowControl` of an EndpointPickerConfig to a plan, with every problem reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from extproc.flow import fairness, limits, ordering, programs, victims
from extproc.flow.plan import (
    ABORT_S,
    GRACE_S,
    HYSTERESIS,
    MAX_BYTES,
    MAX_REQUESTS,
    TTL_S,
    UNLIMITED,
    BandPlan,
    EvictionPlan,
    FlowPlan,
)
from extproc.flow.roles import EVICTION_FILTER, EVICTION_ORDER, FAIRNESS, ORDERING, USAGE_LIMIT
from extproc.scheduling.plugins.base import Clock, Kit, PluginType, Random
from extproc.scheduling.saturation import SaturationDetector
from extproc.settings.base import SettingsError
from extproc.settings.picker import FLOW_CONTROL, BandSpec, EndpointPickerConfig

FLOW_TYPES: Final[Mapping[str, PluginType]] = {
    row.name: row for module in (ordering, fairness, programs, limits, victims) for row in module.TYPES
}
DEFAULTS: Final[Mapping[str, str]] = {
    ORDERING: "fcfs-ordering-policy",
    FAIRNESS: "global-strict-fairness-policy",
    USAGE_LIMIT: "static-usage-limit-policy",
    EVICTION_FILTER: "sheddable-eviction-filter",
    EVICTION_ORDER: "priority-then-time-eviction-order-policy",
}
"""By family, the policy where none is named. They may be named without being listed."""


class FlowBlueprint(NamedTuple):
    """A checked `flowControl`; policies have state, so every pool has its own."""

    plan_of: Callable[[Callable[[str], Kit]], FlowPlan] | None = None
    """Made of what gives a policy's kit by its name; None while the feature gate is off."""
    warnings: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    """By name, those that it goes by."""

    @property
    def is_on(self) -> bool:
        """The feature gate is."""
        return self.plan_of is not None

    def plan(
        self, detector: SaturationDetector, random: Random, clock: Clock, interval_s: float, stale_after_s: float = 2.0
    ) -> FlowPlan | None:
        """For a pool with this detector, whose pages are read every `interval_s` and believed for `stale_after_s`; None while
        the feature gate is off."""
        if self.plan_of is None:
            return None
        plan = self.plan_of(lambda name: Kit(name, random, clock, interval_s))
        if plan.eviction is not None and detector.reads_pages:
            plan = plan._replace(eviction=plan.eviction._replace(grace_s=interval_s + stale_after_s + ABORT_S))
        return plan._replace(hysteresis=HYSTERESIS if detector.reads_pages else 0.0)


OFF: Final = FlowBlueprint()
"""No flow control."""


def build_flow(config: EndpointPickerConfig, *, prefix: str = "") -> FlowBlueprint:
    """Check the policies that are named, and what bands may hold. The policies' parameters are checked with all plugins'.

    Raises SettingsError with every problem: unknown references, policies of another family, a band that is there twice, so that
    one of the two could never be served.
    """
    return _Builder(config, prefix).build()


class _Builder:
    def __init__(self, config: EndpointPickerConfig, prefix: str) -> None:
        self._config = config
        self._prefix = prefix
        self._problems: list[str] = []
        self._used: set[str] = set()
        self._names = {spec.ref: spec.type for spec in config.plugins}
        self._plugins: dict[str, tuple[PluginType, BaseModel]] = {}
        for spec in config.plugins:
            row = FLOW_TYPES.get(spec.type)
            if row is not None:
                self._plugins.setdefault(spec.ref, (row, _parameters(row, spec.parameters)))
        for name in DEFAULTS.values():
            if name not in self._names:
                self._plugins[name] = (FLOW_TYPES[name], FLOW_TYPES[name].parameters.model_validate({}))

    def build(self) -> FlowBlueprint:
        spec = self._config.flow_control
        path = "flowControl."
        usual = self._band(path + "defaultPriorityBand", spec.default_priority_band)
        negative = usual
        if spec.default_negative_priority_band is not None:
            negative = self._band(path + "defaultNegativePriorityBand", spec.default_negative_priority_band)
        bands: dict[int, _Band] = {}
        first: dict[int, int] = {}
        for index, each in enumerate(spec.priority_bands):
            where = f"{path}priorityBands[{index}]"
            if each.priority in first:
                other = f"priorityBands[{first[each.priority]}]"
                self._problems.append(
                    f"{self._prefix}{where}.priority: {each.priority} is that of {other}, so this band could never be served"
                )
            first.setdefault(each.priority, index)
            bands[each.priority] = self._band(where, each)
        limit = self._policy(path + "usageLimitPolicyPluginRef", spec.usage_limit_policy_plugin_ref, USAGE_LIMIT)
        victims_of = self._listed(EVICTION_FILTER) if spec.enable_eviction else None
        order = self._listed(EVICTION_ORDER) if spec.enable_eviction else None
        if self._problems:
            raise SettingsError(self._problems)
        ttl_s = _ttl(spec.default_request_ttl, TTL_S)
        usual_plan = FlowPlan(
            max_requests=spec.max_requests or UNLIMITED,
            max_bytes=spec.max_bytes or UNLIMITED,
            ttl_s=ttl_s,
            no_endpoint_ttl_s=_ttl(spec.no_endpoint_request_ttl, ttl_s),
        )

        def plan_of(kit_of: Callable[[str], Kit]) -> FlowPlan:
            return usual_plan._replace(
                bands={priority: band.plan(kit_of) for priority, band in bands.items()},
                default=usual.plan(kit_of),
                default_negative=negative.plan(kit_of),
                limit=limit.maker(kit_of),
                eviction=None
                if victims_of is None or order is None
                else EvictionPlan(victims_of.maker(kit_of)(), order.maker(kit_of)(), GRACE_S),
            )

        on = self._config.is_on(FLOW_CONTROL)
        chosen = {each.name for band in (usual, negative, *bands.values()) for each in (band.ordering, band.fairness)}
        chosen |= {each.name for each in (limit, victims_of, order) if each is not None}
        return FlowBlueprint(plan_of if on else None, tuple(self._warnings(on)), tuple(sorted(chosen)))

    def _warnings(self, on: bool) -> list[str]:
        spec, prefix = self._config.flow_control, self._prefix
        written = sorted(
            type(spec).model_fields[name].alias or name for name in spec.model_fields_set - {"saturation_detector"}
        )
        warnings = []
        if not on:
            if written:
                warnings.append(f"{prefix}flowControl: {', '.join(written)}: no effect without the feature gate {FLOW_CONTROL}")
            return warnings
        for index, each in enumerate(self._config.plugins):
            if each.type not in FLOW_TYPES or each.ref in self._used:
                continue
            if FLOW_TYPES[each.type].family in (EVICTION_FILTER, EVICTION_ORDER):
                warnings.append(f"{prefix}plugins[{index}]: {each.ref!r} has no effect without flowControl.enableEviction")
            else:
                warnings.append(f"{prefix}plugins[{index}]: nothing in flowControl refers to {each.ref!r}")
        return warnings

    def _band(self, path: str, spec: BandSpec) -> _Band:
        return _Band(
            spec.max_requests or MAX_REQUESTS,
            spec.max_bytes or MAX_BYTES,
            self._policy(f"{path}.orderingPolicyRef", spec.ordering_policy_ref, ORDERING),
            self._policy(f"{path}.fairnessPolicyRef", spec.fairness_policy_ref, FAIRNESS),
        )

    def _listed(self, family: str) -> _Policy:
        """The one that is among the plugins, which nothing refers to by name; else the usual one."""
        listed = [each for each in self._config.plugins if each.type in FLOW_TYPES and FLOW_TYPES[each.type].family == family]
        if len(listed) > 1:
            names = ", ".join(each.ref for each in listed)
            self._problems.append(f"{self._prefix}plugins: more than one {family}: {names}; expected at most one")
        name = listed[0].ref if listed else DEFAULTS[family]
        self._used.add(name)
        return _Policy(name, *self._plugins[name])

    def _policy(self, path: str, ref: str | None, family: str) -> _Policy:
        name = DEFAULTS[family] if ref is None else ref
        chosen = self._plugins.get(name)
        if chosen is None or chosen[0].family != family:
            self._problems.append(self._prefix + path + ": " + self._why_not(name, family))
            name = DEFAULTS[family]
            return _Policy(name, FLOW_TYPES[name], FLOW_TYPES[name].parameters.model_construct())
        if ref is not None or name in self._names:
            self._used.add(name)
        return _Policy(name, *chosen)

    def _why_not(self, name: str, family: str) -> str:
        if name in self._plugins:
            return f"{name!r} is a {self._plugins[name][0].family}, expected a {family}"
        if name in self._names:
            return f"{name!r} is a {self._names[name]}, expected a {family}"
        if name in FLOW_TYPES:
            return f"no plugin is called {name!r}; list it in plugins"
        there = ", ".join(ref for ref, (row, _) in self._plugins.items() if row.family == family)
        return f"no plugin is called {name!r} (there are: {there})"


class _Policy(NamedTuple):
    name: str
    row: PluginType
    parameters: BaseModel

    def maker(self, kit_of: Callable[[str], Kit]) -> Callable[[], Any]:
        """Makes one each time."""
        assert self.row.make is not None, f"{self.row.name} can't be made"
        return partial(self.row.make, self.parameters, kit_of(self.name))


class _Band(NamedTuple):
    max_requests: int
    max_bytes: int
    ordering: _Policy
    fairness: _Policy

    def plan(self, kit_of: Callable[[str], Kit]) -> BandPlan:
        return BandPlan(self.max_requests, self.max_bytes, self.ordering.maker(kit_of)(), self.fairness.maker(kit_of))


def _parameters(row: PluginType, given: Mapping[str, Any] | None) -> BaseModel:
    """Those that are given; what is wrong with them is said where all plugins are checked."""
    try:
        return row.parameters.model_validate(given or {})
    except ValidationError:
        return row.parameters.model_construct()


def _ttl(given: float | None, usual: float) -> float:
    """Infinite for 0."""
    return usual if given is None else given or float("inf")
