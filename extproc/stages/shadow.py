"""Shadows: copies of requests that go to another entity of their endpoint, whose answers the client never sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from extproc import names
from extproc.domain import InferenceRequest
from extproc.request import is_upgrade
from extproc.shadow.live import LiveAnswer
from extproc.shadow.sampling import sampled
from extproc.stages.draft import Draft
from extproc.stages.placing import RegionRules
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import ServedEntity, ServingEndpoint
from extproc.traffic.shadows import ShadowSpec


class Copy(NamedTuple):
    """A request that is to go to a shadow too, as it came; and its live answer, which is still to come."""

    endpoint: ServingEndpoint
    shadow: ShadowSpec
    entity: ServedEntity
    """Of the shadow."""
    request: InferenceRequest
    body: bytes
    live: LiveAnswer
    live_entity: str
    priority: int
    pool: str
    """Of the entity's pools the one that serves the copy; '' when none of them may."""


class Copier(Protocol):
    """Sends copies when the decisions of their requests are out."""

    def offer(self, copy: Copy) -> bool:
        """Whether it is taken. It costs nothing but a look at its budget, and raises nothing."""
        ...


class CopyToShadows:
    """Copies a request that goes out, when it is in a shadow's sample, and listens to its answer then.

    Not copied is what can't be compared with anything or was not seen whole: what the shadow's entity serves itself, attempts
    after the first, bodies of which only the beginning came, requests about an answer that an endpoint keeps, upgrades.
    """

    def __init__(
        self,
        copier: Copier,
        draw: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
        rules: RegionRules | None = None,
    ) -> None:
        """`draw` gives numbers in [0, 1), for requests without an id; `clock` is the director's; `rules` say where copies may
        go, None where there are no regions.
        """
        self._rules = rules
        self._copier = copier
        self._draw = draw
        self._clock = clock
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        endpoint = draft.endpoint
        if draft.reasons is not None and endpoint is not None and endpoint.spec.shadows:
            shadows = [each.entity for each in endpoint.spec.shadows if self._wants(request, draft, endpoint, each)]
            draft.reasons.of(self, {"shadows": shadows})
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        endpoint = draft.endpoint
        if endpoint is None or not endpoint.spec.shadows:
            return
        for shadow in endpoint.spec.shadows:
            if self._wants(request, draft, endpoint, shadow):
                self._offer(request, draft, endpoint, shadow)

    def _offer(self, request: InferenceRequest, draft: Draft, endpoint: ServingEndpoint, shadow: ShadowSpec) -> None:
        entity, body = draft.entity, draft.body
        if entity is None or body is None:
            return
        live = LiveAnswer(draft.started_s, self._clock) if draft.shadow is None else draft.shadow
        other = endpoint.entity(shadow.entity)
        pool = other.pool if self._rules is None else self._rules.copied_to(request, draft, other)
        copy = Copy(endpoint, shadow, other, request, body, live, entity.name, draft.priority, pool)
        if self._copier.offer(copy):
            draft.shadow = live

    def _wants(self, request: InferenceRequest, draft: Draft, endpoint: ServingEndpoint, shadow: ShadowSpec) -> bool:
        entity = draft.entity
        if entity is None or draft.choice is None or entity.name == shadow.entity or not draft.body or not draft.complete:
            return False
        head = request.head
        if head.headers.get(":method") != b"POST" or draft.made_at is not None or (head.attempt or 1) > 1 or is_upgrade(head):
            return False
        key = head.headers.get(names.REQUEST_ID_HEADER)
        if not key:
            return self._draw() < shadow.share
        return sampled(shadow.salt_of(endpoint.name), key, shadow.share)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        live = draft.shadow
        if live is not None:
            draft.shadow = None
            live.end(ending.status, ending.complete, ending.served or draft.destination)
