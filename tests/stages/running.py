"""A stage by itself."""

from __future__ import annotations

from extproc.domain import InferenceRequest, Reply
from extproc.stages import Draft, Stage
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted


def run(stage: Stage, what: InferenceRequest, draft: Draft | None = None) -> tuple[Draft, Reply | None]:
    """The draft after it, and its answer."""
    draft = draft or Draft(0.0)
    return draft, stage.run(what, draft)


def counts(deployment: Deployment, prefix: str) -> dict[str, float]:
    """The metrics of this prefix that are not 0."""
    return counted(deployment.instruments, prefix)
