"""Regions of a gateway: which there are, what the ways between them cost, when a pool spills, and what may not leave.

regions:
  self: eu-west                     # or --region
  names: [eu-west, eu-north, us-east]
  costs: {eu-west: {eu-north: 1, us-east: 8}, eu-north: {us-east: 9}}   # or order: {eu-west: [eu-north, us-east]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from extproc.errors import listed
from extproc.settings.base import Duration, Section, Settings, setting, shown
from extproc.settings.serving.fields import Label, Name
from extproc.settings.serving.residency import MOST_RESIDENCY, Residency, twice

MOST_REGIONS: Final = 200


class RegionSettings(Settings):
    """Where this process is."""

    region: str | None = setting(
        None,
        "Region of this gateway, one of regions.names of its config, instead of regions.self: so that one config serves the "
        "gateways of several regions.",
    )
    zone: str | None = setting(None, "Zone of this gateway in its region, instead of regions.zone.")


def _number(least: float, what: str) -> BeforeValidator:
    """A number of JSON's: neither text nor NaN nor infinite."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
            raise ValueError(f"expected {what}")
        return float(value)

    return BeforeValidator(read)


Cost = Annotated[float, _number(0.0, "a number of at least 0")]
Saturation = Annotated[float, _number(0.001, "a saturation of more than 0; 1 is full")]


class SpillSettings(Section):
    """When a pool is left for another one, and when it is taken again."""

    enter: Saturation = 1.0
    """Saturation from which on it is left."""
    leave: Saturation = 0.7
    """Down to which it has to come to be taken again."""
    enter_after: Duration = Field(1.0, alias="enterAfter")
    """For how long it has to be like that; likewise below."""
    leave_after: Duration = Field(10.0, alias="leaveAfter")

    @model_validator(mode="after")
    def _apart(self) -> SpillSettings:
        if self.leave >= self.enter:
            raise ValueError(f"leave is {self.leave:g} and enter {self.enter:g}; expected leave below enter")
        return self


class RegionsSettings(Section):
    """`regions` of the file."""

    own: Name | None = Field(None, alias="self")
    """The gateway's own region; here or as --region."""
    zone: Label | None = None
    """The gateway's own zone."""
    names: Annotated[list[Name], Field(min_length=1, max_length=MOST_REGIONS)]
    """All that there are; of the same cost, the first is nearer."""
    order: dict[Name, list[Name]] | None = None
    """By region, where its requests spill to, nearest first; nowhere else. One without goes by the order of `names`."""
    costs: dict[Name, dict[Name, Cost]] | None = None
    """By region, what the way to others costs; in both directions, unless the other one has its own."""
    trust_header: bool = Field(False, alias="trustHeader")
    """A request's region is what `x-gateway-region` says, where that is one of `names`."""
    spill: SpillSettings = Field(default_factory=lambda: SpillSettings.model_validate({}))
    residency: Annotated[list[Residency], Field(max_length=MOST_RESIDENCY)] = []

    @model_validator(mode="after")
    def _one_table(self) -> RegionsSettings:
        if self.order is not None and self.costs is not None:
            raise ValueError("order and costs exclude each other; expected one of them")
        return self

    def problems(self) -> list[str]:
        """What does not fit together, each with its path."""
        found = []
        there = f"(there are: {listed(self.names)})"
        if len(set(self.names)) < len(self.names):
            found.append(f"regions.names: expected each name once (got {shown(self.names)})")
        found += [
            f"{path}: no region is called {shown(name)} {there}" for path, name in self._named() if name not in self.names
        ]
        for name, row in (self.order or {}).items():
            if len(set(row)) < len(row):
                found.append(f"regions.order.{name}: expected each region once (got {shown(row)})")
        found += [
            f"regions.{table}.{name}: expected other regions than {shown(name)} itself"
            for table, rows in (("order", self.order or {}), ("costs", self.costs or {}))
            for name, row in rows.items()
            if name in row
        ]
        found += twice([rule.name for rule in self.residency], "regions.residency")
        found += [
            f"regions.residency[{index}].entities: expected none, as only an endpoint has entities"
            for index, rule in enumerate(self.residency)
            if rule.entities is not None
        ]
        return found

    def _named(self) -> Iterator[tuple[str, str]]:
        """Every region that is named, with the path of who names it."""
        if self.own is not None:
            yield "regions.self", self.own
        for table, rows in (("order", self.order or {}), ("costs", self.costs or {})):
            for name, row in rows.items():
                yield f"regions.{table}", name
                yield from ((f"regions.{table}.{name}", other) for other in row)
        for index, rule in enumerate(self.residency):
            yield from ((f"regions.residency[{index}].stay_in", name) for name in rule.regions)


class PoolInRegion(NamedTuple):
    """What a pool says of where it is."""

    name: str
    region: str | None
    zone: str | None


def check_pools(
    regions: RegionsSettings | None,
    pools: Mapping[int, PoolInRegion],
    routes: Mapping[int, Sequence[str]],
) -> list[str]:
    """What pools and routes of several pools need of regions. `routes` are the pools of each that lists several."""
    problems = []
    of_pools = {pool.name: (index, pool) for index, pool in pools.items()}
    for index, pool in pools.items():
        path = f"pools[{index}].region"
        if pool.zone is not None and pool.region is None:
            problems.append(f"{path}: expected one, as zone is {shown(pool.zone)}")
        if pool.region is None:
            continue
        if regions is None:
            problems.append(
                f"{path}: got {shown(pool.region)}; expected regions in the config too, which say where the gateway is"
            )
        elif pool.region not in regions.names:
            problems.append(f"{path}: no region is called {shown(pool.region)} (there are: {listed(regions.names)})")
    for index, several in routes.items():
        path = f"routes[{index}].pools"
        if regions is None:
            problems.append(f"{path}: got {len(several)}; expected regions in the config too, by which one of them is chosen")
            continue
        for name in several:
            if name in of_pools and of_pools[name][1].region is None:
                at = of_pools[name][0]
                problems.append(f"pools[{at}].region: expected one, as {path} has the pool {shown(name)}")
    return list(dict.fromkeys(problems))


def home_of(regions: RegionsSettings, settings: RegionSettings, say: Callable[[str], Any]) -> tuple[str, str]:
    """The gateway's own region and zone, flags first. What is wrong goes to `say`."""
    region = settings.region or regions.own
    if region is None:
        say("regions.self: expected the region of this gateway, here or as --region")
        return "", ""
    if settings.region is not None and region not in regions.names:
        say(f"--region: no region is called {shown(region)} (there are: {listed(regions.names)})")
    return region, settings.zone or regions.zone or ""
