"""A resource kept current: list it, watch it from the list's version on, and start over when that version has expired.

    list (pages) ──▶ one diff ──▶ watch ──▶ batches of events ──▶ ...
      ▲                             │ ended, cut, silent: watch again from the last version, after a pause
      └──── 410 Expired ◀───────────┘

What was known stays known: nobody hears of an object's end but from a DELETED event or a whole new list that lacks it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from extproc.backoff import Backoff
from extproc.kubernetes.api import Api, Json
from extproc.kubernetes.errors import ApiError, ApiUnreachable, KubeError

PAGE_SIZE: Final = 500
LIST_TIMEOUT_S: Final = 30.0
WATCH_S: Final = (240.0, 480.0)
"""How long the server shall keep a watch, at random between these: so that replicas do not come back all at once."""
BRIEF_S: Final = 1.0
"""A watch that ended sooner and brought nothing is no progress."""

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""


class Resource(NamedTuple):
    """What to list and watch."""

    plural: str
    group: str = ""
    """'' is the core group."""
    version: str = "v1"
    namespace: str = ""
    """'' is all namespaces."""
    labels: str = ""
    """A label selector in Kubernetes' syntax, '' for everything."""
    fields: str = ""
    """A field selector, such as metadata.name=x."""

    @property
    def name(self) -> str:
        """As CRDs are named: inferencepools.inference.networking.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{self.namespace}/{self.plural}" if self.namespace else f"{root}/{self.plural}"

    @property
    def query(self) -> dict[str, str]:
        selectors = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in selectors.items() if value}


class Change(NamedTuple):
    """What became different, in one step: apply `gone` and `put` in any order, no key is in both."""

    put: Mapping[Key, Json]
    """New and changed objects, whole."""
    gone: frozenset[Key]
    """May name an object that came and went within the step, so was never told of."""


class Observer(Protocol):
    """Who counts and logs. Must not block or raise."""

    def contact(self) -> None:
        """The server just said something."""
        ...

    def watching(self) -> None:
        """The list is whole and the watch is on."""
        ...

    def failed(self, verb: str, error: KubeError, *, cut: bool) -> None:
        """`verb` is list or watch. `cut`: a watch that was on broke, which by itself means little."""
        ...

    def relisted(self, why: str) -> None:
        """`why` is `start`, `expired` or `missing`."""
        ...

    def events(self, kind: str, count: int) -> None: ...


class Reflector:
    """Tells `on_change` everything that happens to a resource's objects: in its first call all there are, maybe none.

    It keeps their versions only. `run` never returns by itself.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        on_change: Callable[[Change], None],
        observer: Observer,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        refused_most_s: float = 15.0,
    ) -> None:
        self._api = api
        self.resource = resource
        self._on_change = on_change
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._refused_most_s = refused_most_s
        self._backoff = Backoff(draw)
        self._versions: dict[Key, str] = {}
        self._version: str | None = None
        self._why = "start"
        self._on = False
        """The watch of this round was accepted."""
        self.synced = False
        """The objects were listed whole at least once."""
        self.refusal: int | None = None
        """The status while the server refuses us (403) or does not know the resource (404)."""

    def __repr__(self) -> str:
        at = f"at {self._version}" if self._version else "listing"
        return f"<Reflector {self.resource.name} {at}, {len(self._versions)} objects, {self._backoff.failures} failures>"

    @property
    def settled(self) -> bool:
        """Waiting longer tells nothing new: it was listed, or refused."""
        return self.synced or self.refusal is not None

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            verb, self._on = "list", False
            try:
                if self._version is None:
                    await self._list()
                verb = "watch"
                await self._watch(self._version or "")
            except ApiError as error:
                await self._refused(verb, error)
            except ApiUnreachable as error:
                self._observer.failed(verb, error, cut=self._on)
                await self._sleep(self._backoff.next())

    async def _refused(self, verb: str, error: ApiError) -> None:
        if error.status == 410:
            self._version, self._why = None, "expired"
            if self._backoff.failures:
                await self._sleep(self._backoff.next())
            self._backoff.failures += 1  # at once the first time, then with pauses until something works
            return
        if error.status in (403, 404):
            self.refusal = error.status
        if error.status == 404:
            self._version, self._why = None, "missing"
        self._observer.failed(verb, error, cut=self._on)
        most_s = self._refused_most_s if error.status in (403, 404) else None
        await self._sleep(self._backoff.next(most_s))

    async def _list(self) -> None:
        """Everything in pages; the old state stays until the last page is there."""
        versions: dict[Key, str] = {}
        put: dict[Key, Json] = {}
        query = {**self.resource.query, "limit": str(PAGE_SIZE)}
        while True:
            page = await self._api.request("GET", self.resource.path, query=query, timeout_s=LIST_TIMEOUT_S)
            self._observer.contact()
            items, version, token = _page(page)
            for item in items:
                identity = identify(item)
                if identity is None:
                    continue
                key, its = identity
                versions[key] = its
                if self._versions.get(key) != its or not its:
                    put[key] = item
            if not token:
                break
            query["continue"] = token
        gone = frozenset(self._versions.keys() - versions.keys())
        first = not self.synced
        self._versions, self._version, self.synced, self.refusal = versions, version, True, None
        self._observer.relisted(self._why)
        if put or gone or first:
            self._on_change(Change(put, gone))

    async def _watch(self, version: str) -> None:
        """One watch, until the server ends it."""
        low, high = WATCH_S
        query = {
            **self.resource.query,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(low + (high - low) * self._draw())),
        }
        started_s = self._clock()
        heard = False
        async with aclosing(_closable(self._api.watch_batches(self.resource.path, query))) as batches:
            async for batch in batches:
                self._observer.contact()
                if not batch:
                    self._on = True
                    self.refusal = None
                    self._observer.watching()
                elif self._take(batch):
                    heard = True
                    self._backoff.reset()
        if heard or self._clock() - started_s >= BRIEF_S:
            self._backoff.reset()
        else:
            await self._sleep(self._backoff.next())

    def _take(self, batch: list[Json]) -> bool:
        """One step for all events of a batch. Raises ApiError for an ERROR event, once what came before it is told."""
        put: dict[Key, Json] = {}
        gone: set[Key] = set()
        kinds: dict[str, int] = {}
        error: ApiError | None = None
        for event in batch:
            kind, obj = event.get("type"), event.get("object")
            if kind == "ERROR":
                error = _status(obj)
                break
            if not isinstance(kind, str) or not isinstance(obj, dict):
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
            self._note(kind, obj, put, gone)
        for kind, count in kinds.items():
            self._observer.events(kind if kind in _KINDS else "other", count)
        if put or gone:
            self._on_change(Change(put, frozenset(gone)))
        if error is not None:
            raise error
        return bool(kinds)

    def _note(self, kind: str, obj: Json, put: dict[Key, Json], gone: set[Key]) -> None:
        if kind == "BOOKMARK":
            self._version = _version(obj) or self._version
            return
        identity = identify(obj)
        if identity is None or kind not in _KINDS:
            return
        key, version = identity
        self._version = version or self._version
        if kind == "DELETED":
            put.pop(key, None)
            if self._versions.pop(key, None) is not None:
                gone.add(key)
            return
        if version and self._versions.get(key) == version:
            return
        self._versions[key] = version
        put[key] = obj
        gone.discard(key)


