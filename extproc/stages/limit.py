"""Limits on the calls and tokens of a serving endpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from extproc.domain import InferenceRequest
from extproc.errors import RateLimited
from extproc.live import Live
from extproc.observability.serving import LimitMetrics
from extproc.request import KeyFinder
from extproc.response import Measurement
from extproc.response.usage import NO_USAGE
from extproc.stages.draft import Charge, Draft
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import ServingEndpoint, TrafficTable
from extproc.traffic.limits import Asker, EndpointLimits

_BYTES_A_TOKEN: Final = 4
"""Where nobody says how many there are (Databricks estimates (text length + 1) / 4)."""


class LimitRate:
    """Refuses what is over a limit with 429, and counts what goes out: a call at once, tokens as the answer says.

    Until an answer has said what it cost, its request counts as an estimate of its prompt; where it never says, that and an
    estimate of the answer stay, and a failure costs no tokens. A call that is tried again elsewhere counts once.
    """

    def __init__(
        self,
        table: Live[TrafficTable],
        metrics: LimitMetrics,
        keys: KeyFinder = KeyFinder(),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._metrics = metrics
        self._keys = keys
        self._clock = clock
        self._limits: dict[str, tuple[ServingEndpoint, EndpointLimits]] = {}
        self._revision = table.revision
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        endpoint = draft.endpoint
        attempt = request.head.attempt
        if endpoint is None or attempt == 0:  # handed over: it comes again, as attempt 1, and so does its answer
            return None
        spec = endpoint.spec
        if not spec.rate_limits and not spec.usage_tracking:
            return None
        limits = self._limits_of(endpoint)
        asker = self._asker(request, draft)
        tokens = _estimate(request.body_bytes) if limits.counts_tokens else 0
        if attempt is not None and attempt > 1:
            draft.charge = Charge(limits, asker, tokens, calls=0)
            return None
        exceeded = limits.exceeded(asker, self._clock())
        if draft.reasons is not None:
            draft.reasons.of(self, {"exceeded": None if exceeded is None else str(exceeded)})
        if exceeded is not None:
            draft.limited = (exceeded.key, exceeded.what)
            wait_s = max(1, math.ceil(exceeded.wait_s))
            message = f"Endpoint `{endpoint.name}`: {exceeded} is used up; try again in {wait_s} s"
            raise RateLimited(message, retry_after_s=wait_s)
        draft.charge = Charge(limits, asker, tokens)
        return None

    def _limits_of(self, endpoint: ServingEndpoint) -> EndpointLimits:
        """Its limits, with what was used of them: a change of anything else leaves them as they are."""
        table = self._table
        if table.revision != self._revision:
            self._revision = table.revision
            for name in [name for name in self._limits if table.value.get(name) is None]:
                del self._limits[name]
        known = self._limits.get(endpoint.name)
        if known is not None:
            before, limits = known
            if before is endpoint or before.spec.rate_limits == endpoint.spec.rate_limits:
                return limits
        made = EndpointLimits(endpoint.spec.rate_limits)
        self._limits[endpoint.name] = (endpoint, made)
        return made

    def _asker(self, request: InferenceRequest, draft: Draft) -> Asker:
        if draft.subject:
            return Asker(_known_as(b"subject", draft.subject.encode()), draft.subject, draft.groups)
        key = self._keys.find(request)
        return Asker(b"" if key is None else _known_as(b"key", key.value))

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        charge = draft.charge
        if charge is None:
            return
        charge.limits.take(charge.asker, charge.calls, charge.tokens, self._clock())
        if draft.answer_is_seen and draft.measurement is None:
            draft.measurement = Measurement(draft.started_s, self._clock, _nothing)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        endpoint = draft.endpoint
        if endpoint is None:
            return
        if ending.by is self and draft.limited is not None:
            self._metrics.refused(endpoint.name, *draft.limited)
        charge = draft.charge
        if charge is None or not draft.committed:
            return
        draft.charge = None
        measured = draft.measurement
        usage = NO_USAGE if measured is None else measured.usage
        prompt, completion = usage.prompt, usage.completion
        if prompt is None and completion is None:
            if not 200 <= ending.status < 300:
                prompt = 0
            else:
                prompt, completion = charge.tokens, 0 if measured is None else _estimate(measured.size_bytes)
        elif endpoint.spec.usage_tracking and draft.entity is not None:
            self._metrics.used(endpoint.name, draft.entity.name, prompt or 0, completion or 0)
        charge.limits.take(charge.asker, 0, (prompt or 0) + (completion or 0) - charge.tokens, self._clock())


def _known_as(kind: bytes, value: bytes) -> bytes:
    """Whose bucket it is, in 16 bytes: a hundred thousand may be kept, whatever they send, and nobody's key. Who merely says a
    name has another bucket than who has the token of that name.
    """
    return blake2b(value, digest_size=16, person=kind).digest()


def _estimate(size_bytes: int) -> int:
    return (size_bytes + 1) // _BYTES_A_TOKEN


def _nothing(gap_s: float) -> None:
    """Nobody asked for the gaps."""
