"""A director without stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from extproc.director import Suspended
from extproc.domain import EMPTY_DECISION, Decision, Reply
from extproc.errors import ExtProcError
from extproc.protocol import Answered, Decide, Finished

Outcome: TypeAlias = Decision | Reply | Exception


class FakeDecider:
    """Decides as the test says: an outcome, an error to raise, or a function of the question. Keeps what it hears."""

    def __init__(
        self,
        outcome: Outcome | Callable[[Decide], Decision | Reply | Suspended] = EMPTY_DECISION,
        then: Callable[[object], Decision | Reply | Suspended] | None = None,
    ) -> None:
        """`then` goes on with what had to wait; without it that is an error."""
        self._then = then
        self._outcome = outcome
        self.asked: list[Decide] = []
        self.errors: list[ExtProcError] = []
        self.answers: list[Answered] = []
        self.resumed: list[object] = []
        self.gone: list[Suspended] = []
        self.ended: list[tuple[Finished, str]] = []

    def decide(self, question: Decide) -> Decision | Reply | Suspended:
        self.asked.append(question)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if isinstance(self._outcome, Decision | Reply):
            return self._outcome
        return self._outcome(question)

    def resume(self, suspended: Suspended, outcome: object) -> Decision | Reply | Suspended:
        self.resumed.append(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        assert self._then is not None
        return self._then(outcome)

    def withdrawn(self, suspended: Suspended) -> None:
        self.gone.append(suspended)

    def refused(self, error: ExtProcError) -> None:
        self.errors.append(error)

    def answered(self, answer: Answered) -> None:
        self.answers.append(answer)

    def finished(self, end: Finished, served: str) -> None:
        self.ended.append((end, served))
