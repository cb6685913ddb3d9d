"""Secrets of Kubernetes: a scope is a Secret's name, a key one of its data's.

Only Secrets that are referred to are read, each by its name: a Role with `resourceNames` is right enough, and `list`
and `watch` (which would show all secrets of the namespace) need not be granted.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from extproc.credentials import Reference
from extproc.kubernetes.api import Requests
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.secrets.source import MAX_SECRET_BYTES, Found, Unreadable, secret_of

_PATIENCE_S: Final = 5.0
_AT_ONCE: Final = 4
"""Requests under way at a time."""
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""RFC 1123 subdomains, as Kubernetes names objects."""


class ClusterSource:
    """Asks the API server, one request for each Secret, however many of its keys are wanted."""

    def __init__(self, api: Requests, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def __repr__(self) -> str:
        return f"<ClusterSource of {self._namespace}>"

    def place(self, reference: Reference) -> str:
        return f"the key {reference.key} of the Secret {self._namespace}/{reference.scope}"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        scopes = sorted({reference.scope for reference in references})
        data = dict(zip(scopes, await asyncio.gather(*[self._object(scope) for scope in scopes]), strict=True))
        return {reference: _value(data[reference.scope], reference.key) for reference in references}

    async def _object(self, name: str) -> Mapping[str, Any] | Unreadable | None:
        """The Secret's data."""
        if _OBJECT_NAME.fullmatch(name) is None:
            return None
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{name}"
        try:
            async with self._slots:
                answer = await self._api.request("GET", path, timeout_s=_PATIENCE_S)
        except ApiError as error:
            if error.status == 404:
                return None
            if error.status == 403:
                return Unreadable(f"no right to get the Secret {self._namespace}/{name}")
            return Unreadable(f"the API server answered {error.status} {error.reason}")
        except ApiUnreachable as error:
            return Unreadable(f"the API server can't be asked: {error}")
        data = answer.get("data") if isinstance(answer, dict) else None
        return data if isinstance(data, dict) else {}


def _value(data: Mapping[str, Any] | Unreadable | None, key: str) -> Found:
    if data is None or isinstance(data, Unreadable):
        return data
    encoded = data.get(key)
    if not isinstance(encoded, str):
        return None
    if len(encoded) > 2 * MAX_SECRET_BYTES:
        return Unreadable(f"larger than {MAX_SECRET_BYTES} bytes")
    try:
        return secret_of(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        return Unreadable("not base64")
