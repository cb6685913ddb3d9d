"""Which models' names stand on `/metrics`: clients choose them, and a page must stay small.

Names that the configuration has (routes, adapters, rewrites) are always themselves. Of the others a bounded number has a place.
A name gets one with its first request, so that what is new is seen at once; it keeps it when a model server has answered one of
its requests (2xx, 3xx). A name whose only answers are that there is no such model (404 and its like) loses its place: what was
counted of it goes to `other`, so no sum changes. So does the oldest that was never served when another name needs the place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from extproc.observability.instruments import OTHER, Family, Histogram, Instruments, Value

MAX_MODELS: Final = 50
"""Some 140 lines each, and 400 more when answers are read; half of that with one of upstream's two names (`twins.py`)."""
MODEL_LABELS: Final = frozenset({"model", "model_name", "target_model_name", "target_model"})
_SAYS_NOTHING: Final = frozenset({401, 403, 408, 413, 425, 429})
"""Statuses below 500 that a model which is there gives too."""


class Place:
    """A name that the configuration has not, and what is counted under it."""

    __slots__ = ("_bound", "_in_flight", "_names", "_served", "_values", "name")

    def __init__(self, name: str, names: ModelNames) -> None:
        self.name = name
        self._names = names
        self._values: list[tuple[Family[Value] | Family[Histogram], tuple[str, ...]]] = []
        self._bound: list[tuple[dict[Any, Any], object]] = []
        self._in_flight = 0
        self._served = False

    @property
    def is_free(self) -> bool:
        """Nobody was ever served under this name, and nobody waits to be."""
        return not self._served and self._in_flight == 0

    def counts(self, family: Family[Value] | Family[Histogram], values: tuple[str, ...]) -> None:
        """These label values have the name."""
        self._values.append((family, values))

    def kept_in(self, cache: dict[Any, Any], key: object) -> None:
        """The cache has children under this key that are to be forgotten with the place."""
        self._bound.append((cache, key))

    def started(self) -> None:
        """A request of this name is on its way."""
        self._in_flight += 1

    def served(self) -> None:
        """The name means something."""
        if not self._served:
            self._served = True
            self._names.keep(self)

    def ended(self, status: int) -> None:
        """A request of this name is over; `status` is 0 when it had no answer."""
        self._in_flight -= 1
        if 200 <= status < 400:
            self.served()
        elif 400 <= status < 500 and status not in _SAYS_NOTHING and self.is_free:
            self._names.give_up(self)

    def fold(self) -> None:
        """Count as `other` what was counted under the name."""
        for cache, key in self._bound:
            cache.pop(key, None)
        for family, values in self._values:
            labels = family.labels
            others = [
                OTHER if value == self.name and label in MODEL_LABELS else value
                for label, value in zip(labels, values, strict=True)
            ]
            self._names.fold(family, values, tuple(others))


class ModelNames:
    """One for a process. `label` asks, `take` also gives a place."""

    def __init__(self, most: int = MAX_MODELS) -> None:
        """`most`: names besides those of the configuration."""
        self.configured: list[Callable[[str], bool]] = []
        """Whether the configuration has a name; asked when it is seen first, as configurations change."""
        self.only_configured = False
        """Every other name is answered with 404 by us, so none gets a place."""
        self._most = most
        self._places: dict[str, Place] = {}
        self._unserved: dict[str, Place] = {}

    @staticmethod
    def of(instruments: Instruments) -> ModelNames:
        """The one of these instruments."""
        return instruments.once("models", ModelNames)

    def label(self, name: str) -> str:
        """The name, or `other`. '' is a request that names none."""
        return name if not name or name in self._places or self.is_configured(name) else OTHER

    def take(self, name: str) -> str:
        """As `label`, for a request that goes on: a name that is new gets a place if there is one."""
        label = self.label(name)
        if label is name or self.only_configured:
            return label
        if len(self._places) >= self._most:
            free = next((place for place in self._unserved.values() if place.is_free), None)
            if free is None:
                return OTHER
            self.give_up(free)
        place = Place(name, self)
        self._places[name] = self._unserved[name] = place
        return name

    def is_configured(self, name: str) -> bool:
        """A route, an adapter, a base model or a rewrite has this name."""
        return any(has(name) for has in self.configured)

    def place(self, name: str) -> Place | None:
        """The name's place; None for names of the configuration, and for those that have none."""
        return self._places.get(name)

    def take_both(self, name: str, target: str | None) -> tuple[str, str]:
        """The labels of a model and of the one that serves it, None for itself; both as they are after both took a place."""
        label = self.take(name)
        if target is None:
            return label, label
        served = self.take(target)
        return self.label(name), served

    def value(self, family: Family[Value], *values: str) -> Value:
        """The child of these label values, which `label` or `take` gave."""
        if not family.has(values):
            self._note(family, values)
        return family.child(*values)

    def histogram(self, family: Family[Histogram], *values: str) -> Histogram:
        """As `value`."""
        if not family.has(values):
            self._note(family, values)
        return family.child(*values)

    def bound(self, label: str, cache: dict[Any, Any], key: object) -> None:
        """The cache keeps children of this label under `key`."""
        place = self._places.get(label)
        if place is not None:
            place.kept_in(cache, key)

    def places(self, *labels: str) -> tuple[Place, ...]:
        """The places among these names, each once."""
        return tuple([place for label in dict.fromkeys(labels) if (place := self._places.get(label)) is not None])

    def keep(self, place: Place) -> None:
        """The place's name was served."""
        self._unserved.pop(place.name, None)

    def give_up(self, place: Place) -> None:
        """The place is another's."""
        if self._places.get(place.name) is place:
            del self._places[place.name]
            self._unserved.pop(place.name, None)
            if not self.is_configured(place.name):
                place.fold()

    def fold(self, family: Family[Value] | Family[Histogram], values: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Count what was counted under these label values under others; those may name another place."""
        if not family.has(others):
            self._note(family, others)
        family.fold(values, others)

    def _note(self, family: Family[Value] | Family[Histogram], values: tuple[str, ...]) -> None:
        for place in self.places(*values):
            place.counts(family, values)
