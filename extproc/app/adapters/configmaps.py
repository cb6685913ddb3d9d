"""ConfigMaps that say which LoRA adapters sit on which base model, for the router.

Several may name one base model. Where two disagree, the older ConfigMap is right, and the younger has a problem; a base model
is never somebody's adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.discovery.kubernetes.reading import Json, ObjectProblem, created_s, mapping
from extproc.kubernetes.api import Api
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.reflector import Change, Key, Reflector, Resource
from extproc.live import LiveWriter
from extproc.observability.logs import logger
from extproc.settings.adapters import parse_config_map
from extproc.settings.base import SettingsError
from extproc.settings.commands import AdapterSettings
from extproc.traffic import AdapterMap

_log = logger(__name__)

KIND: Final = "ConfigMap"
WITHIN_S: Final = 10.0
"""How long a router waits for its ConfigMaps before it serves without them."""

RELABELLED_S: Final = 0.5
"""How long a ConfigMap that left one watch is kept: one that got another label comes in by another watch, sooner or later."""

LABELS: Final = (
    "inference.networking.k8s.io/bbr-managed=true",
    "inference-gateway.k8s.io/managed=true",
    "inference.llm-d.ai/ipp-managed=true",
)
"""Of upstream's router 1.4 and 1.5, of 1.3, and of llm-d's payload processor: each marks a ConfigMap of adapters."""


WITHOUT: Final = "base models and adapters of ConfigMaps are unknown: X-Gateway-Base-Model-Name is not set by them"


class Adapters(NamedTuple):
    """What one ConfigMap says."""

    base: str
    adapters: tuple[str, ...]
    created_s: float


def read_adapters(obj: Json) -> Adapters:
    """Raises ObjectProblem with everything that is wrong."""
    try:
        base, names = parse_config_map({"data": mapping(obj, "data")})
    except SettingsError as error:
        raise ObjectProblem("; ".join(error.problems)) from None
    return Adapters(base, tuple(names), created_s(obj))


def merge(found: Iterable[tuple[Key, Adapters]]) -> tuple[dict[str, list[str]], dict[Key, str]]:
    """Base model to adapters, without conflicts; and what is wrong with the ConfigMaps that lost one."""
    ordered = sorted(found, key=lambda item: (item[1].created_s, item[0]))
    merged: dict[str, list[str]] = {each.base: [] for _, each in ordered}
    owner: dict[str, tuple[Key, str]] = {}
    problems: dict[Key, list[str]] = {}
    for key, each in ordered:
        for name in each.adapters:
            if name == each.base:
                continue
            if name in merged:
                problems.setdefault(key, []).append(f"adapter {name!r} is a base model itself")
                continue
            first, base = owner.setdefault(name, (key, each.base))
            if base != each.base:
                words = f"adapter {name!r} belongs to base model {base!r} by the older ConfigMap {first[0]}/{first[1]}"
                problems.setdefault(key, []).append(words)
            elif name not in merged[base]:
                merged[base].append(name)
    return merged, {key: "; ".join(lines[:5]) for key, lines in problems.items()}


class AdapterConfigMaps:
    """Gives the sink a new map whenever the ConfigMaps say something else. One watch for each label: the server filters."""

    def __init__(
        self,
        sink: Callable[[AdapterMap], None],
        contact: ApiContact,
        errors: ObjectErrors,
        *,
        namespace: str = "",
        reflector: Callable[..., Reflector] = Reflector,
    ) -> None:
        """`namespace`: '' is all of them."""
        self._sink = sink
        self._contact = contact
        self._errors = errors
        self._namespace = namespace
        self._reflector = reflector
        self._reflectors: list[Reflector] = []
        self._seen: dict[Key, set[str]] = {}
        """By which labels a ConfigMap is selected."""
        self._good: dict[Key, Adapters] = {}
        self._unreadable: dict[Key, str] = {}
        self._leaving: dict[Key, asyncio.TimerHandle] = {}
        """Selected by no label of late."""
        self._told: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"<AdapterConfigMaps {len(self._good)} ConfigMaps, {len(self._told)} base models>"

    def unready(self) -> str | None:
        """Why the ConfigMaps are not known, None when they were listed or the server refuses us for good."""
        if not self._reflectors:
            return "ConfigMaps of adapters not read yet"
        if all(reflector.settled for reflector in self._reflectors):
            return None
        return "ConfigMaps of adapters not listed yet"

    async def run(self, api: Api) -> None:
        """Watch until cancelled."""
        for label in LABELS:
            resource = Resource("configmaps", namespace=self._namespace, labels=label)
            watched = self._contact.watched(resource, name=label.partition("=")[0], without=WITHOUT)
            self._reflectors.append(self._reflector(api, resource, partial(self._changed, label), watched))
        try:
            async with asyncio.TaskGroup() as group:
                for reflector in self._reflectors:
                    group.create_task(reflector.run(), name=f"watch configmaps {reflector.resource.labels}")
        finally:
            for leaving in self._leaving.values():
                leaving.cancel()
            self._leaving.clear()

    def _changed(self, label: str, change: Change) -> None:
        for key in change.gone:
            labels = self._seen.get(key, set())
            labels.discard(label)
            if not labels and key not in self._leaving:  # gone, or it lost its last label, or has another
                later = asyncio.get_running_loop().call_later
                self._leaving[key] = later(RELABELLED_S, self._drop, key)
        for key, obj in change.put.items():
            self._seen.setdefault(key, set()).add(label)
            if (leaving := self._leaving.pop(key, None)) is not None:
                leaving.cancel()
            try:
                self._good[key] = read_adapters(obj)
                self._unreadable.pop(key, None)
            except ObjectProblem as problem:
                self._unreadable[key] = str(problem)
        self._tell()

    def _drop(self, key: Key) -> None:
        del self._leaving[key]
        self._seen.pop(key, None)
        self._good.pop(key, None)
        self._unreadable.pop(key, None)
        self._errors.forget(KIND, key)
        self._tell()

    def _tell(self) -> None:
        merged, conflicts = merge(self._good.items())
        for key in self._seen:
            unreadable = self._unreadable.get(key)
            if unreadable is not None:
                self._errors.check(KIND, key, unreadable)
            else:
                self._errors.check(KIND, key, conflicts.get(key), effect="what conflicts is ignored")
        if merged != self._told:
            self._told = merged
            self._sink(AdapterMap(merged))
            names = sum(map(len, merged.values()))
            _log.info("adapters changed", base_models=len(merged), adapters=names, config_maps=len(self._good))


class WatchedAdapters(Component):
    """The router's ConfigMaps: `run` in the background, `missing` while they are waited for.

    A router without them still finds models, so neither an API server that is away at start nor a missing right keeps it down
    for long: after `within_s` it serves, base models unknown, until the ConfigMaps are there.
    """

    def __init__(self, settings: AdapterSettings, adapters: LiveWriter[AdapterMap], cluster: Cluster) -> None:
        super().__init__("adapters")
        self._must = settings.adapter_configmaps == "true"
        self._given_up = False
        self.within_s = WITHIN_S
        self._cluster = cluster
        self._maps = AdapterConfigMaps(adapters.replace, cluster.contact, cluster.errors, namespace=settings.namespace or "")

    def missing(self) -> str | None:
        """None when the ConfigMaps are known, or not waited for any longer."""
        return None if self._given_up else self._maps.unready()

    async def start(self) -> None:
        """Raises SettingsError when Kubernetes was asked for and is out of reach; with `auto` that is a line in the log."""
        try:
            await self._cluster.connect()
        except SettingsError as error:
            if self._must:
                raise
            self._given_up = True
            _log.warning("no ConfigMaps of adapters, base models are unknown", problems=error.problems)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        if self._given_up:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._maps.run(self._cluster.client), name="watch adapters")
            await asyncio.sleep(self.within_s)
            if (why := self._maps.unready()) is not None:
                self._given_up = True
                _log.warning("serving without ConfigMaps of adapters, base models are unknown until they are read", why=why)

    async def close(self) -> None:
        await self._cluster.close()
