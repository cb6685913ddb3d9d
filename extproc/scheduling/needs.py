"""Who needs what of whom: which producers there have to be, and in which order plugins are made and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from extproc.scheduling.plugins.base import PRODUCER, Need, PluginType


class Listed(NamedTuple):
    """A plugin that a config lists, or that is made because others need it."""

    path: str
    """Where it stands in the file; '' when it stands nowhere."""
    row: PluginType
    parameters: BaseModel


class Wiring:
    """Resolves needs and references, from the plugins that are used to all that have to be there."""

    def __init__(
        self,
        listed: Mapping[str, Listed],
        types: Mapping[str, PluginType],
        defaults: Mapping[str, PluginType],
        said: Callable[[str], None],
        dropped: Callable[[str], bool],
    ) -> None:
        """`defaults` are producers by what they provide, for needs that nobody listed meets; `said` hears problems. A name that
        is `dropped` is known to be missing, and nobody needs to be told."""
        self.plugins = dict(listed)
        self.sources: dict[str, tuple[str | None, ...]] = {}
        self.references: dict[str, tuple[str, ...]] = {}
        self.order: list[str] = []
        """All that are used, each behind whom it needs."""
        self._types = types
        self._defaults = defaults
        self._said = said
        self._dropped = dropped
        self._under_way: list[str] = []

    def use(self, name: str) -> None:
        """The plugin is used, and with it whom it needs."""
        if name in self.sources:
            return
        if name in self._under_way:
            circle = " → ".join([*self._under_way[self._under_way.index(name) :], name])
            self._said(f"{self.plugins[name].path}: plugins need each other in a circle: {circle}")
            return
        plugin = self.plugins[name]
        self._under_way.append(name)
        sources = tuple([self._source(name, plugin, need) for need in plugin.row.needs(plugin.parameters)])
        references = []
        for reference in plugin.row.refers(plugin.parameters):
            path = f"{plugin.path}.parameters.{reference.path}"
            if self._refer(path, reference.name, reference.family):
                references.append(reference.name)
        self._under_way.pop()
        self.sources[name] = sources
        self.references[name] = tuple(references)
        self.order.append(name)

    def _refer(self, path: str, name: str, family: str) -> bool:
        other = self.plugins.get(name)
        if other is None:
            if not self._dropped(name):
                self._said(self._unknown(path, name))
            return False
        if not other.row.has(family):
            self._said(f"{path}: {name!r} is a {other.row.family}, expected a {family}")
            return False
        self.use(name)
        return True

    def _source(self, name: str, plugin: Listed, need: Need) -> str | None:
        path = f"{plugin.path}.parameters.{need.path}" if need.path else plugin.path
        if need.producer:
            other = self.plugins.get(need.producer)
            if other is None:
                default = self._defaults.get(need.kind)
                if default is not None and default.name == need.producer:
                    return self._made(default)
                if not self._dropped(need.producer):
                    self._said(
                        f"{path}: no plugin is called {need.producer!r} (there are: {', '.join(self.plugins) or 'none'})"
                    )
                return None
            if other.row.provides != need.kind:
                self._said(f"{path}: {need.producer!r} does not produce {need.kind}, which {plugin.row.name} needs")
                return None
            self.use(need.producer)
            return need.producer
        listed = [] if need.made else self._producers(need.kind)
        if listed:
            chosen = next((name for name in listed if self.plugins[name].row is self._defaults.get(need.kind)), listed[0])
            self.use(chosen)
            return chosen
        if need.optional:
            return None
        default = self._types[need.made] if need.made else self._defaults.get(need.kind)
        if default is None:
            self._said(f"{path}: {plugin.row.name} needs {need.kind}, and no plugin that is listed produces it")
            return None
        return self._made(default, need.parameters, name)

    def _unknown(self, path: str, name: str) -> str:
        return f"{path}: no plugin is called {name!r} (there are: {', '.join(self.plugins) or 'none'})"

    def _producers(self, kind: str) -> Sequence[str]:
        return [name for name, each in self.plugins.items() if each.row.has(PRODUCER) and each.row.provides == kind]

    def _made(self, row: PluginType, parameters: Mapping[str, object] = {}, owner: str = "") -> str:
        """A producer that nobody listed; one with parameters is its owner's own."""
        name = f"{owner}/{row.name}" if parameters else row.name
        if name not in self.plugins:
            self.plugins[name] = Listed("", row, row.parameters.model_validate(parameters))
        self.use(name)
        return name
