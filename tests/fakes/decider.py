"""A director without stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from extproc.domain import EMPTY_DECISION, Decision, Reply
from extproc.errors import ExtProcError
from extproc.protocol import Decide, Finished, ServedElsewhere

Outcome: TypeAlias = Decision | Reply | Exception


class FakeDecider:
    """Decides as the test says: an outcome, an error to raise, or a function of the question. Keeps what it hears."""

    def __init__(self, outcome: Outcome | Callable[[Decide], Decision | Reply] = EMPTY_DECISION) -> None:
        self._outcome = outcome
        self.asked: list[Decide] = []
        self.errors: list[ExtProcError] = []
        self.elsewhere: list[ServedElsewhere] = []
        self.ended: list[tuple[Finished, str]] = []

    def decide(self, question: Decide) -> Decision | Reply:
        self.asked.append(question)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if isinstance(self._outcome, Decision | Reply):
            return self._outcome
        return self._outcome(question)

    def refused(self, error: ExtProcError) -> None:
        self.errors.append(error)

    def served_elsewhere(self, told: ServedElsewhere) -> None:
        self.elsewhere.append(told)

    def finished(self, end: Finished, served: str) -> None:
        self.ended.append((end, served))
