"""One choice of an endpoint: the request, and what producers found out for it. Then what plugins remember of it."""

from __future__ import annotations

from typing import NamedTuple

from extproc.domain import InferenceRequest


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


class Cycle:
    """From the first plugin that looks at a request to the last that hears of its end.

    Plugins read it and write nothing into it but `kept`, from `picked` on; what producers say is written by the scheduler.
    """

    __slots__ = ("answer_is_seen", "decided_s", "facts", "kept", "measured", "priority", "request")

    def __init__(self, request: InferenceRequest, priority: int = 0) -> None:
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
