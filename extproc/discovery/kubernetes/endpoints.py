"""The endpoints of one pool: an InferencePool and the pods that it selects, or pods by a selector of our own.

InferencePool ──▶ Selection ──▶ pods by its labels ──▶ endpoints, one for each active port
                     │ other labels: the old pods serve until the new ones are listed whole
                     │ other ports: at once
                     └ deleted: no endpoints
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from extproc.discovery.kubernetes.pods import Pod, endpoints_of, read_pod
from extproc.discovery.kubernetes.pools import GROUP, INSTALL, Selection, pods_resource, pool_resource, read_pool
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.discovery.kubernetes.reading import ObjectProblem
from extproc.discovery.sink import EndpointSink
from extproc.domain import Endpoint
from extproc.kubernetes.api import Api
from extproc.kubernetes.contact import ApiContact, WatchedResource
from extproc.kubernetes.reflector import Change, Key, Reflector, Resource
from extproc.observability.logs import logger

_log = logger(__name__)

POOL_KIND: Final = "InferencePool"
POD_KIND: Final = "Pod"

_GATHER_S: Final = 0.1
"""How long pods that came may wait for more of them; pods that left wait for nothing."""


class KubernetesSource(NamedTuple):
    """Where a pool is: an InferencePool by its name, or a selection of pods."""

    namespace: str
    name: str
    """Of the InferencePool, and in metrics."""
    group: str = GROUP
    selection: Selection | None = None
    """Set: there is no InferencePool."""

    def __str__(self) -> str:
        if self.selection is not None:
            return f'pods with "{self.selection.selector}" in namespace "{self.namespace}"'
        return f"{POOL_KIND} {self.namespace}/{self.name}" if self.namespace else f"{POOL_KIND} {self.name}"


class _Pods:
    """One selection's pods, and the task that watches them."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.pods: dict[Key, Pod] = {}
        self.endpoints: dict[Key, tuple[Endpoint, ...]] = {}
        self.reflector: Reflector | None = None
        self.watched: WatchedResource | None = None
        self.task: asyncio.Task[None] | None = None

    def take(self, change: Change, errors: ObjectErrors) -> tuple[bool, bool]:
        """Whether an endpoint came or changed, and whether one left."""
        came = left = False
        for key in change.gone:
            self.pods.pop(key, None)
            left |= bool(self.endpoints.pop(key, ()))
            errors.forget(POD_KIND, key)
        for key, obj in change.put.items():
            pod = read_pod(obj)
            before = self.endpoints.get(key, ())
            errors.check(POD_KIND, key, pod.problem if pod else None, effect="the annotation is ignored")
            if pod is None:
                self.pods.pop(key, None)
                left |= bool(self.endpoints.pop(key, ()))
                continue
            known = self.pods.get(key)
            self.pods[key] = pod
            if known == pod:
                continue
            now = self.endpoints[key] = endpoints_of(pod, self.selection.ports)
            left |= not set(before) <= set(now)
            came = True
        return came, left

    def ports(self, ports: tuple[int, ...]) -> None:
        self.selection = self.selection._replace(ports=ports)
        self.endpoints = {key: endpoints_of(pod, ports) for key, pod in self.pods.items()}

    def all(self) -> list[Endpoint]:
        """Two pods may claim one address for a moment (host network, an address used again): the younger has it."""
        by_key = {endpoint.key: endpoint for each in self.endpoints.values() for endpoint in each}
        if len(by_key) < sum(map(len, self.endpoints.values())):
            for key, _ in sorted(self.pods.items(), key=lambda item: (item[1].created_s, item[0])):
                by_key.update({endpoint.key: endpoint for endpoint in self.endpoints[key]})
        return list(by_key.values())


