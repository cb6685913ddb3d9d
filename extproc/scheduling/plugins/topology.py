"""Near to the endpoint that another stage was given to: what passes from one to the other is a KV cache.

Where an endpoint is, its labels say. What is not said is the same as nothing, also of two that don't say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PEER, TOPOLOGY
from extproc.scheduling.plugins.base import DATA_LAYER, FILTER, PRODUCER, SCORER, Kit, Need, PluginType
from extproc.scheduling.plugins.parameters_labels import NearFilterParameters, NearParameters, TopologyParameters

LEVELS: Final = ("host", "rack", "zone", "region")
"""From near to far; further than the last is `len(LEVELS)`."""
_POINTS: Final[tuple[float, ...]] = (1.0, 0.2, 0.05, 0.02, 0.0)
"""As fast as KV caches pass (llm-d router's README of the scorer)."""


class Place(NamedTuple):
    """Where an endpoint is; '' where that is not said."""

    host: str
    rack: str
    zone: str
    region: str


def distance(one: Place, other: Place) -> int:
    """The nearest level that is the same, as in LEVELS."""
    if one.host and one.host == other.host:
        return 0
    if one.rack and one.rack == other.rack:
        return 1
    if one.zone and one.zone == other.zone:
        return 2
    return 3 if one.region and one.region == other.region else 4


class Map(NamedTuple):
    """Of the kind `topology`: where the endpoints of the whole pool are."""

    places: Sequence[Place]
    by_key: Mapping[str, Place]


class Topology:
    """`topology-extractor`."""

    def __init__(self, host: str, rack: str, zone: str, region: str) -> None:
        """Labels."""
        self._labels = (host, rack, zone, region)
        self._endpoints: Sequence[Endpoint] = ()
        self._map = Map((), {})

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        """Kept until the endpoints change."""
        if candidates.endpoints is not self._endpoints:
            places = [self._place(each) for each in candidates.endpoints]
            keys = [each.key for each in candidates.endpoints]
            self._endpoints, self._map = candidates.endpoints, Map(places, dict(zip(keys, places, strict=True)))
        return self._map

    def _place(self, endpoint: Endpoint) -> Place:
        host, rack, zone, region = self._labels
        labels = endpoint.labels
        return Place(labels.get(host, ""), labels.get(rack, ""), labels.get(zone, ""), labels.get(region, ""))


class Near:
    """How far each candidate is from the endpoint of another stage."""

    def __init__(self, source: str) -> None:
        self._source = source

    def distances(self, cycle: Cycle, candidates: Candidates) -> list[int] | None:
        """As in LEVELS; None when there is no such endpoint, or nobody says where it is."""
        peer, known = cycle.facts.get(PEER), cycle.facts.get(self._source)
        if not isinstance(peer, Endpoint) or not isinstance(known, Map):
            return None
        there = known.by_key.get(peer.key)
        if there is None or not any(there):
            return None
        places = known.places
        chosen = range(len(places)) if candidates.whole is None else candidates.places
        return [distance(there, places[position]) for position in chosen]


class NearFilter:
    """`topology-affinity-filter`. A preference: when nobody is near enough all are kept."""

    fixed = False
    by_load = False

    def __init__(self, near: Near, furthest: int) -> None:
        self._near = near
        self._furthest = furthest

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        distances = self._near.distances(cycle, candidates)
        if distances is None:
            return None
        return [position for position, away in enumerate(distances) if away <= self._furthest] or None


class NearScorer:
    """`topology-affinity-scorer`."""

    per_snapshot = False

    def __init__(self, near: Near) -> None:
        self._near = near

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        distances = self._near.distances(cycle, candidates)
        if distances is None:
            return columns.zeros_like(candidates.in_flight)
        return columns.like(candidates.in_flight, [_POINTS[away] for away in distances])


def _needs(parameters: Any) -> Sequence[Need]:
    return (Need(TOPOLOGY, parameters.topology_producer_name, "topologyProducerName"),)


def _near(kit: Kit) -> Near:
    return Near(kit.source())


def _extractor(parameters: TopologyParameters, kit: Kit) -> Topology:
    return Topology(parameters.hostname, parameters.rack, parameters.zone, parameters.region)


def _filter(parameters: NearFilterParameters, kit: Kit) -> NearFilter:
    return NearFilter(_near(kit), LEVELS.index(parameters.min_affinity))


TYPES: Final = (
    PluginType(
        "topology-affinity-filter",
        FILTER,
        "keeps endpoints as near as `minAffinity` to the one that another stage was given to; all where there is none so near",
        NearFilterParameters,
        _filter,
        needs=_needs,
    ),
    PluginType(
        "topology-affinity-scorer",
        SCORER,
        "the same host as the endpoint of another stage: 1; rack 0.2; zone 0.05; region 0.02; else 0",
        NearParameters,
        lambda parameters, kit: NearScorer(_near(kit)),
        needs=_needs,
    ),
    PluginType(
        "topology-extractor",
        DATA_LAYER,
        "which labels say where an endpoint is",
        TopologyParameters,
        _extractor,
        roles=(PRODUCER,),
        provides=TOPOLOGY,
    ),
)