_KINDS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


def identify(obj: object) -> tuple[Key, str] | None:
    """An object's key and version, None when it has no name."""
    meta = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        return None
    namespace, version = meta.get("namespace"), meta.get("resourceVersion")
    key = (namespace if isinstance(namespace, str) else "", meta["name"])
    return key, version if isinstance(version, str) else ""


def _version(obj: Json) -> str:
    meta = obj.get("metadata")
    version = meta.get("resourceVersion") if isinstance(meta, dict) else None
    return version if isinstance(version, str) else ""


def _page(page: Any) -> tuple[list[Any], str, str]:
    """Items, version and the token of the next page. Raises ApiUnreachable for what is no list."""
    if not isinstance(page, dict) or not isinstance(page.get("items") or [], list):
        raise ApiUnreachable("an answer that is not a list")
    meta = page.get("metadata")
    token = meta.get("continue") if isinstance(meta, dict) else None
    return page.get("items") or [], _version(page), token if isinstance(token, str) else ""


def _status(obj: object) -> ApiError:
    status = obj if isinstance(obj, dict) else {}
    code = status.get("code")
    return ApiError(
        code if isinstance(code, int) else 500, str(status.get("reason") or "Unknown"), str(status.get("message") or "")
    )


def _closable(batches: AsyncIterator[list[Json]]) -> Any:
    """An async generator by its type too: it is closed at once, so that its connection is."""
    return batches
