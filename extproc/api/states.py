"""Whether an endpoint can be queried: read from what is served and from the pools, kept nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from extproc.control.records import EndpointRecord
from extproc.traffic import ServedEntity, TrafficTable

READY: Final = "DEPLOYMENT_READY"
CREATING: Final = "DEPLOYMENT_CREATING"
RECOVERING: Final = "DEPLOYMENT_RECOVERING"
FAILED: Final = "DEPLOYMENT_FAILED"


class State(NamedTuple):
    """Of one endpoint."""

    ready: bool
    """All of its entities are: what Databricks means by READY."""
    entities: dict[str, tuple[str, str]]
    """Deployment and a message for people, by the entity's name."""
    problems: list[str]
    """What an operator has to mend."""


class States:
    """Reads states."""

    def __init__(
        self, table: TrafficTable, ready: Callable[[str], bool], held: Callable[[str], Mapping[str, str]] = lambda name: {}
    ) -> None:
        """`held`: of an endpoint, the entities that do not follow what they name in a registry, and why."""
        self._table = table
        self._ready = ready
        self._held = held
        self._pools: dict[str, bool] = {}
        """What was asked already: a list asks for the same pools again and again."""

    def of(self, record: EndpointRecord) -> State:
        """The endpoint's state; what it is to be after a dry run is as far as it is served now."""
        endpoint = self._table.get(record.name)
        served = {} if endpoint is None else {entity.name: entity for entity in endpoint.entities}
        entities = {entity["name"]: self._entity(served.get(entity["name"])) for entity in record.entities}
        problems = [f"{name}: {message}" for name, (deployment, message) in entities.items() if deployment == FAILED]
        for name, why in self._held(record.name).items():
            deployment, message = entities.get(name, (FAILED, ""))
            if deployment == READY and not message:
                entities[name] = (deployment, f"it does not follow its registry: {why}")
            problems.append(f"{name}: it does not follow its registry: {why}")
        return State(all(deployment == READY for deployment, _ in entities.values()), entities, problems)

    def _entity(self, entity: ServedEntity | None) -> tuple[str, str]:
        if entity is None:
            return CREATING, "it is not served yet"
        if entity.problem:
            return FAILED, entity.problem
        if entity.external is not None or any(self._pool(pool) for pool in entity.pools):
            return READY, ""
        pools = f"pool {entity.pool!r}" if len(entity.pools) == 1 else f"pools {', '.join(entity.pools)}"
        return RECOVERING, f"no endpoint of the {pools} can serve it now"

    def _pool(self, pool: str) -> bool:
        known = self._pools.get(pool)
        if known is None:
            known = self._pools[pool] = self._ready(pool)
        return known
