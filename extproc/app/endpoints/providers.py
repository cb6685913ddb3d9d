"""External providers while a gateway runs: their addresses, their credentials, and whether both are there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from extproc.app.component import Component
from extproc.control.desk import Problem
from extproc.credentials import Reference, Secret
from extproc.discovery.names import Addresses, Resolver, ip_of, resolve
from extproc.errors import EntityNotServed, ProviderUnreachable, SecretMissing
from extproc.external import PROVIDERS, ExternalModel, is_inside, read_external_model
from extproc.files.problems import Unusable
from extproc.live import Live
from extproc.observability.logs import logger
from extproc.secrets import SecretStore
from extproc.settings.serving import PLAINTEXT_SCOPE
from extproc.traffic import EndpointSpec, ExternalSpec, TrafficTable

_log = logger(__name__)

RESOLVE_S: Final = 30.0
"""How often names of providers are resolved."""
_LOOK_S: Final = 0.05
_HELD_S: Final = 30.0
"""For how long a name that was verified is kept although no endpoint has it: one that is about to be stored has it soon."""
_MOST_MODELS: Final = 10_000


class ExternalProviders(Component):
    """Knows, for requests, what a provider's model needs; and says, to whoever configures one, what is wrong with it.

    Names are resolved and secrets read here, in the background, for all models of the table; a request only looks.
    """

    def __init__(
        self,
        table: Live[TrafficTable],
        secrets: SecretStore,
        plaintext: Callable[[str], Secret | None],
        *,
        allowed: Collection[str] = (),
        environ: Mapping[str, str] = {},
        resolver: Resolver = resolve,
        resolve_s: float = RESOLVE_S,
        look_s: float = _LOOK_S,
    ) -> None:
        """`plaintext` gives a secret that was given as text, by its handle; `allowed` are the hosts of --external-allow."""
        super().__init__("external providers")
        self._table = table
        self._secrets = secrets
        self._plaintext = plaintext
        self._allowed = frozenset(allowed)
        self._environ = environ
        self._resolver = resolver
        self._resolve_s = resolve_s
        self._look_s = look_s
        self._addresses = Addresses(on_error=_told, resolver=resolver)
        self._models: dict[ExternalSpec, ExternalModel | str] = {}
        self._opened: dict[str, Secret] = {}
        """Secrets that were given as text, by their handles."""
        self._names: set[str] = set()
        self._held_until_s: dict[str, float] = {}
        self._turns = itertools.count()

    # -- for requests ----------------------------------------------------------------------------------------------------

    def model(self, spec: ExternalSpec) -> ExternalModel:
        """Raises EntityNotServed."""
        known = self._models.get(spec)
        if known is None:
            if len(self._models) >= _MOST_MODELS:
                self._models.clear()
            try:
                known = self._read(spec)
            except Unusable as error:
                known = "; ".join(error.problems)
            self._models[spec] = known
        if isinstance(known, str):
            raise EntityNotServed(f"The external model `{spec.name}` of {spec.provider} can't be asked: {known}")
        return known

    def secret(self, model: ExternalModel) -> Secret | None:
        """Raises SecretMissing."""
        credential = model.credential
        if credential is None:
            return None
        if credential.reference is None:
            return credential.secret
        if credential.reference.scope != PLAINTEXT_SCOPE:
            return self._secrets.get(credential.reference)
        handle = credential.reference.key
        found = self._opened.get(handle) or self._plaintext(handle)
        if found is None:
            raise SecretMissing(f"{credential.field}: the secret that was given as text can't be read")
        self._opened[handle] = found
        return found

    def address(self, model: ExternalModel) -> str:
        """Each of its addresses in turn. Raises ProviderUnreachable."""
        base = model.base
        found = (base.host,) if ip_of(base.host) is not None else self._addresses.of(base.host)
        allowed = [address for address in found if self._may_ask(model, address)]
        if not allowed:
            why = "its name is not resolved" if not found else "it has only addresses inside our own network"
            raise ProviderUnreachable(f"{model.provider} can't be reached at {base.host}: {why}")
        address = allowed[next(self._turns) % len(allowed)]
        return f"[{address}]:{base.port}" if ":" in address else f"{address}:{base.port}"

    def _may_ask(self, model: ExternalModel, address: str) -> bool:
        return not is_inside(address) or not self._allowed.isdisjoint(_names_of(model))

    def _read(self, spec: ExternalSpec) -> ExternalModel:
        config: dict[str, Any] = {}
        for key, value in spec.options:
            *outer, last = key.split(".")
            inside = config
            for part in outer:
                inside = inside.setdefault(part, {})
            inside[last] = value
        values: dict[str, Any] = {"name": spec.name, "provider": spec.provider, "task": spec.task}
        provider = PROVIDERS.get(spec.provider)
        if provider is not None:
            values[provider.config] = config
        return read_external_model(values, environ=self._environ, allowed=self._allowed)

    # -- for whoever configures ------------------------------------------------------------------------------------------

    async def verify(self, spec: EndpointSpec) -> Sequence[Problem]:
        """What is wrong with the external models of an endpoint that is about to be stored."""
        problems: list[Problem] = []
        for entity in spec.entities:
            if entity.external is None:
                continue
            try:
                model = self._read(entity.external)
            except Unusable as error:
                problems += [Problem(entity.name, *_field(problem)) for problem in error.problems]
                continue
            problems += [Problem(entity.name, field, words) for field, words in await self._troubles(model)]
        return problems

    async def _troubles(self, model: ExternalModel) -> Iterable[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        credential = model.credential
        if credential is not None and credential.reference is not None and credential.reference.scope != PLAINTEXT_SCOPE:
            troubles = await self._secrets.check([credential.reference])
            field = credential.field.removeprefix("external_model.")
            found += [(field, f"got {reference}; {trouble}") for reference, trouble in troubles.items()]
        host = model.base.host
        if ip_of(host) is None and self._allowed.isdisjoint(_names_of(model)):
            # What is known then is known to the first request, too. That a name can't be resolved now is no fault of the
            # configuration.
            self._names.add(host)
            self._held_until_s[host] = asyncio.get_running_loop().time() + _HELD_S
            await self._addresses.refresh(self._names, lambda: None)
            addresses = self._addresses.of(host)
            if addresses and all(is_inside(address) for address in addresses):
                found.append(("", f"got the host {host}, which is inside our own network; --external-allow={host} allows it"))
        return found

    # -- in the background -----------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._secrets.run(), name="external providers: secrets")
            tasks.create_task(self._follow(), name="external providers: names")

    async def _follow(self) -> None:
        """What the table names is wanted; names again each `resolve_s`, and at once when the table has changed."""
        clock = asyncio.get_running_loop().time
        known, due_s = -1, 0.0
        while True:
            if self._table.revision != known:
                known, due_s = self._table.revision, 0.0
                self._held_until_s = {name: until_s for name, until_s in self._held_until_s.items() if until_s > clock()}
                self._names = self._want() | self._held_until_s.keys()
            if self._names and clock() >= due_s:
                await self._addresses.refresh(self._names, lambda: None)
                due_s = clock() + (self._resolve_s if not self._addresses.failing else min(2.0, self._resolve_s))
            await asyncio.sleep(self._look_s)

    def _want(self) -> set[str]:
        names: set[str] = set()
        references: set[Reference] = set()
        wanted: dict[ExternalSpec, ExternalModel | str] = {}
        for endpoint in self._table.value:
            for entity in endpoint.entities:
                if entity.external is None:
                    continue
                try:
                    model = self.model(entity.external)
                except EntityNotServed as error:
                    _log.warning(
                        "an external model can't be asked", endpoint=endpoint.name, entity=entity.name, error=str(error)
                    )
                    continue
                wanted[entity.external] = model
                if ip_of(model.base.host) is None:
                    names.add(model.base.host)
                if model.credential is not None and model.credential.reference is not None:
                    references.add(model.credential.reference)
        self._models = wanted
        self._opened.clear()
        self._secrets.want([each for each in references if each.scope != PLAINTEXT_SCOPE])
        return names


def _names_of(model: ExternalModel) -> tuple[str, ...]:
    """As --external-allow may have it."""
    base = model.base
    return base.host, f"{base.host}:{base.port}", base.authority


def _field(problem: str) -> tuple[str, str]:
    """`external_model.openai_config.x: words`: the field below external_model, and the words."""
    where, _, words = problem.partition(": ")
    return where.removeprefix("external_model").removeprefix("."), words


def _told(name: str, problem: str | None) -> None:
    if problem is None:
        _log.info("a provider's name is resolved again", name=name)
    else:
        _log.warning("a provider's name can't be resolved", name=name, error=problem)
