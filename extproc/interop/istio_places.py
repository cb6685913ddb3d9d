"""Destinations of Istio's and the served entities that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from extproc.interop.endpoint import Entity, Losses
from extproc.interop.istio_forms import Destination, DestinationRule, VirtualService
from extproc.interop.naming import ENTITIES, MODEL_LABEL, VERSION_LABEL, free, own_name
from extproc.interop.objects import not_taken
from extproc.settings.base import SettingsError, shown

_POLICY: Final = {
    "trafficPolicy": "how connections are made and balanced inside a pool is the proxy's and the picker's affair",
    "exportTo": "an endpoint is of the whole gateway",
    "workloadSelector": "who asks is not known by labels",
}


class Place(NamedTuple):
    """A destination."""

    host: str
    subset: str
    port: int | None


class Places:
    """Entities by destination, in the order in which they are met."""

    def __init__(
        self,
        service: VirtualService,
        path: str,
        rules: Sequence[tuple[str, DestinationRule]],
        used: set[int],
        losses: Losses,
    ) -> None:
        """`used` is told which of the rules are of one of the hosts."""
        self._namespace = service.metadata.namespace
        self._said = _said(service, path)
        self._rules = rules
        self._used = used
        self._losses = losses
        self._known: dict[Place, Entity] = {}
        self._subsets: dict[str, dict[str, tuple[str, Mapping[str, str]]] | None] = {}

    def __repr__(self) -> str:
        return f"<Places {len(self._known)} entities>"

    def entities(self) -> tuple[Entity, ...]:
        """All that were met."""
        return tuple(self._known.values())

    def tell_others(self) -> None:
        """Of subsets to which no route goes."""
        met = {(place.host, place.subset) for place in self._known}
        for host, subsets in self._subsets.items():
            for subset, (where, _) in (subsets or {}).items():
                if (host, subset) not in met:
                    self._losses.drop(where, f"{subset}: no route here goes to it")

    def entity(self, destination: Destination, where: str) -> str:
        """The name of the entity. Raises SettingsError for a subset that its DestinationRule has not."""
        port = None if destination.port is None else destination.port.number
        place = Place(destination.host, destination.subset or "", port)
        if (known := self._known.get(place)) is not None:
            return known.name
        subsets = self._of_host(destination.host)
        if place.subset and subsets is not None and place.subset not in subsets:
            there = ", ".join(subsets) or "none"
            raise SettingsError([f"{where}.subset: got {shown(place.subset)}; expected one of its DestinationRule: {there}"])
        if place.subset and subsets is None:
            self._losses.differ(f"{where}.subset", f"{shown(place.subset)}: its DestinationRule is not among these objects")
        self._make(place, subsets.get(place.subset) if subsets is not None else None)
        return self._known[place].name

    def _make(self, place: Place, subset: tuple[str, Mapping[str, str]] | None) -> None:
        short = place.host.partition(".")[0] or place.host
        labels = {} if subset is None else subset[1]
        key = place.subset or (place.host if place.port is None else f"{place.host}:{place.port}")
        told = self._said.get(key, {})
        name = free(own_name(told.get("name") or place.subset or short), [each.name for each in self._known.values()])
        model = told.get("entity_name") or labels.get(MODEL_LABEL) or short
        version = told.get("entity_version") or labels.get(VERSION_LABEL) or ""
        if subset is not None:
            for label in labels:
                if label not in (MODEL_LABEL, VERSION_LABEL):
                    self._losses.drop(f"{subset[0]}.labels.{label}", "pods are found by a pool's own selector")
        self._known[place] = Entity(name, model, version)

    def _of_host(self, host: str) -> dict[str, tuple[str, Mapping[str, str]]] | None:
        """Subsets with where they are written, and their labels; None when no rule is of this host."""
        if host in self._subsets:
            return self._subsets[host]
        found: dict[str, tuple[str, Mapping[str, str]]] | None = None
        for index, (path, rule) in enumerate(self._rules):
            if not is_host(host, rule.spec.host, rule.metadata.namespace or self._namespace):
                continue
            found = {} if found is None else found
            if index not in self._used:
                not_taken(rule.spec, f"{path}spec.", self._losses, _POLICY, "nothing is known of it here")
            for position, subset in enumerate(rule.spec.subsets):
                where = f"{path}spec.subsets[{position}]"
                if subset.name in found:
                    raise SettingsError([f"{where}.name: got {shown(subset.name)} twice; expected a name of its own"])
                if index not in self._used:
                    not_taken(subset, f"{where}.", self._losses, _POLICY, "nothing is known of it here")
                found[subset.name] = (where, subset.labels)
            self._used.add(index)
        self._subsets[host] = found
        return found


def is_host(host: str, other: str, namespace: str | None) -> bool:
    """Whether two words are for one host: a Service's name may have its namespace behind it, and the cluster's domain."""
    return bool(_forms(host, namespace) & _forms(other, namespace))


def _forms(host: str, namespace: str | None) -> set[str]:
    found = {host}
    if "." not in host and namespace:
        found |= {f"{host}.{namespace}", f"{host}.{namespace}.svc", f"{host}.{namespace}.svc.cluster.local"}
    elif ".svc" in host:
        found.add(host.partition(".svc")[0])
    return found


def _said(service: VirtualService, path: str) -> dict[str, dict[str, str]]:
    """What the annotation says of entities."""
    text = service.metadata.annotations.get(ENTITIES)
    if text is None:
        return {}
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(
        isinstance(each, dict) and all(isinstance(word, str) for word in each.values()) for each in value.values()
    ):
        raise SettingsError([f"{path}metadata.annotations.{ENTITIES}: got {shown(text)}; expected JSON, as render writes it"])
    return value
