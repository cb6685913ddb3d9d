"""A stage that waits, with the test's hand on what it waits for; and a carrier for sessions without a transport."""

from __future__ import annotations

from collections.abc import Callable

from extproc.domain import InferenceRequest
from extproc.stages import Draft, Ending, Hooks, Pending, Step
from extproc.stages.stage import NO_FALLBACK
from extproc.transport.codec import Message
from extproc.transport.session import Session

ENDLESS_S = 3600.0


class WaitingStage:
    """Waits for an outcome, sets it as a header, and counts what it hears."""

    def __init__(
        self, *, timeout_s: float = ENDLESS_S, fallback: object = NO_FALLBACK, at_once: object = None, may_be_long: bool = False
    ) -> None:
        """`at_once`: the outcome is known when the wait begins."""
        self._may_be_long = may_be_long
        self.hooks = Hooks(self._committed, self._answered, self._served_elsewhere, self._ended)
        self.heard: list[object] = []
        self.resolve: Callable[[object], None] | None = None
        self.cancelled = 0
        self.begun = 0
        self.again = 0
        """How many waits more come after the first."""
        self._timeout_s = timeout_s
        self._fallback = fallback
        self._at_once = at_once

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        def then(outcome: object) -> Step:
            draft.set_headers += (("x-waited-for", str(outcome)),)
            if self.again:
                self.again -= 1
                return Pending("the test", self._begin, then, timeout_s=self._timeout_s)
            return None

        return Pending(
            "the test",
            self._begin,
            then,
            timeout_s=self._timeout_s,
            fallback=self._fallback,
            may_be_long=self._may_be_long,
        )

    def _begin(self, resolve: Callable[[object], None]) -> Callable[[], None]:
        self.begun += 1
        self.resolve = resolve
        if self._at_once is not None:
            resolve(self._at_once)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        self.heard.append("committed")

    def _answered(self, draft: Draft, status: int) -> None:
        self.heard.append(f"answered {status}")

    def _served_elsewhere(self, draft: Draft, served: str) -> None:
        self.heard.append(f"served by {served}")

    def _ended(self, draft: Draft, ending: Ending) -> None:
        error = f" {ending.error.code}" if ending.error is not None else ""
        self.heard.append(f"ended {ending.status}{error}")


class FakeCarrier:
    """Keeps the answers of resumed sessions, and time: `expire` lets the timer go off."""

    def __init__(self, session: Session, *, takes_turns: bool = False) -> None:
        self.session = session
        self.takes_turns = takes_turns
        self.turns = 0
        """How often one was asked for."""
        self.answers: list[Message] = []
        self.timers: list[FakeTimer] = []
        session.carrier = self

    def later(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(delay_s, call)
        self.timers.append(timer)
        return timer

    def ask(self) -> bool:
        self.turns += 1
        return self.takes_turns

    def take_turn(self) -> None:
        self.answers += self.session.take_turn()

    def resume(self, outcome: object) -> None:
        self.answers += self.session.resume(outcome)

    def expire(self) -> None:
        for timer in list(self.timers):
            if not timer.cancelled:
                timer.call()


class FakeTimer:
    def __init__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.delay_s = delay_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
