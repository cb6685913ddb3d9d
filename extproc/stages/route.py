"""The gateway's routes."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import orjson

from extproc.domain import InferenceRequest, Reply
from extproc.errors import MissingModel, UnknownModel, UnreadableBody
from extproc.live import Live
from extproc.request.parse import is_upgrade
from extproc.request.paths import Api, api_of, stored_response
from extproc.stages.draft import Draft
from extproc.stages.stage import NO_HOOKS, Step
from extproc.traffic import AdapterMap, RouteTable, TrafficTable

_LISTS: Final = ("/v1/models", "/models", "/openai/v1/models", "/openai/models", "/serving-endpoints/models")
_READS: Final = (b"GET", b"HEAD")
_CHANGES_NOTHING: Final = (b"GET", b"HEAD", b"OPTIONS")


class RouteToPool:
    """The gateway's routes: which pool serves the model. Lists the models itself.

    `adapters`: the LoRA adapters that are known; they are served by their base model's pool unless a route names them.
    `serving`: the serving endpoints, which are listed as models too.
    """

    def __init__(
        self,
        table: Live[RouteTable],
        started_unix_s: int,
        adapters: Live[AdapterMap] | None = None,
        serving: Live[TrafficTable] | None = None,
    ) -> None:
        self._table = table
        self._serving = Live(TrafficTable()) if serving is None else serving
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self._created = started_unix_s
        self.hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        path = request.path
        if "/models" in path and request.head.headers.get(":method") in _READS:
            listing = self._models(request)
            if listing is not None:
                return listing
        if draft.entity is None and (draft.pool is None or request.model is not None):
            draft.pool = self._pool(request)
        if draft.reasons is not None:
            draft.reasons.of(self, {"pool": draft.pool})
        return None

    def _pool(self, request: InferenceRequest) -> str:
        table = self._table.value
        if request.model is not None:
            return table.pool_of(request.model, self._base_of)
        unread = request.unread
        api = api_of(request.path)
        if table.only_pool is not None and (not unread or api is Api.UNKNOWN):
            return table.only_pool
        if table.first_pool is not None and not request.body_bytes and self._changes_nothing(request):
            return table.first_pool
        if api is Api.UNKNOWN and table.default_pool is not None:
            return table.default_pool
        if unread and unread.startswith("content-encoding"):
            raise UnreadableBody(f"the model can't be read from a body with {unread}; send it without, or as gzip")
        why = f" ({unread})" if unread else ""
        raise MissingModel(f"the request names no model{why}; name one of: {table.listed()}", param="model")

    def _changes_nothing(self, request: InferenceRequest) -> bool:
        """A page, a health check, a browser's preflight: any pool may answer. So may it for a stored response that nobody here
        remembers: that there is none, or what it is.
        """
        head = request.head
        if head.headers.get(":method") in _CHANGES_NOTHING and not is_upgrade(head):
            return True
        return stored_response(request.path) is not None

    def _models(self, request: InferenceRequest) -> Reply | None:
        """The list of models and each of them, in OpenAI's shape, over all pools; None for other pages."""
        path = request.path
        root = next((root for root in _LISTS if path == root or path.startswith(root + "/")), None)
        if root is None:
            return None
        name = unquote(path.removeprefix(root).strip("/"))  # OpenAI's client sends `meta-llama%2FLlama`
        table = self._table.value
        serving = self._serving.value
        endpoints = [endpoint.name for endpoint in serving]
        models = (*endpoints, *[model for model in table.models if serving.get(model) is None]) if endpoints else table.models
        adapters = {name: base for name, base in self._adapters.value.adapters() if base in models and name not in models}
        if not name:
            cards = [self._card(model) for model in models] + [self._card(*adapter) for adapter in adapters.items()]
            return Reply(200, orjson.dumps({"object": "list", "data": cards}), details="extproc_models")
        if name in models or name in adapters:
            return Reply(200, orjson.dumps(self._card(name, adapters.get(name))), details="extproc_models")
        if request.model is not None:
            return None  # a page of TensorFlow Serving about a model
        raise UnknownModel(f"The model `{name}` does not exist. Available models: {table.listed()}", param="model")

    def _base_of(self, model: str) -> str:
        return self._adapters.value.base_of(model)

    def _card(self, model: str, base: str | None = None) -> dict[str, object]:
        card: dict[str, object] = {"id": model, "object": "model", "created": self._created, "owned_by": "extproc"}
        return card if base is None else card | {"root": model, "parent": base}  # as vLLM lists adapters
