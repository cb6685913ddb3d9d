"""Further attempts where pools are in several regions: none goes to a pool where one has failed while another can serve."""

from __future__ import annotations

from extproc.domain import InferenceRequest
from extproc.stages.draft import Draft
from extproc.stages.placing import RegionRules
from extproc.traffic import ServedEntity
from extproc.traffic.tried import Tried


class Again:
    """What attempts at a request know of those before them. The one writer of where requests were sent.

    A pool whose endpoints have died is known to be empty a moment later. Until then the first attempt goes there, and the next
    one at another entity would too, where regions send it to the same pool.
    """

    def __init__(self, rules: RegionRules, tried: Tried | None = None) -> None:
        self._rules = rules
        self._tried = Tried() if tried is None else tried

    def tried(self, draft: Draft) -> tuple[str, ...]:
        """Where attempts before this one were sent; () where nobody remembers."""
        return self._tried.of(draft.draw) if draft.draw else ()

    def entity(self, request: InferenceRequest, draft: Draft, tried: tuple[str, ...]) -> ServedEntity | None:
        """The first entity in turn that another pool than those can serve now and may; None when there is none."""
        rules = self._rules
        origin = rules.origin(request)
        for entity in draft.turn:
            if entity.problem or entity.external is not None or set(entity.pools).issubset(tried):
                continue
            kept = rules.kept(request, draft, origin, entity.name)
            placed = rules.place(request, origin, kept, entity.pools, None, tried)
            if placed is not None and placed.pool and placed.pool not in tried and rules.able(placed.pool):
                return entity
        return None

    def is_left(self, request: InferenceRequest, draft: Draft, tried: tuple[str, ...]) -> bool:
        """Whether an attempt behind this one, the last of the turn, has anywhere to go; `tried` is where this one goes, too.

        No more are made than the entities have pools, whoever forgets what.
        """
        if not draft.draw or draft.attempt >= sum([max(1, len(entity.pools)) for entity in draft.turn]):
            return False
        return self.entity(request, draft, tried) is not None

    def sent(self, draft: Draft) -> None:
        """The attempt goes out, or was refused behind the choice of its pool."""
        placed = draft.placed
        if not draft.draw or placed is None or not placed.pool:
            return
        if draft.falls_back:
            self._tried.sent(draft.draw, placed.pool)
        else:
            self._tried.over(draft.draw)

    def over(self, draft: Draft) -> None:
        """The request was answered."""
        if draft.draw:
            self._tried.over(draft.draw)
