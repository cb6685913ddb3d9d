"""`token-load-scorer`: by the tokens that an endpoint would have to compute before and for the request."""

from __future__ import annotations

from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import InFlight
from extproc.scheduling.plugins.base import SCORER, PluginType
from extproc.scheduling.plugins.inflight import in_flight_need
from extproc.scheduling.plugins.parameters_tokens import TokenLoadParameters


class TokenLoadScorer:
    """`token-load-scorer`."""

    per_snapshot = False

    def __init__(self, load: str, threshold: int) -> None:
        """`load`: who finds it out."""
        self._load = load
        self._threshold = float(threshold)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        load = cast(InFlight, cycle.facts[self._load])
        tokens = columns.add_weighted(candidates.of(load.tokens), candidates.of(load.uncached), 1.0)
        return columns.room(tokens, self._threshold)


TYPES: Final = (
    PluginType(
        "token-load-scorer",
        SCORER,
        "1 − min(tokens in flight + tokens of the prompt that are not cached, `queueThresholdTokens`) / `queueThresholdTokens`",
        TokenLoadParameters,
        lambda parameters, kit: TokenLoadScorer(kit.source(), parameters.queue_threshold_tokens),
        needs=lambda parameters: (in_flight_need(parameters),),
    ),
)
