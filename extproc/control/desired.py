"""What is desired now, as this process knows it, and the table that requests read: the two change together, here alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from extproc.control.records import EndpointRecord, UnreadableRecord, of_document
from extproc.control.specs import spec_of
from extproc.control.store import State
from extproc.live import LiveWriter
from extproc.traffic import Catalog, ServingEndpoint, TrafficTable
from extproc.traffic.segments import NO_SEGMENTS, Segments


class Learnt(NamedTuple):
    """Records by name, compiled; None: the endpoint is gone."""

    records: dict[str, EndpointRecord | None]
    compiled: dict[str, ServingEndpoint | None]
    unreadable: dict[str, str]
    """Why a document can't be read; it is in neither of the others."""


class Desired:
    """Records by name, and the one writer of the table."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        writer: LiveWriter[TrafficTable],
        segments: Callable[[], Segments] = lambda: NO_SEGMENTS,
    ) -> None:
        self._catalog = catalog
        self._segments = segments
        self._writer = writer
        self.number = 0
        """Of the state in the store that this is."""
        self.records: dict[str, EndpointRecord] = {}
        """To read only."""
        self.unreadable: dict[str, str] = {}
        """Endpoints whose document can't be read here, and why. What was known of them before is served on."""

    def __repr__(self) -> str:
        return f"<Desired number={self.number} {len(self.records)} endpoints, {len(self.unreadable)} unreadable>"

    def compiled(self, record: EndpointRecord) -> ServingEndpoint:
        """The endpoint as it would be served now. Raises ValueError for a record that holds no split."""
        return ServingEndpoint(spec_of(record), self._catalog(), self._segments())

    def serving(self, name: str) -> ServingEndpoint | None:
        """The endpoint as it is served."""
        return self._writer.live.value.get(name)

    def read(self, documents: Mapping[str, bytes | None]) -> Learnt:
        """What is in documents that others have stored, ready to be taken. Changes nothing, and may run in another thread.

        What can't be read is noted and takes nothing else with it.
        """
        learnt = Learnt({}, {}, {})
        for name, document in documents.items():
            try:
                record = None if document is None else of_document(document)
                learnt.compiled[name] = None if record is None else self.compiled(record)
                learnt.records[name] = record
            except (UnreadableRecord, ValueError, KeyError, TypeError) as error:
                learnt.unreadable[name] = str(error)
        return learnt

    def whole(self, state: State) -> Mapping[str, bytes | None]:
        """The documents of a state, and None for each endpoint that is not in it."""
        gone = dict.fromkeys((self.records.keys() | self.unreadable.keys()) - state.documents.keys())
        return {**gone, **state.documents}

    def take(self, learnt: Learnt, number: int) -> None:
        """This is stored as this number, so it is what is served from now on."""
        for name, record in learnt.records.items():
            self.unreadable.pop(name, None)
            if record is None:
                self.records.pop(name, None)
            else:
                self.records[name] = record
        self.unreadable.update(learnt.unreadable)
        self.number = number
        self._writer.replace(self._writer.live.value.changed(learnt.compiled))

    def recompile(self) -> None:
        """What entities stand for has changed: pools, routes or adapters."""
        self._writer.replace(TrafficTable([self.compiled(record) for record in self.records.values()]))

    def problems(self) -> dict[str, list[str]]:
        """By endpoint: what can't be served of it, and why. Empty when all is well."""
        found = {name: [f"its record can't be read: {why}"] for name, why in self.unreadable.items()}
        for endpoint in self._writer.live.value:
            unserved = [f"{entity.name}: {entity.problem}" for entity in endpoint.entities if entity.problem]
            unserved += endpoint.problems
            if unserved:
                found.setdefault(endpoint.name, []).extend(unserved)
        return found