class KubernetesDiscovery:
    """Tells the sink the pool whenever it changes, first when the pool and its pods were listed. `run` returns never."""

    def __init__(
        self,
        source: KubernetesSource,
        sink: EndpointSink,
        contact: ApiContact,
        errors: ObjectErrors,
        *,
        reflector: Callable[..., Reflector] = Reflector,
        gather_s: float = _GATHER_S,
    ) -> None:
        self.source = source
        self._sink = sink
        self._contact = contact
        self._errors = errors
        self._reflector = reflector
        self._gather_s = gather_s
        self._api: Api | None = None
        self._group: asyncio.TaskGroup | None = None
        self._pool_watched: WatchedResource | None = None
        self._pool_known: bool | None = None
        """The InferencePool is there; None before it was asked for."""
        self._had_pool = False
        self._now: _Pods | None = None
        """Whose endpoints serve."""
        self._next: _Pods | None = None
        """Whose list is awaited."""
        self._later: asyncio.TimerHandle | None = None
        self._told = False
        """The sink knows the pods of `_now`."""

    def __repr__(self) -> str:
        now = len(self._now.pods) if self._now else 0
        return f"<KubernetesDiscovery {self.source}, {now} pods serve{', other pods awaited' if self._next else ''}>"

    def unready(self) -> str | None:
        """Why the pool is not known, None when it is (it may have no pods). A pool that is deleted is not known again."""
        source = self.source
        if self._now is not None and self._told:
            return None
        waits = self._next or self._now
        if waits is not None:
            why = waits.watched.problem if waits.watched else None
            return f"{'' if source.selection else 'pods of '}{source}: {why or 'not listed yet'}"
        if self._pool_known:
            return f"{source}: {self._errors.of(POOL_KIND, (source.namespace, source.name))}"
        if self._pool_known is False:
            return f"{source} was deleted" if self._had_pool else f"{source} not found"
        why = self._pool_watched.problem if self._pool_watched else None
        return f"{source}: {why or 'not read yet'}"

    async def run(self, api: Api, namespace: str) -> None:
        """Watch until cancelled. `namespace` is where the pool is when its source does not say."""
        self._api = api
        self.source = self.source._replace(namespace=self.source.namespace or namespace)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self.source.selection is not None:
                    self._select(self.source.selection)
                else:
                    group.create_task(self._watch_pool(api), name=f"watch {self.source}")
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            if self._later is not None:
                self._later.cancel()

    async def _watch_pool(self, api: Api) -> None:
        source = self.source
        resource = pool_resource(source.group, source.namespace, source.name)
        self._pool_watched = self._contact.watched(resource, name=source.name, install=INSTALL)
        await self._reflector(api, resource, self._pool_changed, self._pool_watched).run()

    # -- the pool ----------------------------------------------------------------------------------------------------

    def _pool_changed(self, change: Change) -> None:
        key = (self.source.namespace, self.source.name)
        if key in change.put:
            self._pool_known = True
            try:
                selection = read_pool(change.put[key])
            except ObjectProblem as problem:
                self._errors.check(POOL_KIND, key, str(problem), effect="its last good state stays")
                return
            self._errors.check(POOL_KIND, key, None)
            self._had_pool = True
            self._select(selection)
        elif key in change.gone or self._pool_known is None:
            self._pool_known = False
            self._errors.forget(POOL_KIND, key)
            _log.warning(
                "pool was deleted, it has no endpoints now" if self._had_pool else "no such pool", pool=str(self.source)
            )
            self._drop_all()

    def _select(self, selection: Selection) -> None:
        now, awaited = self._now, self._next
        if awaited is not None and awaited.selection.labels == selection.labels:
            awaited.ports(selection.ports)
            return
        self._next = None
        self._drop(awaited)
        if now is not None and now.selection.labels == selection.labels:
            if now.selection.ports != selection.ports:
                now.ports(selection.ports)
                self._tell()
            return
        self._next = self._start(selection)

    # -- its pods ----------------------------------------------------------------------------------------------------

    def _start(self, selection: Selection) -> _Pods:
        assert self._group is not None, "only while it runs"
        assert self._api is not None, "only while it runs"
        pods = _Pods(selection)
        resource: Resource = pods_resource(self.source.namespace, selection)
        pods.watched = self._contact.watched(resource, name=self.source.name)
        pods.reflector = self._reflector(self._api, resource, partial(self._pods_changed, pods), pods.watched)
        pods.task = self._group.create_task(pods.reflector.run(), name=f"watch {resource.name} {selection.selector}")
        return pods

    def _drop(self, pods: _Pods | None) -> None:
        if pods is not None and pods.task is not None and pods.watched is not None:
            pods.task.cancel()
            self._contact.unwatched(pods.watched)

    def _drop_all(self) -> None:
        for pods in (self._now, self._next):
            self._drop(pods)
        told = self._told
        self._now = self._next = None
        self._cancel_later()
        self._told = False
        if told:
            self._sink.replace_endpoints(())

    def _pods_changed(self, pods: _Pods, change: Change) -> None:
        came, left = pods.take(change, self._errors)
        if pods is self._next:  # its list is whole
            old, self._now, self._next = self._now, pods, None
            self._drop(old)
            self._tell()
        elif pods is not self._now:
            return
        elif left:
            self._tell()
        elif came and self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._gather_s, self._tell)

    def _tell(self) -> None:
        self._cancel_later()
        if self._now is None:
            return
        self._told = True
        self._sink.replace_endpoints(self._now.all())

    def _cancel_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
