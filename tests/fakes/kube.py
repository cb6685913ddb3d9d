"""An API server of Kubernetes as far as our clients can tell: lists in pages, watches with versions, and every way to fail.

    fake = FakeKube()
    port = await fake.start()
    fake.put("pods", pod("vllm-0", "10.0.0.1"))       # resources by plural, or plural.group
    fake.cut()                                         # break every watch
    await fake.kill(); await fake.start()              # away and back on the same port, with its state

State is this object's; handlers only read it, but for writes that come over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson
from aiohttp import web

from tests.fakes.kube_paths import Json, Place, place_of, verb_of, wanted

Key = tuple[str, str]


class Change(NamedTuple):
    """One line of the history."""

    version: int
    kind: str
    new: Json | None
    old: Json | None


class FakeKube:
    """Knobs are plain attributes; `requests` has every request as (method, path, query)."""

    def __init__(self) -> None:
        self.port = 0
        self.version = 100
        self.objects: dict[str, dict[Key, Json]] = {}
        self.history: dict[str, list[Change]] = {}
        self.oldest = 0
        """Versions before this are expired."""
        self.missing: set[str] = set()
        """Resources without a CRD: 404."""
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, resource) that are 403; the verb may be "*"."""
        self.failures: dict[str, int] = {}
        """Status to answer requests for a resource with, e.g. {"pods": 500}."""
        self.expire_as_event = True
        """How a watch from an expired version is told: an ERROR event, or else HTTP 410."""
        self.latency_s = 0.0
        self.silent = False
        """Take requests and never answer."""
        self.bookmark_every_s: float | None = None
        self.token: str | None = None
        """When set, other bearers get 401."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.token_review: Callable[[Json], Json] = lambda _: {"authenticated": False}
        self.access_review: Callable[[Json], Json] = lambda _: {"allowed": False}
        self._watches: set[_Watch] = set()
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    # -- being there -------------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Listen: on port 0 the first time, on the same port ever after."""
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._listener = await loop.create_server(self._server, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def kill(self) -> None:
        """Gone at once, connections and all."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        while self._server.connections or self._watches:  # connections on their way in come late
            for connection in list(self._server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            self.cut()
            await asyncio.sleep(0)
        self._listener = self._server = None

    def cut(self) -> None:
        """Break every watch in the middle."""
        for watch in list(self._watches):
            watch.cut()

    def kubeconfig(self, *, namespace: str = "default", token: str = "") -> str:
        """The text of a kubeconfig for this server."""
        return (
            f"apiVersion: v1\nkind: Config\ncurrent-context: it\ncontexts: [{{name: it, context: {{cluster: it, user: me, "
            f"namespace: {namespace}}}}}]\nclusters: [{{name: it, cluster: {{server: 'http://127.0.0.1:{self.port}'}}}}]\n"
            f"users: [{{name: me, user: {{token: '{token or 'secret'}'}}}}]\n"
        )

    # -- its objects -------------------------------------------------------------------------------------------------

    def put(self, resource: str, obj: Json) -> Json:
        """Create or replace; the object gets a version, and a uid and a creation time when it has none."""
        new = copy.deepcopy(obj)
        meta = new.setdefault("metadata", {})
        key = (meta.get("namespace", ""), meta["name"])
        old = self.objects.setdefault(resource, {}).get(key)
        self.version += 1
        before = old["metadata"] if old else {}
        meta.setdefault("uid", before.get("uid", f"uid-{self.version}"))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + self.version))
        meta.setdefault("creationTimestamp", before.get("creationTimestamp", stamp))
        meta["resourceVersion"] = str(self.version)
        self.objects[resource][key] = new
        self._changed(resource, Change(self.version, "MODIFIED" if old else "ADDED", new, old))
        return new

    def delete(self, resource: str, name: str, namespace: str = "default") -> None:
        old = self.objects[resource].pop((namespace, name))
        self.version += 1
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._changed(resource, Change(self.version, "DELETED", gone, old))

    def get(self, resource: str, name: str, namespace: str = "default") -> Json:
        return self.objects[resource][(namespace, name)]

    def expire(self) -> None:
        """Forget the history: a watch from a version before now is 410."""
        self.version += 1
        self.oldest = self.version
        for changes in self.history.values():
            changes.clear()

    def bookmark(self) -> None:
        """Tell every watch that asked for bookmarks the version now."""
        for watch in self._watches:
            watch.bookmark(self.version)

    def send(self, resource: str, event: Json) -> None:
        """Tell every watch of a resource something out of the order."""
        for watch in self._watches:
            if watch.resource == resource:
                watch.line(event)

    def watching(self, resource: str) -> int:
        """How many watches of a resource are on."""
        return sum(watch.resource == resource for watch in self._watches)

    def _changed(self, resource: str, change: Change) -> None:
        self.history.setdefault(resource, []).append(change)
        for watch in self._watches:
            if watch.resource == resource:
                watch.change(change)

    # -- requests ----------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        query = dict(request.query)
        self.requests.append((request.method, request.path, query))
        if self.silent:
            await asyncio.Event().wait()
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        place = place_of(request.path)
        if place is None:
            return _status(404, "NotFound", "the server could not find the requested resource")
        return await self._serve(request, place, query)

    async def _serve(self, request: web.BaseRequest, place: Place, query: dict[str, str]) -> web.StreamResponse:
        verb = verb_of(request.method, place, query)
        resource = place.resource
        if failure := self.failures.get(resource):
            return _status(failure, "InternalError", "told to fail")
        if (verb, resource) in self.forbidden or ("*", resource) in self.forbidden:
            plural, _, group = resource.partition(".")
            scope = f' in the namespace "{place.namespace}"' if place.namespace else " at the cluster scope"
            message = f'{plural} is forbidden: User "us" cannot {verb} resource "{plural}" in API group "{group}"{scope}'
            return _status(403, "Forbidden", message)
        if resource in self.missing:
            return _status(404, "NotFound", "the server could not find the requested resource")
        if verb == "watch":
            return await self._watch(request, place, query)
        if verb == "list":
            return self._list(place, query)
        if verb == "get":
            found = self.objects.get(resource, {}).get((place.namespace, place.name))
            return _json(found) if found else _status(404, "NotFound", f'{resource} "{place.name}" not found')
        return self._write(verb, place, await request.json() if request.can_read_body else {})

    def _list(self, place: Place, query: Mapping[str, str]) -> web.Response:
        limit = int(query.get("limit", "0"))
        after: Key | None = None
        version = self.version
        if token := query.get("continue"):
            at, namespace, name = orjson.loads(token)
            if at < self.oldest:
                return _status(410, "Expired", "The provided continue parameter is too old")
            version, after = at, (namespace, name)
        matching = [
            (key, obj)
            for key, obj in sorted(self.objects.get(place.resource, {}).items())
            if wanted(place, query, obj) and (after is None or key > after)
        ]
        metadata: Json = {"resourceVersion": str(version)}
        if limit and len(matching) > limit:
            matching = matching[:limit]
            metadata["continue"] = orjson.dumps([version, *matching[-1][0]]).decode()
        return _json({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": [obj for _, obj in matching]})

    async def _watch(self, request: web.BaseRequest, place: Place, query: Mapping[str, str]) -> web.StreamResponse:
        since = int(query.get("resourceVersion") or self.version)
        if since < self.oldest and not self.expire_as_event:
            return _status(410, "Expired", f"too old resource version: {since} ({self.oldest})")
        response = web.StreamResponse()
        response.content_type = "application/json"
        try:
            await response.prepare(request)
        except ConnectionError:
            return response
        watch = _Watch(place, query)
        self._watches.add(watch)
        if since < self.oldest:
            gone = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}
            watch.line({"type": "ERROR", "object": gone})
            watch.end()
        for change in self.history.get(place.resource, []):
            if change.version > since >= self.oldest:
                watch.change(change)
        seconds = float(query.get("timeoutSeconds", "3600"))
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(ConnectionError):
                    await self._feed(watch, response)
        except TimeoutError:
            pass
        finally:
            self._watches.discard(watch)
        if watch.broken and request.transport is not None:
            request.transport.abort()
        return response

    async def _feed(self, watch: _Watch, response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(self.bookmark_every_s):
                    await watch.filled.wait()
            except TimeoutError:
                watch.bookmark(self.version)
            watch.filled.clear()
            lines, watch.lines = watch.lines, []
            if lines and not watch.broken:
                await response.write(b"".join(lines))
            if watch.ended or watch.broken:
                return

    def _write(self, verb: str, place: Place, body: Json) -> web.Response:
        if place.resource == "tokenreviews.authentication.k8s.io":
            return _json({**body, "status": self.token_review(body)}, 201)
        if place.resource == "subjectaccessreviews.authorization.k8s.io":
            return _json({**body, "status": self.access_review(body)}, 201)
        objects = self.objects.setdefault(place.resource, {})
        meta = body.setdefault("metadata", {})
        if place.namespace:
            meta["namespace"] = place.namespace
        if verb == "create":
            name = meta.get("name") or f"{meta.get('generateName', 'x-')}{self.version + 1}"
            meta["name"] = name
            if (place.namespace, name) in objects:
                return _status(409, "AlreadyExists", f'{place.resource} "{name}" already exists')
            return _json(self.put(place.resource, body), 201)
        old = objects.get((place.namespace, place.name))
        if old is None:
            return _status(404, "NotFound", f'{place.resource} "{place.name}" not found')
        if verb == "delete":
            self.delete(place.resource, place.name, place.namespace)
            return _json({"kind": "Status", "status": "Success"})
        said = meta.get("resourceVersion")
        if said is not None and said != old["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", f'Operation cannot be fulfilled on {place.resource} "{place.name}"')
        body = _merged(old, body) if verb == "patch" else body
        body["metadata"]["name"] = place.name
        return _json(self.put(place.resource, body))


class _Watch:
    def __init__(self, place: Place, query: Mapping[str, str]) -> None:
        self.resource = place.resource
        self.place = place
        self.query = query
        self.lines: list[bytes] = []
        self.filled = asyncio.Event()
        self.ended = False
        self.broken = False

    def line(self, event: Json) -> None:
        self.lines.append(orjson.dumps(event) + b"\n")
        self.filled.set()

    def change(self, change: Change) -> None:
        """An object that begins or ceases to match is ADDED or DELETED for this watch, as the real one does it."""
        assert change.new is not None
        now = change.kind != "DELETED" and wanted(self.place, self.query, change.new)
        before = change.old is not None and wanted(self.place, self.query, change.old)
        if now:
            self.line({"type": "MODIFIED" if before else "ADDED", "object": change.new})
        elif before:
            gone = copy.deepcopy(change.old) or {}
            gone["metadata"]["resourceVersion"] = str(change.version)
            self.line({"type": "DELETED", "object": gone})

    def bookmark(self, version: int) -> None:
        if self.query.get("allowWatchBookmarks") in ("1", "true"):
            self.line({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}})

    def end(self) -> None:
        self.ended = True
        self.filled.set()

    def cut(self) -> None:
        self.broken = True
        self.filled.set()


def _merged(old: Json, patch: Json) -> Json:
    out = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = _merged(out[key], value)
        else:
            out[key] = value
    return out


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _status(code: int, reason: str, message: str) -> web.Response:
    return _json({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}, code)
