"""Serving endpoints: which served entity of the endpoint that a request names serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from extproc.domain import InferenceRequest
from extproc.errors import EntityNotServed, UnknownEndpoint
from extproc.live import Live
from extproc.observability.serving import ServingMetrics
from extproc.request import address_of
from extproc.stages.draft import Draft
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import AdapterMap, RouteTable, ServedEntity, ServingEndpoint, TrafficTable
from extproc.traffic.serving import BY_KEY, DIRECT, NAMED

_PREFIX: Final = "/serving-endpoints/"
_LISTED: Final = 20
_LONGEST_KEY: Final = 4096
_BODY_KEYS: Final[tuple[tuple[str, str], ...]] = (("", "user"), ("metadata", "user_id"), ("", "session_id"))
"""OpenAI's, Anthropic's, and what agents send."""


class ServeEndpoint:
    """Chooses the served entity: the one that the path names, the one whose model the client names, or by the split.

    The split goes by the first key of a request: a header, else who the body says is asking. A request without one is drawn.
    """

    def __init__(
        self,
        table: Live[TrafficTable],
        metrics: ServingMetrics,
        draw: Callable[[], float],
        *,
        routes: Live[RouteTable] | None = None,
        adapters: Live[AdapterMap] | None = None,
        key_headers: Sequence[str] = ("x-user-id",),
    ) -> None:
        """`draw` gives numbers in [0, 1). `routes` and `adapters` tell which models pools serve by themselves.

        `key_headers` are looked at in their order; an API key is a key only when its header is one of them.
        """
        self._table = table
        self._metrics = metrics
        self._draw = draw
        self._routes = Live(RouteTable([])) if routes is None else routes
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self._key_headers = tuple([(name.lower(), f"{BY_KEY}: header {name.lower()}") for name in key_headers])
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        model = request.model
        if model is None:
            return None
        table = self._table.value
        endpoint = table.get(model)
        named: ServedEntity | None = None
        if endpoint is None:
            if table.is_empty and not request.path.startswith(_PREFIX):
                return None
            found = table.of_model(model)
            if found is None:
                self._refuse_unknown(request, model, table)
                return None
            endpoint, named = found
        entity, reason = self._choose(request, endpoint, named)
        if entity.problem:
            raise EntityNotServed(f"The served entity `{entity.name}` of endpoint `{endpoint.name}`: {entity.problem}")
        draft.entity = entity
        draft.entity_reason = reason
        draft.pool = entity.pool
        draft.set_response_headers += entity.response_headers
        if draft.reasons is not None:
            draft.reasons.of(self, self._explained(request, endpoint, entity, reason))
        return None

    def _choose(
        self, request: InferenceRequest, endpoint: ServingEndpoint, named: ServedEntity | None
    ) -> tuple[ServedEntity, str]:
        path = request.path
        if path.startswith(_PREFIX) and "/served-" in path:
            address = address_of(path)
            if address is not None and address.entity:
                return endpoint.entity(address.entity), DIRECT
        if named is not None:
            return named, NAMED
        only = endpoint.only
        if only is not None or not endpoint.sticky:
            return endpoint.choose(None, self._draw)
        key = self._key(request)
        if key is None:
            return endpoint.choose(None, self._draw)
        entity, _ = endpoint.choose(key[0], self._draw)
        return entity, key[1]

    def _key(self, request: InferenceRequest) -> tuple[bytes, str] | None:
        """What the split goes by, and of which kind it is."""
        headers = request.head.headers
        for name, kind in self._key_headers:
            value = headers.get(name)
            if value:
                return value[:_LONGEST_KEY], kind
        payload = request.payload
        if payload is None:
            return None
        for (outer, field), kind in zip(_BODY_KEYS, _KINDS, strict=True):
            holder: object = payload.get(outer) if outer else payload
            value_of_field = holder.get(field) if isinstance(holder, Mapping) else None
            if isinstance(value_of_field, str) and value_of_field:
                return value_of_field[:_LONGEST_KEY].encode("utf-8", "surrogatepass"), kind
        return None

    def _refuse_unknown(self, request: InferenceRequest, model: str, table: TrafficTable) -> None:
        """Below /serving-endpoints/ a name that nothing has is an endpoint's; elsewhere the routes say what there is."""
        if not request.path.startswith(_PREFIX):
            return
        routes = self._routes.value
        if routes.has(model) or routes.has(self._adapters.value.base_of(model)):
            return
        names = [endpoint.name for endpoint in table]
        shown = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        raise UnknownEndpoint(f"Endpoint with name '{model[:100]}' does not exist. There are: {shown or 'none'}", param="model")

    def _explained(
        self, request: InferenceRequest, endpoint: ServingEndpoint, entity: ServedEntity, reason: str
    ) -> dict[str, object]:
        told: dict[str, object] = {
            "endpoint": endpoint.name,
            "entity": entity.name,
            "reason": reason,
            "model": entity.model,
            "split": {each.name: each.percentage for each in endpoint.entities},
        }
        key = self._key(request) if reason.startswith(BY_KEY) else None
        if key is not None:
            told["bucket"] = endpoint.bucket_of(key[0])
        return told

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        entity = draft.entity
        if entity is not None:
            self._metrics.decided(entity.endpoint, entity.name, _short(draft.entity_reason))

    def _ended(self, draft: Draft, ending: Ending) -> None:
        entity = draft.entity
        if entity is not None:
            self._metrics.ended(entity.endpoint, entity.name, ending.status)


_KINDS: Final = tuple([f"{BY_KEY}: body {outer + '.' if outer else ''}{field}" for outer, field in _BODY_KEYS])


def _short(reason: str) -> str:
    return BY_KEY if reason.startswith(BY_KEY) else reason
