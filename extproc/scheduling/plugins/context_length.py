"""`context-length-aware`: endpoints that are set up for prompts of some length, by a label `min-max` in tokens.

Formulas: llm-d router's README of the plugin, and its source. Points in range are above 0.3, out of range below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PROMPT, Prompt
from extproc.scheduling.plugins.base import FILTER, SCORER, Kit, Need, PluginType
from extproc.scheduling.plugins.parameters_labels import ContextLengthParameters

_UNLABELED: Final = 0.5
_FLOOR: Final = 0.3


class Range:
    """Prompts from `low` to `high` tokens; `readable` is false when the label says nothing of the kind."""

    __slots__ = ("high", "low", "readable")

    def __init__(self, text: str) -> None:
        low, dash, high = text.strip().partition("-")
        low, high = low.strip(), high.strip()
        self.readable = bool(dash) and _is_number(low) and _is_number(high) and int(low) <= int(high)
        self.low = int(low) if self.readable else 0
        self.high = int(high) if self.readable else 0

    def points(self, tokens: int) -> float:
        """What an endpoint with this label is worth to a prompt of so many tokens."""
        if not self.readable:
            return 0.0
        if tokens < self.low:
            return _FLOOR / (1.0 + (self.low - tokens) / 1000.0)
        if tokens > self.high:
            return _FLOOR / (1.0 + (tokens - self.high) / 1000.0)
        width = self.high - self.low
        if not width:
            return 1.0
        return _FLOOR + (1.0 - _FLOOR) * (0.7 / (1.0 + width / 10_000.0) + 0.3 * (self.high - tokens) / width)

    def takes(self, tokens: int) -> bool:
        """Whether such a prompt is in the range."""
        return self.readable and self.low <= tokens <= self.high


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


class ContextLength:
    """Filter and scorer."""

    fixed = False
    by_load = False
    per_snapshot = False

    def __init__(self, source: str, label: str, filters: bool) -> None:
        """`source` says how long the prompt is."""
        self._source = source
        self._label = label
        self._filters = filters
        self._endpoints: Sequence[Endpoint] = ()
        self._ranges: list[Range | None] = []
        """Of the whole pool's endpoints; None without the label."""

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        if not self._filters:
            return None
        tokens = self._tokens(cycle)
        return [position for position, each in enumerate(self._ranges_of(candidates)) if each is None or each.takes(tokens)]

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        tokens = self._tokens(cycle)
        points = [_UNLABELED if each is None else each.points(tokens) for each in self._ranges_of(candidates)]
        return columns.like(candidates.in_flight, points)

    def _tokens(self, cycle: Cycle) -> int:
        prompt = cycle.facts.get(self._source)
        return prompt.tokens if isinstance(prompt, Prompt) else 0

    def _ranges_of(self, candidates: Candidates) -> Sequence[Range | None]:
        whole = candidates.whole
        endpoints = candidates.endpoints if whole is None else whole.endpoints
        if endpoints is not self._endpoints:
            label = self._label
            texts = [each.labels.get(label) for each in endpoints]
            self._endpoints, self._ranges = endpoints, [None if text is None else Range(text) for text in texts]
        ranges = self._ranges
        return ranges if whole is None else [ranges[position] for position in candidates.places]


def _make(parameters: ContextLengthParameters, kit: Kit) -> ContextLength:
    return ContextLength(kit.source(), parameters.label, parameters.enable_filtering)


TYPES: Final = (
    PluginType(
        "context-length-aware",
        SCORER,
        "by a label `min-max` of tokens, w wide: in range 0.3 + 0.7 × (0.7 / (1 + w / 10000) + 0.3 × (max − tokens) / w), "
        "w = 0: 1; d out of range 0.3 / (1 + d / 1000); without the label 0.5; with `enableFiltering` keeps those in range "
        "or without it",
        ContextLengthParameters,
        _make,
        roles=(FILTER,),
        needs=lambda parameters: (Need(PROMPT),),
    ),
)
