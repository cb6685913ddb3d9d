"""Serving endpoints that ConfigMaps declare: those with a label, each by itself an owner.

Every value of a ConfigMap's `data` is what a file may be: endpoints under `servingEndpoints`, a list, or one endpoint. It is
taken as a whole or not at all; one that is wrong leaves what it declared before, and the others, as they were. One that went
while nobody looked is noticed by the first list.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Final

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.endpoints.pausing import rest
from extproc.app.endpoints.written import Written, located
from extproc.control.changes import Declare, Origin
from extproc.control.desk import Desk
from extproc.control.errors import DeskError, Unavailable
from extproc.control.exchange import KEY, found_in
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.discovery.kubernetes.reading import Json, ObjectProblem, texts
from extproc.kubernetes.api import Api
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.reflector import Change, Key, Reflector, Resource
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError, few

_log = logger(__name__)

KIND: Final = "ConfigMap"
LABEL: Final = "extproc.dev/serving-endpoints=true"
WITHOUT: Final = "serving endpoints of ConfigMaps are unknown"
WITHIN_S: Final = 10.0
"""How long a gateway waits for its ConfigMaps before it serves without them."""
AGAIN_S: Final = 5.0
"""Until what was refused is tried again: another owner may have let go of a name."""
SOON_S: Final = 1.0
"""The same while the store is away."""
_SHOWN: Final = 5
"""Problems of a ConfigMap that are told."""


def read_endpoints(obj: Json) -> list[Written]:
    """What a ConfigMap declares. Raises ObjectProblem with what is wrong with its form."""
    written: list[Written] = []
    problems: list[str] = []
    for name, text in sorted(texts(obj, "data").items()):
        try:
            written += [Written(f"data.{name}", found) for found in found_in(text)]
        except SettingsError as error:
            problems += [f"data.{name}: {problem}" for problem in error.problems]
    if problems:
        raise ObjectProblem("; ".join(few(problems, _SHOWN)))
    return written


class EndpointConfigMaps:
    """Tells the desk what the ConfigMaps declare."""

    def __init__(
        self,
        desk: Desk,
        contact: ApiContact,
        errors: ObjectErrors,
        *,
        namespace: str,
        reflector: Callable[..., Reflector] = Reflector,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._desk = desk
        self._contact = contact
        self._errors = errors
        self._namespace = namespace
        self._make_reflector = reflector
        self._reflector: Reflector | None = None
        self._sleep = sleep
        self._wanted: dict[Key, list[Written]] = {}
        """What is to be declared yet; nothing: the ConfigMap is gone."""
        self._news = asyncio.Event()
        self._there: set[Key] = set()
        self._looked_for_orphans = False

    def __repr__(self) -> str:
        return f"<EndpointConfigMaps {len(self._there)} ConfigMaps, {len(self._wanted)} to be declared>"

    def unready(self) -> str | None:
        """Why the endpoints of ConfigMaps are not known; None when they are, or when the server refuses us for good."""
        if self._reflector is None or not self._reflector.settled:
            return "ConfigMaps of serving endpoints not listed yet"
        if self._reflector.synced and not self._looked_for_orphans:
            return "ConfigMaps of serving endpoints not declared yet"
        return None

    async def run(self, api: Api) -> None:
        """Watch until cancelled."""
        resource = Resource("configmaps", namespace=self._namespace, labels=LABEL)
        watched = self._contact.watched(
            resource, name="serving endpoints", without="serving endpoints of ConfigMaps are unknown"
        )
        self._reflector = self._make_reflector(api, resource, self._changed, watched)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run(), name=f"watch configmaps {LABEL}")
            while True:
                await self._news.wait()
                self._news.clear()
                await self._until_declared()

    def _changed(self, change: Change) -> None:
        for key in change.gone:
            self._there.discard(key)
            self._errors.forget(KIND, key)
            self._wanted[key] = []
        for key, obj in change.put.items():
            self._there.add(key)
            try:
                self._wanted[key] = read_endpoints(obj)
            except ObjectProblem as problem:
                self._wanted.pop(key, None)
                self._errors.check(KIND, key, str(problem))
        self._news.set()

    async def _until_declared(self) -> None:
        """Try until nothing is left to be said, or until there is something newer."""
        while not self._news.is_set():
            try:
                progress = await self._pass()
            except Unavailable:
                await rest(SOON_S, self._news, self._sleep)
                continue
            if not self._wanted:
                return
            if not progress:  # else a name may be free now
                await rest(AGAIN_S, self._news, self._sleep)

    async def _pass(self) -> bool:
        """Declare all that is wanted, those that go first. Whether anything changed by that. Raises Unavailable."""
        if not self._looked_for_orphans and self._desk.opened:
            self._looked_for_orphans = True
            for key in self._orphans():
                self._wanted.setdefault(key, [])
        progress = False
        for key, written in sorted(self._wanted.items(), key=lambda item: (bool(item[1]), item[0])):
            owner = f"configmap:{key[0]}/{key[1]}"
            try:
                declared = Declare(owner, [each.found.value for each in written], KEY)
                applied = await self._desk.apply(declared, owner, origin=Origin(platform.node()))
            except Unavailable:
                raise
            except DeskError as error:
                self._errors.check(KIND, key, "; ".join(few(located(error, written, ""), _SHOWN)))
                continue
            progress = progress or bool(applied.effects)
            if self._wanted.get(key) is written:  # nothing newer came meanwhile
                del self._wanted[key]
                if key in self._there:
                    self._errors.check(KIND, key, None)
        return progress

    def _orphans(self) -> list[Key]:
        """ConfigMaps of this namespace that have declared endpoints and are not there any more."""
        found = set()
        for record in self._desk.list():
            kind, _, name = record.owner.partition(":")
            namespace, _, name = name.partition("/")
            if kind == "configmap" and namespace == self._namespace and (namespace, name) not in self._there:
                found.add((namespace, name))
        return sorted(found)


class WatchedEndpoints(Component):
    """The ConfigMaps of a namespace: `run` in the background, `missing` while they are waited for.

    A gateway serves models without them, so neither an API server that is away at start nor a missing right keeps it down for
    long: after `within_s` it serves what it knows.
    """

    def __init__(self, desk: Desk, cluster: Cluster, namespace: str | None, within_s: float = WITHIN_S) -> None:
        """`namespace` None: the one of the service account or the kubeconfig."""
        super().__init__("serving endpoints of ConfigMaps")
        self._desk = desk
        self._cluster = cluster
        self._namespace = namespace
        self._within_s = within_s
        self._given_up = False
        self._maps: EndpointConfigMaps | None = None

    async def start(self) -> None:
        """Raises SettingsError when there is no access to Kubernetes."""
        client = await self._cluster.connect("--endpoint-configmaps")
        namespace = self._namespace or client.namespace
        self._maps = EndpointConfigMaps(self._desk, self._cluster.contact, self._cluster.errors, namespace=namespace)

    def missing(self) -> str | None:
        return None if self._given_up or self._maps is None else self._maps.unready()

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        if self._maps is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._maps.run(self._cluster.client), name="watch serving endpoints")
            await asyncio.sleep(self._within_s)
            if (why := self._maps.unready()) is not None:
                self._given_up = True
                _log.warning("serving without endpoints of ConfigMaps until they are read", why=why)
