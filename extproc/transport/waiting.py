"""A decision that waits: begun, over at its deadline, withdrawn when nobody wants it any more; whichever comes first, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from extproc.director import Suspended
from extproc.observability.logs import peer_logger

_log = peer_logger(__name__)


class Timer(Protocol):
    """Something that happens later."""

    def cancel(self) -> None:
        """Let it not happen."""
        ...


class Carrier(Protocol):
    """The transport's side of a session that waits: a stream on its event loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call in so many seconds."""
        ...

    def ask(self) -> bool:
        """A decision on a large body is next. True: `Session.take_turn` will be said after this returned; False: decide now."""
        ...

    def resume(self, outcome: object) -> None:
        """The wait is over: say `Session.resume(outcome)`, and send what it returns."""
        ...


class Wait:
    """One wait of one session. `over` is true from when an outcome is known, or nobody wants one."""

    __slots__ = ("_cancel", "_carrier", "_timer", "outcome", "over", "suspended")

    def __init__(self, suspended: Suspended, carrier: Carrier) -> None:
        self.suspended = suspended
        self.over = False
        self.outcome: object = None
        self._carrier: Carrier | None = None
        self._timer: Timer | None = None
        self._cancel: Callable[[], None] | None = None
        pending = suspended.pending
        try:
            self._cancel = pending.begin(self._resolve)
        except Exception as error:
            self._resolve(error)
        if not self.over:
            # From here on an outcome comes from outside, and the carrier is told.
            self._carrier = carrier
            self._timer = carrier.later(pending.timeout_s, self._time_out)

    def withdraw(self) -> None:
        """Nobody wants the outcome any more."""
        if not self.over:
            self._end()
            self._let_go()

    def _resolve(self, outcome: object) -> None:
        if self.over:
            return
        carrier = self._carrier
        self._end()
        self.outcome = outcome
        if carrier is not None:
            carrier.resume(outcome)

    def _time_out(self) -> None:
        if self.over:
            return
        carrier = self._carrier
        self._end()
        self._let_go()
        if carrier is not None:
            carrier.resume(self.suspended.pending.at_deadline())

    def _let_go(self) -> None:
        if self._cancel is not None:
            try:
                self._cancel()
            except Exception:  # the request must not hang because of it
                _log.exception("a wait could not be cancelled", waits_for=self.suspended.pending.what)

    def _end(self) -> None:
        self.over = True
        self._carrier = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
