"""Metrics of a registry of models: whether it answers, how old its last word is, and which entities followed it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from extproc.observability.instruments import UNBOUNDED, Instruments


class RegistryMetrics:
    """`extproc_registry_*`."""

    def __init__(self, instruments: Instruments, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and never goes back."""
        self._clock = clock
        self._answered_s: float | None = None
        self.up = instruments.gauge(
            "extproc_registry_up",
            "1 while the registry of models answers all that it is asked; at 0 the versions that were known last are served.",
        ).child()
        self.up.value = 1.0  # nothing was asked yet
        self._age = instruments.gauge(
            "extproc_registry_answer_age_seconds",
            "Since the registry last answered all that it was asked; not there before it did so once.",
        )
        self.requests = instruments.counter(
            "extproc_registry_requests_total",
            "Requests to the registry of models, by what came of them: ok, absent, unreachable, timeout, refused, status, "
            "unreadable, credentials.",
            ["outcome"],
        )
        self.moves = instruments.counter(
            "extproc_registry_moves_total",
            "What came of aliases that moved, by serving endpoint: config (a new version of it), rollout (its plan was begun), "
            "abort (its rollout was taken back), failed.",
            ["serving_endpoint", "how"],
            most=UNBOUNDED,
        )
        self._held = instruments.gauge(
            "extproc_registry_held",
            "1 for a served entity that stays on its version although its alias means another one, or none that can be served.",
            ["serving_endpoint", "served_entity"],
            most=UNBOUNDED,
        )
        instruments.before_collect.append(self._refresh)

    def answered(self) -> None:
        """It has just answered everything."""
        self._answered_s = self._clock()
        self.up.value = 1.0

    def age_s(self) -> float | None:
        """Since it did so."""
        return None if self._answered_s is None else self._clock() - self._answered_s

    def hold(self, held: Collection[tuple[str, str]], endpoints: Collection[str]) -> None:
        """These (endpoint, entity) stay where they are, and no others; of endpoints that are gone nothing is shown."""
        self._held.keep(lambda labels: labels in held)
        for endpoint, entity in held:
            self._held.child(endpoint, entity).value = 1.0
        self.moves.keep(lambda labels: labels[0] in endpoints)

    def _refresh(self) -> None:
        age_s = self.age_s()
        if age_s is not None:
            self._age.child().value = age_s
