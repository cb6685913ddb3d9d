"""A decision while the stages work on it, and what a stage is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from extproc.domain import InferenceRequest, Reply, Splice
from extproc.observability.decisions import Outcome
from extproc.observability.metrics import ModelMetrics
from extproc.pool import PoolStore, Ticket
from extproc.response import Measurement


@dataclass(slots=True)
class InFlight:
    """What is given back when a picked request ends."""

    pool: str
    store: PoolStore
    ticket: Ticket
    """Changes when another endpoint turns out to serve the request."""
    metrics: ModelMetrics
    model: str
    target_model: str | None
    """The model that serves the request, None when it is `model`."""
    started_s: float
    outcome: Outcome
    measurement: Measurement | None = None


class Draft:
    """A decision while the stages work on it."""

    __slots__ = (
        "body",
        "complete",
        "destination",
        "measurement",
        "metadata",
        "pool",
        "priority",
        "remove_headers",
        "restore_model",
        "set_headers",
        "splices",
        "started_s",
        "target_model",
        "ticket",
    )

    def __init__(self, started_s: float, body: bytes | None = None, complete: bool = True) -> None:
        """`body` and `complete` as in Decide."""
        self.started_s = started_s
        self.body = body
        self.complete = complete
        self.set_headers: tuple[tuple[str, str], ...] = ()
        self.remove_headers: tuple[str, ...] = ()
        self.metadata: tuple[tuple[str, str | tuple[tuple[str, float], ...]], ...] = ()
        self.pool: str | None = None
        self.ticket: InFlight | None = None
        self.destination = ""
        self.measurement: Measurement | None = None
        """Wants to be told of the response."""
        self.restore_model: tuple[str, str] | None = None
        """The served name and the client's, which the response is to name instead."""
        self.target_model: str | None = None
        """The model that serves the request instead of the one that it names."""
        self.splices: tuple[Splice, ...] = ()
        self.priority = 0
        """More is more important; below 0 may be shed."""


class Stage(Protocol):
    """One step of a decision."""

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        """Add to the draft; a Reply ends the decision. Raises ExtProcError."""
        ...

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        """What `run` would do, for people to read. Raises ExtProcError as `run` would.

        Has the key `answered`, a status, when `run` would end the decision with a Reply.
        """
        ...


def present(owned: tuple[str, ...], request: InferenceRequest) -> tuple[str, ...]:
    """Those of the header names that the request has."""
    headers = request.head.headers
    return tuple([name for name in owned if name in headers])
