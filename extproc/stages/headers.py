"""The body-based router."""

from __future__ import annotations

from extproc import names
from extproc.domain import InferenceRequest
from extproc.live import Live
from extproc.observability.metrics import RouterMetrics
from extproc.request.fields import field_text
from extproc.settings.router import HeaderRules
from extproc.stages.draft import Draft
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import AdapterMap


class ModelHeaders:
    """The body-based router: the model and its base model as headers; a client's own copies of them never pass."""

    def __init__(
        self, metrics: RouterMetrics, adapters: Live[AdapterMap] | None = None, rules: HeaderRules = HeaderRules()
    ) -> None:
        """`adapters`: base models of adapters; without it no name has one."""
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self._metrics = metrics
        self._model_headers = tuple(rule.header for rule in rules.fields if rule.field == "model")
        self._other = tuple(rule for rule in rules.fields if rule.field != "model")
        self._base = rules.base_model
        self.hooks = Hooks(committed=self._committed, ended=self._ended)
        self._owned = tuple(dict.fromkeys((*names.ROUTER_OWNED, *(rule.header.lower() for rule in rules.fields))))

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        model = request.model
        headers_set: list[tuple[str, str]] = []
        if model is not None:
            headers_set += [(header, model) for header in self._model_headers]
            if self._base:
                headers_set.append((names.BASE_MODEL_HEADER, self._adapters.value.base_of(model)))
        for field, header in self._other:
            text = field_text(request.payload, field)
            if text:
                headers_set.append((header, text))
        draft.set_headers += tuple(headers_set)
        if len(headers_set) < len(self._owned):
            set_here = {header.lower() for header, _ in headers_set}
            draft.remove_headers += tuple([name for name in _present(self._owned, request) if name not in set_here])
        if draft.reasons is not None:
            draft.reasons.of(self, {"model": model, "headers": dict(headers_set), "removed": list(draft.remove_headers)})
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        self._count(draft)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        if not draft.committed:
            self._count(draft)  # a model was read, whatever became of the request

    def _count(self, draft: Draft) -> None:
        if not draft.counted:
            return
        metrics = self._metrics
        if draft.model is not None:
            metrics.success.value += 1
            metrics.model(draft.model).value += 1
        elif draft.empty_model:
            metrics.empty.value += 1
        else:
            metrics.not_found.value += 1
            metrics.not_in_body.value += 1


def _present(owned: tuple[str, ...], request: InferenceRequest) -> tuple[str, ...]:
    """Those of the header names that the request has."""
    headers = request.head.headers
    return tuple([name for name in owned if name in headers])
