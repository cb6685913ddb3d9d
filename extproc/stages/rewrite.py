"""Requests whose model is served by another one (InferenceModelRewrite)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc import names
from extproc.domain import InferenceRequest
from extproc.errors import InvalidModel
from extproc.observability.picker import RewriteMetrics
from extproc.request import ParseOptions, Renamed, as_served, checked_model, renamed
from extproc.stages.draft import Draft
from extproc.stages.pools import Pools, pool_of
from extproc.stages.stage import Hooks, Step
from extproc.traffic import ServedEntity, Split

_NEW, _OLD = names.REWRITE_HEADERS
_UNKNOWN: Final = "unknown"


class RewriteModel:
    """Gives the request the name of the model that serves it, and the answer the client's name again.

    The first of: the target of a rule of the pool for the model that the client named; the model that the header
    `x-llm-d-model-name-rewrite` names; the model itself. It is looked up once, so rules never lead to each other. For a
    request to a serving endpoint, the model of the served entity takes the place of the one that the client named.
    """

    def __init__(
        self,
        pools: Pools,
        metrics: RewriteMetrics,
        draw: Callable[[], float],
        *,
        default_pool: str | None = None,
        options: ParseOptions = ParseOptions(),
    ) -> None:
        """`draw` gives numbers in [0, 1)."""
        self._pools = pools
        self._metrics = metrics
        self._draw = draw
        self._default_pool = default_pool
        self._options = options
        self.hooks = Hooks(committed=self._committed)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        headers = request.head.headers
        rules = pool_of(self._pools, draft, self._default_pool)[1].traffic.rewrites.value
        split: Split | None = None
        entity = draft.entity
        if entity is not None or not rules.is_empty or _OLD in headers or _NEW in headers:
            split = rules.split_of((request.model or "") if entity is None else entity.model)
            target = self._rewrite(request, draft, split)
            if split is not None and target is not None:
                draft.rewrite = (split.rewrite, target)
        if draft.reasons is not None:
            facts = {
                "target_model": draft.target_model or request.model,
                "rewrite": split.rewrite if split else None,
                "targets": split.shares() if split else {},
            }
            draft.reasons.of(self, facts)
        return None

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        if draft.rewrite is not None:
            rewrite, target = draft.rewrite
            self._metrics.decided(rewrite, draft.model or "", target)

    def _rewrite(self, request: InferenceRequest, draft: Draft, split: Split | None) -> str | None:
        """The model that serves the request, None when no other was asked for."""
        target = split.draw(self._draw) if split is not None else None
        if draft.entity is not None:
            return self._serve(request, draft, draft.entity, target or draft.entity.model)
        if split is None:
            target = _asked(request)
        if target is None and (request.model is not None or (request.unread is None)):
            return None
        if target is not None and target == request.model:
            return target
        # With rules, a body that can't be read may hold a model that has one: this refuses it.
        change = renamed(request, draft.body, draft.complete, target or _UNKNOWN, self._options)
        if target is None or not (change.splices or change.set_headers):
            return None
        self._change(draft, change, request, target)
        return target

    def _serve(self, request: InferenceRequest, draft: Draft, entity: ServedEntity, target: str) -> str:
        """For a served entity: its path too, and its model under whatever name the client reached it by."""
        change = as_served(request, draft.body, draft.complete, target, entity.path, self._options)
        self._change(draft, change, request, target)
        return target

    def _change(self, draft: Draft, change: Renamed, request: InferenceRequest, target: str) -> None:
        draft.target_model = target
        draft.splices = change.splices
        draft.set_headers += change.set_headers
        draft.remove_headers += change.remove_headers
        if request.model is not None and request.model != target:
            draft.restore_model = (target, request.model)


def _asked(request: InferenceRequest) -> str | None:
    """The model that the client or a router before us asks for by header. Raises InvalidModel."""
    headers = request.head.headers
    raw = headers.get(_NEW) or headers.get(_OLD)
    if not raw:
        return None
    try:
        return checked_model(raw.decode(), _NEW)
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{_NEW}: the model's name is not UTF-8", param="model") from error
