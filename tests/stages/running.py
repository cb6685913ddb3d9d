"""A stage by itself."""

from __future__ import annotations

from typing import Any

from extproc.domain import InferenceRequest
from extproc.errors import ExtProcError
from extproc.stages import Draft, Ending, Enough, Reasons, Stage, Step
from tests.fakes.deployment import Deployment
from tests.fakes.page import counted


def run(stage: Stage, what: InferenceRequest, draft: Draft | None = None) -> tuple[Draft, Step]:
    """The draft after it, accounted for as a director would, and its answer."""
    draft = draft or Draft(0.0)
    draft.model, draft.empty_model = what.model, what.empty_model
    hooks = stage.hooks
    try:
        step = stage.decide(what, draft)
    except ExtProcError as error:
        if hooks.ended is not None:
            hooks.ended(draft, Ending(error.status, error=error, by=stage))
        raise
    if step is None or isinstance(step, Enough):
        draft.committed = True
        if hooks.committed is not None:
            hooks.committed(what, draft)
    return draft, step


def end(stage: Stage, draft: Draft, status: int, served: str = "") -> None:
    """The request of a draft is over."""
    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending(status, True, served))


def explained(stage: Stage, what: InferenceRequest, draft: Draft | None = None) -> dict[str, Any]:
    """What the stage says of its decision, which is not accounted for. Raises as the stage does."""
    draft = draft or Draft(0.0)
    draft.model, draft.empty_model = what.model, what.empty_model
    draft.reasons = Reasons()
    assert stage.decide(what, draft) is None
    return draft.reasons.by_stage.get(type(stage).__name__, {})


def counts(deployment: Deployment, prefix: str) -> dict[str, float]:
    """The metrics of this prefix that are not 0."""
    return counted(deployment.instruments, prefix)
