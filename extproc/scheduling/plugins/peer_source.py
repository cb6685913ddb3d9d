"""`p2p-source-producer`: another endpoint that has more of the prompt cached, from which the one that computes fetches it.

    sources   endpoints whose match is within one block of the best
    chosen    one of them, with a chance of 1 / (1 + its queue); the request's id decides, so all attempts at it choose alike
    named     where it has `minCachedTokenDelta` tokens more than the one that computes the prompt, and is another

It says so in `x-kv-cache-source-host-port`, which the connector of the engine reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, cast

import xxhash

from extproc import names
from extproc.candidates import Candidates
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PrefixMatch
from extproc.scheduling.plugins.base import HEADERS, PRODUCER, Figure, Kit, PluginType, Scheduled
from extproc.scheduling.plugins.inflight import match_need
from extproc.scheduling.plugins.parameters_media import PeerSourceParameters

_BLOCK: Final = 1.0
"""So far from the best a match may be."""


class Source(NamedTuple):
    """Who has most of the prompt."""

    endpoint: str
    tokens: float
    """That it has."""


class PeerSource:
    """`p2p-source-producer`."""

    def __init__(self, name: str, match: str, least_tokens: int, prefill: str) -> None:
        """`match`: who knows of prefixes."""
        self._name = name
        self._match = match
        self._least_tokens = float(least_tokens)
        self._prefill = prefill
        self._named = 0

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        """A `Source`, or None when nobody has anything."""
        match = cast(PrefixMatch, cycle.facts[self._match])
        best = columns.highest(match.matched) if len(candidates) else 0.0
        if not best > 0:
            return None
        matched = columns.floats(match.matched)
        least = max(best - _BLOCK, 1.0)
        sources = [position for position, blocks in enumerate(matched) if blocks >= least]
        position = sources[_drawn([_weight(candidates, each) for each in sources], _coordinate(cycle))]
        return Source(candidates.endpoints[position].key, matched[position] * match.block_tokens)

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        source = cast("Source | None", cycle.facts.get(self._name))
        if source is None:
            return scheduled
        run = scheduled.runs.get(self._prefill, scheduled.run)
        match = cast(PrefixMatch, cycle.facts[self._match])
        has = float(match.matched[run.place]) * match.block_tokens
        if source.endpoint == run.endpoint or source.tokens - has < self._least_tokens:
            return scheduled
        return scheduled._replace(set_headers=(*scheduled.set_headers, (names.KV_SOURCE_HEADER, source.endpoint)))

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        self._named += any(name == names.KV_SOURCE_HEADER for name, _ in scheduled.set_headers)

    def figures(self) -> Iterable[Figure]:
        doc = "Requests for which another endpoint was named to fetch the prompt's cache from."
        return (Figure("extproc_kv_sources_named_total", doc, self._named, counts=True),)


def _weight(candidates: Candidates, position: int) -> float:
    """By the queue; one that is not known counts as empty, as all of them have the prompt."""
    waiting = float(candidates.waiting[position])
    return 1.0 / (1.0 + max(0.0, waiting)) if waiting == waiting else 1.0


def _coordinate(cycle: Cycle) -> float:
    """In [0, 1), of the request's id."""
    request_id = cycle.asked.head.headers.get(names.REQUEST_ID_HEADER, b"")
    return (int(xxhash.xxh3_64_intdigest(request_id)) >> 11) / (1 << 53)


def _drawn(weights: Sequence[float], coordinate: float) -> int:
    left = coordinate * sum(weights)
    for position, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return position
    return len(weights) - 1


def _made(parameters: PeerSourceParameters, kit: Kit) -> PeerSource:
    return PeerSource(kit.name, kit.source(), parameters.min_cached_token_delta, parameters.prefill_profile_name)


_BY_WHAT_WAS_SENT: Final = (
    "goes by what the prefix producer knows: with an approximate one the endpoint may have evicted the blocks, and in which "
    "tier of memory they are is not known"
)

TYPES: Final = (
    PluginType(
        "p2p-source-producer",
        PRODUCER,
        f"in the header `{names.KV_SOURCE_HEADER}` an endpoint to fetch the prompt's cache from: of those within a block of "
        "the best match one, with a chance of 1 / (1 + queue), if it has `minCachedTokenDelta` tokens more than who computes",
        PeerSourceParameters,
        _made,
        roles=(HEADERS,),
        needs=lambda parameters: (match_need(parameters),),
        note=lambda parameters: _BY_WHAT_WAS_SENT,
    ),
)
