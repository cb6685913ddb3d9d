"""One choice of an endpoint: the request, and what producers found out for it. Then what plugins remember of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from extproc.candidates import Candidates
from extproc.domain import InferenceRequest

AWAITED_S: Final = 0.4
"""How long a producer's answer is waited for unless it says otherwise: upstream's."""


class Measured(NamedTuple):
    """What was seen of an answer that passed by us, in seconds; None where there was too little of it."""

    ttft_s: float | None
    """From the choice to the first piece of its body."""
    tpot_s: float | None
    """From one token to the next, on average."""
    prompt_tokens: int | None = None
    """How many the answer says that the prompt had."""


class Tokens(NamedTuple):
    """What an answer says that it cost, each None when it does not."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    """Of the prompt's, those that were in the server's cache."""


class Awaited:
    """What a producer returns that has to ask somebody: the choice waits for it, and goes on without when it takes too long.

    Nothing has happened when it is made. What is only explained, and a copy of a request, takes the fallback at once.
    """

    __slots__ = ("begin", "fact", "fallback", "timeout_s")

    def __init__(
        self,
        begin: Callable[[Callable[[object], None]], Callable[[], None]],
        fact: Callable[[object, Candidates], object],
        *,
        fallback: object = None,
        timeout_s: float = AWAITED_S,
    ) -> None:
        """`begin(resolve)` starts, and returns what cancels it. `resolve(outcome)` is said once, on the event loop, at once or
        later; the wait is cancelled, once and not after `resolve`, when its time is over or nobody wants the choice any more.
        The outcome is the `fallback` at the deadline, and where `begin` raises or the outcome is an exception. `fact(outcome,
        candidates)` makes of it what is found in `Cycle.facts`, with the candidates as they are then: endpoints may have come
        and gone since.
        """
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s:g}; expected more than 0")
        self.begin = begin
        self.fact = fact
        self.fallback = fallback
        self.timeout_s = timeout_s


class Answer:
    """What came of a wait."""

    __slots__ = ("awaited", "outcome")

    def __init__(self, awaited: Awaited, outcome: object) -> None:
        self.awaited = awaited
        self.outcome = outcome


class Waits(Exception):
    """The choice can't be made yet: the producer of this name has to be waited for."""

    def __init__(self, name: str, awaited: Awaited) -> None:
        super().__init__(name)
        self.name = name
        self.awaited = awaited


NO_ANSWERS: Final[Mapping[str, Answer]] = {}


class Cycle:
    """From the first plugin that looks at a request to the last that hears of its end.

    Plugins read it and write nothing into it but `kept`, from `picked` on; what producers say is written by the scheduler.
    """

    __slots__ = ("answer_is_seen", "answers", "decided_s", "facts", "kept", "measured", "priority", "request")

    def __init__(self, request: InferenceRequest, priority: int = 0, answers: Mapping[str, Answer] = NO_ANSWERS) -> None:
        """`answers`: of the producers that were waited for, by their names."""
        self.answers = answers
        self.request: InferenceRequest | None = request
        """`model` is the one that will serve. None when the decision has gone out, as bodies are large and answers long."""
        self.priority = priority
        self.facts: dict[str, object] = {}
        """What producers said, by the name of the plugin. Let go with the request."""
        self.kept: dict[str, object] = {}
        """What plugins that listen need when the request ends, by their names."""
        self.decided_s = 0.0
        """When the choice was made, by the stage's clock."""
        self.answer_is_seen = False
        """When the response's headers are here: its body will come by us."""
        self.measured: Measured | None = None
        """Of its answer, when the request has ended; None when that did not pass by us."""

    @property
    def asked(self) -> InferenceRequest:
        """The request, while the choice is made."""
        request = self.request
        assert request is not None, "the decision went out"
        return request

    def let_go(self) -> None:
        """The choice is made and told: keep only what listeners keep."""
        self.request = None
        self.facts = {}
        self.answers = NO_ANSWERS
