"""The body-based router."""

from __future__ import annotations

from typing import Any

from extproc import names
from extproc.domain import InferenceRequest, Reply
from extproc.observability.metrics import RouterMetrics
from extproc.request.fields import field_text
from extproc.settings.router import HeaderRules
from extproc.stages.draft import Draft, present
from extproc.traffic import AdapterMap


class ModelHeaders:
    """The body-based router: the model and its base model as headers; a client's own copies of them never pass."""

    def __init__(self, metrics: RouterMetrics, adapters: AdapterMap = AdapterMap(), rules: HeaderRules = HeaderRules()) -> None:
        self.adapters = adapters
        """Replaced as a whole when its source changes."""
        self._metrics = metrics
        self._model_headers = tuple(rule.header for rule in rules.fields if rule.field == "model")
        self._other = tuple(rule for rule in rules.fields if rule.field != "model")
        self._base = rules.base_model
        self._owned = tuple(dict.fromkeys((*names.ROUTER_OWNED, *(rule.header.lower() for rule in rules.fields))))

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
        found: list[tuple[str, str]] = []
        if model is not None:
            found += [(header, model) for header in self._model_headers]
            if self._base:
                found.append((names.BASE_MODEL_HEADER, self.adapters.base_of(model)))
        for field, header in self._other:
            text = field_text(request.payload, field)
            if text:
                found.append((header, text))
        draft.set_headers += tuple(found)
        if len(found) < len(self._owned):
            set_here = {header.lower() for header, _ in found}
            draft.remove_headers += tuple([name for name in present(self._owned, request) if name not in set_here])
