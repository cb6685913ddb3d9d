"""A plain client of the API server, for tests: the objects are dicts, one connection, no retries."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]

_MERGE: Final = "application/merge-patch+json"


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class Api:
    """Requests with the rights of one token. Usable from several threads, each with a connection of its own."""

    def __init__(self, url: str, ca_file: str, token: str) -> None:
        self._where = urlsplit(url).netloc
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
        self._local = threading.local()
        self._open: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._open:
            connection.close()

    def request(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] = {}, content_type: str = "application/json"
    ) -> Any:
        """The decoded answer. Raises Refused, and OSError or HTTPException when the server is not there."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        for fresh in (False, True):
            connection = self._connection(fresh)
            try:
                connection.request(method, target, data, {**self._headers, "content-type": content_type})
                response = connection.getresponse()
                return _decoded(response.status, response.read())
            except (http.client.HTTPException, OSError):
                connection.close()
                if fresh or method != "GET":  # a connection that was idle may be gone; what writes is not said twice
                    self._local.connection = None
                    raise
        raise AssertionError("unreachable")

    def get(self, path: str, **query: str) -> Any:
        return self.request("GET", path, query=query)

    def create(self, path: str, body: Object) -> Object:
        return dict(self.request("POST", path, body))

    def patch(self, path: str, body: object) -> Object:
        """A merge patch (RFC 7386): null removes."""
        return dict(self.request("PATCH", path, body, content_type=_MERGE))

    def replace(self, path: str, body: Object) -> Object:
        return dict(self.request("PUT", path, body))

    def apply(self, path: str, body: Object | bytes, **query: str) -> Object:
        """A server-side apply: created, or made as `body` says, which may be YAML."""
        given = {"fieldManager": "tests", "force": "true", **query}
        return dict(self.request("PATCH", path, body, given, "application/apply-patch+yaml"))

    def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """`grace_s`: 0 removes a pod at once, None leaves it to the object."""
        query = {} if grace_s is None else {"gracePeriodSeconds": str(grace_s)}
        self.request("DELETE", path, query=query)

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return True

    def _connection(self, fresh: bool) -> http.client.HTTPSConnection:
        known: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if known is None or fresh:
            known = self._local.connection = http.client.HTTPSConnection(self._where, context=self._tls, timeout=20)
            self._open.append(known)
        return known


def _decoded(status: int, content: bytes) -> Any:
    try:
        answer = json.loads(content) if content else {}
    except ValueError:
        answer = {"message": content.decode(errors="replace")}
    if status >= 400:
        raise Refused(status, str(answer.get("reason", "")), str(answer.get("message", "")))
    return answer


def path_of(
    manifest: Object, namespace: str, plurals: Mapping[tuple[str, str], tuple[str, bool]], *, named: bool = True
) -> str:
    """Where an object lives. `plurals`: (apiVersion, kind) to the resource's name and whether it has a namespace."""
    version = str(manifest["apiVersion"])
    plural, namespaced = plurals[version, str(manifest["kind"])]
    parts = ["/apis" if "/" in version else "/api", version]
    if namespaced:
        parts += ["namespaces", str(manifest["metadata"].get("namespace", namespace))]
    return "/".join([*parts, plural, str(manifest["metadata"]["name"])])


def documents(text: str) -> list[Object]:
    """The objects of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def kubeconfig(url: str, ca_file: str, token: str, namespace: str = "default") -> str:
    """A kubeconfig file with one context, as JSON, which is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": ca_file}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        }
    )
