"""What became of requests to serving endpoints, by served entity."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from extproc.observability.instruments import UNBOUNDED, Instruments, Value

_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class LimitMetrics:
    """What was refused for a limit, and the tokens that were used."""

    def __init__(self, instruments: Instruments) -> None:
        self._refused = instruments.counter(
            "extproc_serving_rate_limited_total",
            "Requests to serving endpoints that were answered with 429, by whose limit (endpoint, user, user_group, "
            "service_principal) of what (calls, tokens).",
            ["serving_endpoint", "key", "what"],
            most=UNBOUNDED,
        )
        self._tokens = instruments.counter(
            "extproc_serving_tokens_total",
            "Tokens of requests to serving endpoints whose usage is tracked, as their answers say.",
            ["serving_endpoint", "served_entity", "kind"],
            most=UNBOUNDED,
        )

        self._limits: set[tuple[str, str, str]] = set()
        self._users: set[tuple[str, str]] = set()

    def refused(self, endpoint: str, key: str, what: str) -> None:
        self._limits.add((endpoint, key, what))
        self._refused.child(endpoint, key, what).value += 1

    def used(self, endpoint: str, entity: str, prompt: int, completion: int) -> None:
        self._users.add((endpoint, entity))
        self._tokens.child(endpoint, entity, "prompt").value += prompt
        self._tokens.child(endpoint, entity, "completion").value += completion

    def keep(self, entities: Collection[tuple[str, str]]) -> None:
        """Forget what was counted of all entities but these (endpoint, entity), and of endpoints without any."""
        endpoints = {endpoint for endpoint, _ in entities}
        for limit in [limit for limit in self._limits if limit[0] not in endpoints]:
            self._limits.discard(limit)
            self._refused.remove(*limit)
        for used in [used for used in self._users if used not in entities]:
            self._users.discard(used)
            for kind in ("prompt", "completion"):
                self._tokens.remove(*used, kind)


class ServingMetrics:
    """Requests by serving endpoint and served entity. Their names are configured, so a client can't invent any."""

    def __init__(self, instruments: Instruments) -> None:
        self._requests = instruments.counter(
            "extproc_serving_requests_total",
            "Requests to serving endpoints by the served entity that was chosen, and why: sticky (by a key), draw, only "
            "entity, asked by model, asked directly, fallback (another one failed).",
            ["serving_endpoint", "served_entity", "reason"],
            most=UNBOUNDED,
        )
        self._responses = instruments.counter(
            "extproc_serving_responses_total",
            "Requests to serving endpoints that ended, by the class of their status; none: there was no answer.",
            ["serving_endpoint", "served_entity", "code"],
            most=UNBOUNDED,
        )
        self._decided: dict[tuple[str, str, str], Value] = {}
        self._ended: dict[tuple[str, str, int], Value] = {}

    def decided(self, endpoint: str, entity: str, reason: str) -> None:
        """An entity was chosen, and the decision goes out."""
        key = (endpoint, entity, reason)
        child = self._decided.get(key)
        if child is None:
            child = self._decided[key] = self._requests.child(endpoint, entity, reason)
        child.value += 1

    def ended(self, endpoint: str, entity: str, status: int) -> None:
        """The request is over; `status` is 0 when it had no answer."""
        group = status // 100 if 100 <= status < 600 else 0
        key = (endpoint, entity, group)
        child = self._ended.get(key)
        if child is None:
            child = self._ended[key] = self._responses.child(endpoint, entity, _CLASSES[group])
        child.value += 1

    def keep(self, entities: Collection[tuple[str, str]]) -> None:
        """Forget what was counted of all entities but these (endpoint, entity)."""
        for decided in [key for key in self._decided if key[:2] not in entities]:
            del self._decided[decided]
            self._requests.remove(*decided)
        for ended in [key for key in self._ended if key[:2] not in entities]:
            del self._ended[ended]
            self._responses.remove(ended[0], ended[1], _CLASSES[ended[2]])
