"""Which endpoint has encoded which image before: `mm-embeddings-cache-producer`, and points for that.

An encoder keeps what it made of an image for a while, so who sees it again need not encode it. Kept here is who was sent which
item, by a hash of what requests say of it (URL or data), the last of them for each endpoint. Whoever encodes has it: the one
that the profile `encode` chose where that ran, else the one that serves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import ENCODED, PROMPT, Encoded, Prompt
from extproc.scheduling.plugins.base import PRODUCER, SCORER, Figure, Kit, Need, PluginType, Scheduled
from extproc.scheduling.plugins.parameters_media import EncoderCacheParameters, EncoderCacheScorerParameters

_ENCODE: Final = "encode"
"""Upstream's name of the profile that encodes."""
_MOST_ITEMS: Final = 256
"""Of a request that are looked at."""
_DUMPED: Final = 100


class EncoderCaches:
    """`mm-embeddings-cache-producer`."""

    def __init__(self, name: str, prompt: str, items: int) -> None:
        """`items` are kept of each endpoint; `prompt`: who reads it."""
        self._name = name
        self._prompt = prompt
        self._items = items
        self._held: dict[str, OrderedDict[int, None]] = {}
        """By endpoint, digests, those that were sent last behind."""
        self._asked = 0
        self._found = 0
        """Items of requests that went out, and those of them that the endpoint had."""

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        prompt = cast(Prompt, cycle.facts[self._prompt])
        if not prompt.multimodal:
            return Encoded(columns.zeros_like(candidates.in_flight), ())
        media = [each.digest for one in prompt.prompts for each in one.media if each.kind != "file"]
        items = tuple(dict.fromkeys(media[:_MOST_ITEMS]))
        known = [float(self._known(endpoint.key, items)) for endpoint in candidates.endpoints]
        return Encoded(columns.like(candidates.in_flight, known), items)

    def _known(self, endpoint: str, items: tuple[int, ...]) -> int:
        held = self._held.get(endpoint)
        return 0 if held is None else sum([item in held for item in items])

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        items = cast(Encoded, cycle.facts[self._name]).items
        if not items:
            return
        endpoint = scheduled.runs.get(_ENCODE, scheduled.run).endpoint
        held = self._held.setdefault(endpoint, OrderedDict())
        for item in items:
            self._asked += 1
            if item in held:
                self._found += 1
                held.move_to_end(item)
            else:
                held[item] = None
        while len(held) > self._items:
            held.popitem(last=False)

    def forget(self, endpoint: str) -> None:
        self._held.pop(endpoint, None)

    def figures(self) -> Iterable[Figure]:
        size = float(sum([len(held) for held in self._held.values()]))
        return (
            Figure(
                "extproc_encoder_cache_items", "Items that endpoints are known to have encoded, each for every endpoint.", size
            ),
            Figure(
                "extproc_encoder_queried_items_total",
                "Images, audio and video of requests that went out.",
                self._asked,
                counts=True,
            ),
            Figure(
                "extproc_encoder_matched_items_total",
                "Those of them that the endpoint that was picked has encoded before.",
                self._found,
                counts=True,
            ),
        )

    def dump(self) -> object:
        endpoints = {endpoint: len(held) for endpoint, held in list(self._held.items())[:_DUMPED]}
        return {"items_of_each": self._items, "asked": self._asked, "found": self._found, "endpoints": endpoints}


class EncoderCacheScorer:
    """`mm-embeddings-cache-scorer`."""

    per_snapshot = False

    def __init__(self, source: str) -> None:
        """`source`: who knows of the items."""
        self._source = source

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        encoded = cast(Encoded, cycle.facts[self._source])
        if not encoded.items:
            return columns.zeros_like(candidates.in_flight)
        return columns.scaled(candidates.of(encoded.matched), 1.0 / len(encoded.items))


def _producer(parameters: EncoderCacheParameters, kit: Kit) -> EncoderCaches:
    return EncoderCaches(kit.name, kit.source(), parameters.items)


_BY_NUMBER: Final = "each image, audio or video counts as much as any other: how many tokens one becomes is the engine's affair"

TYPES: Final = (
    PluginType(
        "mm-embeddings-cache-producer",
        PRODUCER,
        "how many of the prompt's images, audio and video each endpoint was sent before: of each the last "
        "`cacheSizeInMBPerServer` / 2 items",
        EncoderCacheParameters,
        _producer,
        needs=lambda parameters: (Need(PROMPT),),
        provides=ENCODED,
    ),
    PluginType(
        "mm-embeddings-cache-scorer",
        SCORER,
        "matched / all images, audio and video of the prompt; without any 0",
        EncoderCacheScorerParameters,
        lambda parameters, kit: EncoderCacheScorer(kit.source()),
        needs=lambda parameters: (Need(ENCODED, parameters.producer_name, "producerName"),),
        note=lambda parameters: _BY_NUMBER,
    ),
)
