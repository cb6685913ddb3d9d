"""External models: a request to a served entity that a provider serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from extproc import names
from extproc.credentials import Secret
from extproc.domain import NO_LOAD, Endpoint, InferenceRequest, ResponseReader
from extproc.errors import EntityNotServed, InvalidMethod, ProxyNotFit, UnreadableBody
from extproc.external import ExternalModel, ProviderReader, asked, payload_of, provider_call
from extproc.observability.decisions import DecisionLog, DecisionRecord, answered_of
from extproc.request import is_upgrade
from extproc.response import Measurement
from extproc.stages.draft import UNASSIGNED, Draft, Provided
from extproc.stages.stage import ENOUGH, Ending, Hooks, Step
from extproc.traffic import ExternalSpec, ServedEntity


class Providers(Protocol):
    """What is known of providers now. Each raises an ExtProcError when it is not."""

    def model(self, spec: ExternalSpec) -> ExternalModel:
        """How the model is asked. Raises EntityNotServed when its configuration can't be used any more."""
        ...

    def secret(self, model: ExternalModel) -> Secret | None:
        """What opens the provider, None where it needs nothing. Raises SecretMissing."""
        ...

    def address(self, model: ExternalModel) -> str:
        """`ip:port` of the provider, one that may be asked. Raises ProviderUnreachable."""
        ...


class AskProvider:
    """Makes the request one for the entity's provider, where one serves it; then nobody else decides anything of it.

    Envoy carries it to the address that we give it, over TLS to whom `:authority` names (envoy/serving-endpoints.yaml).
    """

    def __init__(
        self,
        providers: Providers | None,
        log: DecisionLog | None = None,
        *,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `providers` nothing serves external models; without `log` no decision is kept. An answer may take
        `patience_s` seconds to begin, then it is 504 or somebody else's; 0: as long as it likes.
        """
        self._providers = providers
        self._log = log
        self._patience_s = patience_s
        self._clock = clock
        self._wall_clock = wall_clock
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        entity = draft.entity
        if entity is None or entity.external is None:
            return None
        providers = self._providers
        if providers is None:
            raise EntityNotServed(f"the served entity `{entity.name}` is external, and nothing serves external models here")
        if request.head.attempt is None:
            raise ProxyNotFit(
                f"the served entity `{entity.name}` is served by {entity.external.provider}, and the proxy has no route to "
                "providers; envoy/serving-endpoints.yaml has"
            )
        if request.head.headers.get(":method") != b"POST":
            raise InvalidMethod(f"the served entity `{entity.name}` is external, and external models are asked with POST")
        if is_upgrade(request.head):
            raise UnreadableBody("an external model is asked with a body, and a connection that is upgraded has none")
        if not draft.complete:
            raise UnreadableBody("an external model is asked with the whole body, and the proxy sends only its beginning")
        self._ask(request, draft, entity, entity.external, providers)
        return ENOUGH

    def _ask(
        self, request: InferenceRequest, draft: Draft, entity: ServedEntity, spec: ExternalSpec, providers: Providers
    ) -> None:
        model = providers.model(spec)
        body = draft.body or b""
        payload = payload_of(request, draft.body)
        asks = asked(request.path, payload)
        call = provider_call(model, providers.secret(model), request, body, payload, asks)
        address = providers.address(model)
        route = names.ROUTE_EXTERNAL if model.base.tls else names.ROUTE_EXTERNAL_PLAIN
        replaced = {name.lower() for name, _ in call.set_headers}
        draft.set_headers = (
            *[header for header in draft.set_headers if header[0].lower() not in replaced and not _is_ours(header[0])],
            *call.headers(),
            (names.ROUTE_HEADER, route),
        )
        draft.remove_headers += call.remove_headers
        draft.metadata += ((names.EXTERNAL_KEY, address),)
        draft.splices = call.splices
        draft.target_model = spec.name
        client_model = draft.model or entity.endpoint
        created_s = int(self._wall_clock())

        def reader(measurement: Measurement | None) -> ResponseReader:
            return ProviderReader(call, asks, client_model, created_s, measurement)

        draft.make_reader = reader
        draft.provided = Provided(model.base.authority, address, self._patience_s)
        if draft.reasons is not None:
            draft.reasons.of(
                self, {"provider": spec.provider, "model": spec.name, "authority": model.base.authority, "address": address}
            )

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        provided, entity = draft.provided, draft.entity
        if provided is None or entity is None or self._log is None:
            return
        assigned = draft.assigned or UNASSIGNED
        host, _, port = provided.address.rpartition(":")
        self._log.add(
            DecisionRecord(
                at_s=self._wall_clock(),
                request_id=request.head.text(names.REQUEST_ID_HEADER),
                model=draft.model,
                target_model=draft.target_model,
                priority=draft.priority,
                pool="",
                endpoint=Endpoint(host.strip("[]"), int(port), name=provided.authority),
                fallbacks=(),
                score=0.0,
                candidates=1,
                load=NO_LOAD,
                waiting=_UNKNOWN,
                in_flight=_UNKNOWN,
                took_s=self._clock() - draft.started_s,
                outcome=provided.outcome,
                entity=f"{entity.endpoint}/{entity.name}",
                entity_reason=draft.entity_reason,
                rule=assigned.rule,
                experiments=assigned.experiments,
                bucket=assigned.bucket,
                placed=draft.placed,
                version=0 if draft.endpoint is None else draft.endpoint.spec.config_version,
            )
        )

    def _ended(self, draft: Draft, ending: Ending) -> None:
        if draft.provided is not None:
            outcome = draft.provided.outcome
            outcome.status = ending.status
            if self._log is not None and self._log.keeps_candidates:
                now_s = self._clock()
                outcome.took_s = now_s - draft.started_s
                if draft.measurement is not None:
                    outcome.answer = answered_of(draft.measurement, now_s)


_UNKNOWN: Final = float("nan")


def _is_ours(name: str) -> bool:
    """Headers for our own stages and routes, which no provider is to see."""
    return name.lower().startswith("x-gateway-")
