"""What became of requests to serving endpoints, by served entity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from extproc.observability.instruments import UNBOUNDED, Instruments
from extproc.observability.kept import Kept

ASSIGNED: Final = "assigned"
OVERRIDE: Final = "override"
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

    def refused(self, endpoint: str, key: str, what: str) -> None:
        self._refused.child(endpoint, key, what).value += 1

    def used(self, endpoint: str, entity: str, prompt: int, completion: int) -> None:
        self._tokens.child(endpoint, entity, "prompt").value += prompt
        self._tokens.child(endpoint, entity, "completion").value += completion

    def keep(self, kept: Kept) -> None:
        """Forget what was counted of all other entities, and of endpoints without any."""
        entities, endpoints = kept.entities, {endpoint for endpoint, _ in kept.entities}
        self._refused.keep(lambda labels: labels[0] in endpoints)
        self._tokens.keep(lambda labels: labels[:2] in entities)


class ServingMetrics:
    """Requests by serving endpoint and served entity. Their names are configured, so a client can't invent any."""

    def __init__(self, instruments: Instruments) -> None:
        self._requests = instruments.counter(
            "extproc_serving_requests_total",
            "Requests to serving endpoints by the served entity that was chosen, and why: sticky (by a key), draw, only "
            "entity, rule, asked by model, asked directly, fallback (another one failed).",
            ["serving_endpoint", "served_entity", "reason"],
            most=UNBOUNDED,
        )
        self._unanswered = instruments.counter(
            "extproc_serving_expressions_failed_total",
            "Expressions in rules that gave no answer for a request, as types did not fit or there was too much to read; then "
            "the condition does not hold.",
            ["serving_endpoint"],
            most=UNBOUNDED,
        )
        self._exposures = instruments.counter(
            "extproc_experiment_exposures_total",
            "Requests that took part in an experiment, by arm, and how they came to it: assigned, or override (the list of "
            "testers).",
            ["serving_endpoint", "experiment", "arm", "how"],
            most=UNBOUNDED,
        )
        self._responses = instruments.counter(
            "extproc_serving_responses_total",
            "Requests to serving endpoints that ended, by the class of their status; none: there was no answer.",
            ["serving_endpoint", "served_entity", "code"],
            most=UNBOUNDED,
        )

    def decided(self, endpoint: str, entity: str, reason: str) -> None:
        """An entity was chosen, and the decision goes out."""
        self._requests.child(endpoint, entity, reason).value += 1

    def unanswered(self, endpoint: str, number: int) -> None:
        """Expressions gave no answer for a request."""
        self._unanswered.child(endpoint).value += number

    def exposed(self, endpoint: str, experiment: str, arm: str, how: str) -> None:
        """A request took part in an experiment; `how` is `ASSIGNED` or `OVERRIDE`."""
        self._exposures.child(endpoint, experiment, arm, how).value += 1

    def ended(self, endpoint: str, entity: str, status: int) -> None:
        """The request is over; `status` is 0 when it had no answer."""
        group = status // 100 if 100 <= status < 600 else 0
        self._responses.child(endpoint, entity, _CLASSES[group]).value += 1

    def keep(self, kept: Kept) -> None:
        """Forget what was counted of all other entities and arms."""
        entities, endpoints = kept.entities, {endpoint for endpoint, _ in kept.entities}
        self._exposures.keep(lambda labels: (labels[0], f"{labels[1]}/{labels[2]}") in kept.shown)
        self._unanswered.keep(lambda labels: labels[0] in endpoints)
        self._requests.keep(lambda labels: labels[:2] in entities)
        self._responses.keep(lambda labels: labels[:2] in entities)


class SplitMetrics:
    """What of its requests each serving endpoint gives to whom, as it is configured now."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._shares = instruments.gauge(
            "extproc_serving_traffic_percentage",
            "Percent of a serving endpoint's requests that its split gives to a served entity.",
            ["serving_endpoint", "served_entity"],
            most=UNBOUNDED,
        )

    def watch(self, describe: Callable[[], Iterable[tuple[str, str, int]]]) -> None:
        """Show these: endpoint, entity and percent, now."""
        self._instruments.before_collect.append(lambda: self._refresh(describe()))

    def _refresh(self, rows: Iterable[tuple[str, str, int]]) -> None:
        shares = {(endpoint, entity): float(percent) for endpoint, entity, percent in rows}
        self._shares.keep(lambda labels: labels in shares)
        for labels, share in shares.items():
            self._shares.child(*labels).value = share
