"""Serving endpoints: which served entity serves a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NoReturn

from extproc import names
from extproc.domain import InferenceRequest
from extproc.errors import EntityNotServed, RefusedByRule
from extproc.observability.serving import ASSIGNED, OVERRIDE, ServingMetrics
from extproc.request import KeyFinder, address_of
from extproc.request.keys import Key
from extproc.stages.again import Again
from extproc.stages.draft import UNASSIGNED, Assigned, Draft
from extproc.stages.stage import ENOUGH, Ending, Hooks, Step
from extproc.traffic import ServedEntity, ServingEndpoint
from extproc.traffic.conditions import Asking
from extproc.traffic.match import RefusalSpec
from extproc.traffic.serving import BY_EXPERIMENT, BY_KEY, BY_RULE, DIRECT, FALLBACK, HANDED_OVER, NAMED, Rule, Shares

_DRAW_BYTES: Final = 6
"""A float holds 48 bits exactly, and 1 is never drawn."""
_ASKED: Final = (DIRECT, NAMED)
"""Who asks for one entity gets no other."""


class ServeEndpoint:
    """Chooses the served entity: the one that the path names, the one whose model the client names, or by the split.

    The split goes by the key of a request, and a request without one is drawn.

    Where Envoy has a listener of attempts, requests for endpoints are handed over to it, and each attempt is decided here as a
    request of its own: the first is served by who was chosen, with fallback the next by the next in the list. After the last
    those come once more that another pool can serve (`Again`).
    """

    def __init__(
        self,
        metrics: ServingMetrics,
        draw: Callable[[], float],
        keys: KeyFinder = KeyFinder(),
        clock: Callable[[], float] = time.time,
        region_of: Callable[[InferenceRequest], bytes] | None = None,
        again: Again | None = None,
    ) -> None:
        """`draw` gives numbers in [0, 1), `clock` seconds since 1970; `region_of` says where a request comes from, None: its
        header does. `again` is None where there are no regions.
        """
        self._again = again
        self._region_of = region_of
        self._clock = clock
        self._metrics = metrics
        self._draw = draw
        self._keys = keys
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        endpoint = draft.endpoint
        if endpoint is None:
            return None
        attempt = request.head.attempt
        if attempt == 0:
            return self._hand_over(draft)
        entity, reason, assigned = self._choose(request, endpoint, draft)
        if attempt is not None and endpoint.spec.fallback and reason not in _ASKED:
            turn = draft.turn = endpoint.attempts(entity)
            draft.falls_back = attempt < len(turn)
            if self._again is not None and _have_a_choice(turn):
                draft.draw = request.head.headers.get(names.DRAW_HEADER, b"")
            if attempt > 1:
                entity, reason = self._in_turn(request, draft, attempt), FALLBACK
        draft.entity = entity
        draft.entity_reason = reason
        draft.assigned = assigned
        if draft.reasons is not None:
            draft.reasons.of(self, _explained(endpoint, entity, reason, assigned))
        if entity.problem:
            if self._again is not None and draft.draw and not draft.falls_back:
                draft.falls_back = self._again.is_left(request, draft, self._again.tried(draft))
            raise EntityNotServed(f"The served entity `{entity.name}` of endpoint `{endpoint.name}`: {entity.problem}")
        draft.pool = entity.pool
        draft.set_response_headers += entity.response_headers
        return None

    def _in_turn(self, request: InferenceRequest, draft: Draft, attempt: int) -> ServedEntity:
        """Who serves that attempt."""
        turn, again = draft.turn, self._again
        if attempt > len(turn) and again is not None and draft.draw:
            entity = again.entity(request, draft, again.tried(draft))
            if entity is not None:
                return entity
        return turn[min(attempt, len(turn)) - 1]

    def _hand_over(self, draft: Draft) -> Step:
        """To Envoy's listener of attempts, where the request comes again as it is, and with its answer."""
        draft.entity = None
        draft.set_headers += ((names.ROUTE_HEADER, names.ROUTE_ATTEMPTS),)
        draft.counted = False
        if draft.reasons is not None:
            draft.reasons.of(self, {"reason": HANDED_OVER})
        return ENOUGH

    def _choose(self, request: InferenceRequest, endpoint: ServingEndpoint, draft: Draft) -> tuple[ServedEntity, str, Assigned]:
        named = self._named(request, endpoint, draft.entity)
        wants_key = endpoint.needs_key or (
            endpoint.sticky and named is None and (endpoint.only is None or bool(endpoint.rules))
        )
        key = self._keys.find(request) if wants_key else None
        if not endpoint.rules and not endpoint.experiments:
            return (*named, UNASSIGNED) if named is not None else self._by_split(request, endpoint, key, UNASSIGNED)
        asking = Asking(
            request,
            draft.model,
            self._clock,
            self._draw_of(request),
            None if key is None else key.value,
            draft.subject,
            draft.groups,
            None if self._region_of is None else self._region_of(request),
        )
        rule = endpoint.rule_for(asking)
        if rule is not None and rule.refusal is not None:
            self._refuse(endpoint, rule, rule.refusal, draft, asking.failed)
        if named is not None:  # who asks for one entity gets no other, and is in no experiment
            return (*named, Assigned(failed=asking.failed))
        if rule is not None:
            assigned = Assigned(rule.name, failed=asking.failed)
            entity, _, assigned = self._by_split(request, endpoint, key, assigned, rule.shares)
            return entity, f"{BY_RULE}: {rule.name}", assigned
        return self._by_experiment(request, endpoint, key, asking)

    def _refuse(self, endpoint: ServingEndpoint, rule: Rule, refusal: RefusalSpec, draft: Draft, failed: int) -> NoReturn:
        draft.assigned = Assigned(rule.name, failed=failed)
        if draft.reasons is not None:
            draft.reasons.of(self, {"rule": rule.name})
        message = refusal.message or f"The endpoint `{endpoint.name}` does not serve this request"
        raise RefusedByRule(f"{message} (rule `{rule.name}`)", refusal.status)

    def _by_experiment(
        self, request: InferenceRequest, endpoint: ServingEndpoint, key: Key | None, asking: Asking
    ) -> tuple[ServedEntity, str, Assigned]:
        """By the arm that says who serves, where there is one; else by the split."""
        arms = endpoint.arms_for(asking) if key is not None else []
        if not arms or key is None:
            return self._by_split(request, endpoint, key, Assigned(failed=asking.failed))
        assigned = Assigned(
            "",
            tuple([(experiment.name, arm.name) for experiment, arm in arms]),
            overrides=tuple([experiment.name for experiment, arm in arms if arm.bucket < 0]),
            failed=asking.failed,
        )
        for experiment, arm in arms:
            if arm.entity:
                reason = f"{BY_EXPERIMENT}: {experiment.name}/{arm.name}"
                return endpoint.entity(arm.entity), reason, assigned.by_key(key.kind, arm.bucket)
        return self._by_split(request, endpoint, key, assigned)

    def _by_split(
        self,
        request: InferenceRequest,
        endpoint: ServingEndpoint,
        key: Key | None,
        assigned: Assigned,
        by_rule: Shares | None = None,
    ) -> tuple[ServedEntity, str, Assigned]:
        """By the endpoint's split, or by the one of a rule."""
        shares = endpoint.shares if by_rule is None else by_rule
        if key is None or not endpoint.sticky or shares.only is not None:
            return (*endpoint.choose(None, self._draw_of(request), shares), assigned)
        bucket = endpoint.bucket_of(key.value)
        return shares.owner_of(bucket), f"{BY_KEY}: {key.kind}", assigned.by_key(key.kind, bucket)

    def _named(
        self, request: InferenceRequest, endpoint: ServingEndpoint, named: ServedEntity | None
    ) -> tuple[ServedEntity, str] | None:
        """The entity that the client asks for, where it does."""
        path = request.path
        if "/served-" in path:
            address = address_of(path)
            if address is not None and address.entity:
                return endpoint.entity(address.entity), DIRECT
        return None if named is None else (named, NAMED)

    def _draw_of(self, request: InferenceRequest) -> Callable[[], float]:
        """What is drawn for the request: the same in each of its attempts, which must agree on the first entity."""
        number = request.head.headers.get(names.DRAW_HEADER) if request.head.attempt else None
        if not number:
            return self._draw
        drawn = int.from_bytes(blake2b(number, digest_size=_DRAW_BYTES).digest(), "big") / 256**_DRAW_BYTES
        return lambda: drawn

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        entity = draft.entity
        if entity is not None:
            reason = draft.entity_reason
            self._metrics.decided(entity.endpoint, entity.name, reason.partition(": ")[0])
            assigned = draft.assigned
            if assigned is not None and assigned.failed:
                self._metrics.unanswered(entity.endpoint, assigned.failed)
            if assigned is not None and draft.counted:  # a further attempt is the same exposure
                for experiment, arm in assigned.experiments:
                    how = OVERRIDE if experiment in assigned.overrides else ASSIGNED
                    self._metrics.exposed(entity.endpoint, experiment, arm, how)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        entity = draft.entity
        if entity is not None:
            self._metrics.ended(entity.endpoint, entity.name, ending.status)


def _have_a_choice(turn: tuple[ServedEntity, ...]) -> bool:
    """Whether several pools serve any of them."""
    return any(len(entity.pools) > 1 for entity in turn)


def _explained(endpoint: ServingEndpoint, entity: ServedEntity, reason: str, assigned: Assigned) -> dict[str, object]:
    told: dict[str, object] = {
        "entity": entity.name,
        "reason": reason,
        "model": entity.model,
        "split": {each.name: each.percentage for each in endpoint.entities},
    }
    if assigned.rule:
        told["rule"] = assigned.rule
    if assigned.experiments:
        told["experiments"] = dict(assigned.experiments)
    if assigned.overrides:
        told["overrides"] = list(assigned.overrides)
    if assigned.bucket >= 0:
        told["bucket"] = assigned.bucket
    return told
