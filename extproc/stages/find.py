"""Serving endpoints: the one that a request names."""

from __future__ import annotations

from typing import Final

from extproc.domain import InferenceRequest
from extproc.errors import UnknownEndpoint, listed
from extproc.live import Live
from extproc.stages.draft import Draft
from extproc.stages.stage import NO_HOOKS, Step
from extproc.traffic import AdapterMap, RouteTable, TrafficTable

SERVING_PATH: Final = "/serving-endpoints/"


class FindEndpoint:
    """Finds the serving endpoint: by its own name, wherever a request names a model, or by a model that it alone serves."""

    def __init__(
        self,
        table: Live[TrafficTable],
        routes: Live[RouteTable] | None = None,
        adapters: Live[AdapterMap] | None = None,
        *,
        names: bool = True,
    ) -> None:
        """`routes` and `adapters` tell which models pools serve by themselves. `names`: whoever asks for an endpoint that is
        not there is told so at once, and which are; not where requests need a token: there `CheckAccess` says so, behind its
        look at the token, or names could be guessed without one.
        """
        self._table = table
        self._routes = Live(RouteTable([])) if routes is None else routes
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self._names = names
        self.hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        model = request.model
        if model is None:
            return None
        table = self._table.value
        endpoint = table.get(model)
        if endpoint is not None:
            draft.endpoint = endpoint
        elif not table.is_empty or request.path.startswith(SERVING_PATH):
            found = table.of_model(model)
            if found is None:
                draft.unknown = self._is_unknown(request, model)
                if draft.unknown and self._names:
                    raise unknown(model, f". There are: {listed([endpoint.name for endpoint in table])}")
                return None
            draft.endpoint, draft.entity = found
        if draft.reasons is not None and draft.endpoint is not None:
            draft.reasons.of(self, {"endpoint": draft.endpoint.name})
        return None

    def _is_unknown(self, request: InferenceRequest, model: str) -> bool:
        """Below /serving-endpoints/ a name that nothing has is an endpoint's; elsewhere the routes say what there is."""
        if not request.path.startswith(SERVING_PATH):
            return False
        routes = self._routes.value
        return not routes.has(model) and not routes.has(self._adapters.value.base_of(model))


def unknown(name: str, more: str = "") -> UnknownEndpoint:
    """There is no serving endpoint of this name."""
    return UnknownEndpoint(f"Endpoint with name '{name[:100]}' does not exist{more}", param="model")
