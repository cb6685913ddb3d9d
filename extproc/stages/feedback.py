"""What a client says of earlier answers of a serving endpoint, in a header of its next request."""

from __future__ import annotations

from extproc import names
from extproc.domain import InferenceRequest
from extproc.measures import Measures
from extproc.observability.measures import FeedbackMetrics
from extproc.request.feedback import feedback_of
from extproc.stages.draft import Draft
from extproc.stages.stage import Hooks, Step


class HearFeedback:
    """Takes the header off the request, and counts what it says when the decision goes out: of answers of the same endpoint, as
    long as we know whose they were. It decides nothing, and a header that can't be read is no error.
    """

    def __init__(self, measures: Measures, metrics: FeedbackMetrics) -> None:
        self._measures = measures
        self._metrics = metrics
        self.hooks = Hooks(committed=self._committed)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        # Handed over, it comes again with the header, as an attempt.
        if draft.endpoint is not None and request.head.attempt != 0 and names.FEEDBACK_HEADER in request.head.headers:
            draft.remove_headers += (names.FEEDBACK_HEADER,)
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        said = request.head.headers.get(names.FEEDBACK_HEADER)
        endpoint = draft.endpoint
        if said is None or endpoint is None or not draft.counted:
            return
        remembered, metrics = self._measures.remembered, self._metrics
        for each in feedback_of(said):
            if each is None:
                metrics.unread()
            else:
                metrics.said(remembered.rate(each[0], each[1], endpoint.name))
