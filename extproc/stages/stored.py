"""Requests about a response that an endpoint made and keeps (OpenAI's Responses API)."""

from __future__ import annotations

from extproc.domain import InferenceRequest
from extproc.request.paths import stored_response
from extproc.response import ResponseId
from extproc.stages.draft import Draft
from extproc.stages.stage import Hooks, Step
from extproc.traffic import MadeAt, StoredResponses


class FindStored:
    """Leads `/v1/responses/{id}`, and a request that goes on from a `previous_response_id`, to where that response was made.

    It learns from answers whose bodies are sent to us. What it does not know goes where any other request would.
    """

    def __init__(self, stored: StoredResponses) -> None:
        self._stored = stored
        self.hooks = Hooks(committed=self._committed)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        path = request.path
        if "/responses" not in path:
            return None
        asked = stored_response(path) or _previous(request)
        made_at = None if asked is None else self._stored.made_at(asked)
        if made_at is not None:
            draft.made_at = made_at
            if request.model is None:
                draft.pool = made_at.pool
        if draft.reasons is not None:
            draft.reasons.of(self, {"response": asked, "made_at": made_at.endpoint if made_at is not None else None})
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        if not request.path.endswith("/responses") or request.head.headers.get(":method") != b"POST":
            return

        def found(response_id: str) -> None:
            booking = draft.booking
            if booking is not None:
                self._stored.learn(response_id, MadeAt(booking.pool, booking.outcome.served or draft.destination))

        draft.response_id = ResponseId(found)


def _previous(request: InferenceRequest) -> str | None:
    payload = request.payload
    previous = None if payload is None else payload.get("previous_response_id")
    return previous if isinstance(previous, str) else None
