"""What a stage is: it decides; it may wait; and it may want to hear what became of the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from extproc.domain import InferenceRequest, Reply
from extproc.errors import DecisionTimeout, ExtProcError
from extproc.stages.draft import Draft


class Enough:
    """The decision is whole: the stages behind are not asked. It goes out, and they hear of it as of any other."""

    __slots__ = ()


ENOUGH: Final = Enough()

Step: TypeAlias = "Reply | Pending | Enough | None"
"""What comes of a stage: an answer of our own, a wait, the end of the decision, or None to go on."""


class Stage(Protocol):
    """One step of a decision."""

    @property
    def hooks(self) -> Hooks:
        """What the stage wants to hear of requests, asked once; NO_HOOKS for nothing."""
        ...

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        """Read, and add to the draft; a Reply ends the decision. Raises ExtProcError for what the client must see.

        It books, counts and logs nothing: the same call explains, tries and replays. When `draft.reasons` is not None, it also
        says there what it saw.
        """
        ...


NO_FALLBACK: Final = object()


class Pending:
    """A stage has to wait: for its turn, for tokens, for somebody's answer.

    Nothing has happened when it is made. Whoever carries the request says `begin`; a decision that is only explained does not.
    Stages that wait come before the choice of an endpoint, as what is chosen counts when the decision goes out.
    """

    __slots__ = ("_fallback", "begin", "may_be_long", "then", "timeout_s", "what")

    def __init__(
        self,
        what: str,
        begin: Callable[[Callable[[object], None]], Callable[[], None]],
        then: Callable[[object], Step],
        *,
        timeout_s: float,
        fallback: object = NO_FALLBACK,
        may_be_long: bool = False,
    ) -> None:
        """`what` it waits for, as metrics name it: few words, never a client's.

        `begin(resolve)` starts to wait and returns what cancels the wait. `resolve(outcome)` is said once, on the event loop,
        at once or later; an outcome that is an exception ends the decision with it. The wait is cancelled, once and not
        after `resolve`, at `timeout_s` seconds or when nobody wants the decision any more (the client left, the request's own
        time is over). `then(outcome)` goes on with the stage, as `Stage.decide` would. With a `fallback` that is the outcome at
        the deadline; without it the request is answered with 504 `decision_timeout`. `may_be_long`: many may wait for long, so
        that what can be made again is let go of meanwhile.
        """
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s:g}; expected more than 0")
        self.what = what
        self.begin = begin
        self.then = then
        self.timeout_s = timeout_s
        self.may_be_long = may_be_long
        self._fallback = fallback

    def at_deadline(self) -> object:
        """The outcome when its time is over."""
        if self._fallback is not NO_FALLBACK:
            return self._fallback
        return DecisionTimeout(f"no decision within {self.timeout_s:g} s: waited for {self.what}")


class Ending:
    """How a request ended. Immutable by convention; every request has one, and a class costs a fifth of a tuple."""

    __slots__ = ("by", "complete", "error", "served", "status")

    def __init__(
        self,
        status: int = 0,
        complete: bool = False,
        served: str = "",
        *,
        error: ExtProcError | None = None,
        by: Stage | None = None,
    ) -> None:
        self.status = status
        """Of the response, or of our own answer; 0 when there was none."""
        self.complete = complete
        """The end of the response was seen."""
        self.served = served
        """The endpoint that answered, as the proxy tells it; '' when it does not."""
        self.error = error
        """Why there was no decision, when the client is at fault or we could not make one."""
        self.by = by
        """The stage that refused the request or answered it itself."""

    def __repr__(self) -> str:
        return f"<Ending {self.status}{f' {self.error.code}' if self.error else ''}>"


class Hooks(NamedTuple):
    """Accounting: which methods of a stage hear what became of the requests that a director decided; None hears nothing.

    A request for which any stage was asked ends with exactly one `ended`. `committed` is said before it when the decision
    goes out, and the others between the two. Each is called in the order of the stages. What they raise is logged and the
    request goes on, but for `committed`, whose failure is the request's.
    """

    committed: Callable[[InferenceRequest, Draft], None] | None = None
    """The decision goes out, in the same call that made it: nobody else was decided in between, unless a stage behind waits."""
    answered: Callable[[Draft, int], None] | None = None
    """The response's headers are here, with this status; 0 when it is no number."""
    served_elsewhere: Callable[[Draft, str], None] | None = None
    """Another endpoint than the picked one answers."""
    ended: Callable[[Draft, Ending], None] | None = None
    """The request is over. `Draft.committed` tells whether there was a decision."""


NO_HOOKS: Final = Hooks()
