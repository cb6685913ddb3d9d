"""The gateway's routes."""

from __future__ import annotations

from urllib.parse import unquote

import orjson

from extproc.domain import InferenceRequest, Reply
from extproc.errors import MissingModel, UnknownModel, UnreadableBody
from extproc.live import Live
from extproc.stages.draft import Draft
from extproc.stages.stage import NO_HOOKS, Step
from extproc.traffic import AdapterMap, RouteTable


class RouteToPool:
    """The gateway's routes: which pool serves the model. Lists the models itself.

    `adapters`: the LoRA adapters that are known; they are served by their base model's pool unless a route names them.
    """

    def __init__(self, table: Live[RouteTable], started_unix_s: int, adapters: Live[AdapterMap] | None = None) -> None:
        self._table = table
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self._created = started_unix_s
        self.hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        path = request.path
        if path.startswith("/v1/models") and request.model is None and request.head.headers.get(":method") == b"GET":
            return self._models(path)
        draft.pool = self._pool(request)
        if draft.reasons is not None:
            draft.reasons.of(self, {"pool": draft.pool})
        return None

    def _pool(self, request: InferenceRequest) -> str:
        if request.model is not None:
            return self._table.value.pool_of(request.model, self._base_of)
        if self._table.value.only_pool is not None and not request.unread:
            return self._table.value.only_pool
        if request.unread and request.unread.startswith("content-encoding"):
            raise UnreadableBody(f"the model can't be read from a body with {request.unread}; send it without, or as gzip")
        why = f" ({request.unread})" if request.unread else ""
        raise MissingModel(f"the request names no model{why}; name one of: {self._table.value.listed()}", param="model")

    def _models(self, path: str) -> Reply | None:
        """`GET /v1/models` and `/v1/models/{model}` in OpenAI's shape, over all pools."""
        name = unquote(path.removeprefix("/v1/models").strip("/"))  # OpenAI's client sends `meta-llama%2FLlama`
        models = self._table.value.models
        adapters = {name: base for name, base in self._adapters.value.adapters() if base in models and name not in models}
        if not name:
            cards = [self._card(model) for model in models] + [self._card(*adapter) for adapter in adapters.items()]
            return Reply(200, orjson.dumps({"object": "list", "data": cards}), details="extproc_models")
        if name in models or name in adapters:
            return Reply(200, orjson.dumps(self._card(name, adapters.get(name))), details="extproc_models")
        raise UnknownModel(f"The model `{name}` does not exist. Available models: {self._table.value.listed()}", param="model")

    def _base_of(self, model: str) -> str:
        return self._adapters.value.base_of(model)

    def _card(self, model: str, base: str | None = None) -> dict[str, object]:
        card: dict[str, object] = {"id": model, "object": "model", "created": self._created, "owned_by": "extproc"}
        return card if base is None else card | {"root": model, "parent": base}  # as vLLM lists adapters
