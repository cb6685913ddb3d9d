"""The body-based router."""

from __future__ import annotations

from typing import Any

from extproc import names
from extproc.domain import InferenceRequest, Reply
from extproc.observability.metrics import RouterMetrics
from extproc.stages.draft import Draft, present
from extproc.traffic import AdapterMap


class ModelHeaders:
    """The body-based router: the model and its base model as headers; a client's own copies of them never pass."""

    def __init__(self, metrics: RouterMetrics, adapters: AdapterMap = AdapterMap()) -> None:
        self.adapters = adapters
        """Replaced as a whole when its file changes."""
        self._metrics = metrics

    def run(self, request: InferenceRequest, draft: Draft) -> Reply | None:
        self._headers(request, draft)
        metrics = self._metrics
        if request.model is not None:
            metrics.success.value += 1
            metrics.model(request.model).value += 1
        elif request.empty_model:
            metrics.empty.value += 1
        else:
            metrics.not_found.value += 1
            metrics.not_in_body.value += 1
        return None

    def explain(self, request: InferenceRequest, draft: Draft) -> dict[str, Any]:
        self._headers(request, draft)
        return {"model": request.model, "headers": dict(draft.set_headers), "removed": list(draft.remove_headers)}

    def _headers(self, request: InferenceRequest, draft: Draft) -> None:
        model = request.model
        if model is not None:
            draft.set_headers += (
                (names.MODEL_HEADER, model),
                (names.BASE_MODEL_HEADER, self.adapters.base_of(model)),
            )
        else:
            draft.remove_headers += present(names.ROUTER_OWNED, request)
