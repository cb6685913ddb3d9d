"""Each source of secrets with a hand on what is in it: one behaviour suite runs over all."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Protocol

from extproc.credentials import Reference
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.secrets import ClusterSource, EnvironmentSource, FolderSource, Source


class Filled(Protocol):
    """A source, and who fills it."""

    source: Source

    def put(self, reference: Reference, data: bytes) -> None: ...

    def remove(self, reference: Reference) -> None: ...


class FilledEnvironment:
    def __init__(self) -> None:
        self._environ: dict[str, str] = {}
        self._source = EnvironmentSource(self._environ)
        self.source: Source = self._source

    def put(self, reference: Reference, data: bytes) -> None:
        self._environ[self._source.variable(reference)] = data.decode("utf-8", "surrogateescape")

    def remove(self, reference: Reference) -> None:
        del self._environ[self._source.variable(reference)]


class FilledFolder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.pauses: list[float] = []
        self.meanwhile: list[bytes] = []
        """What is written during the next pauses."""
        self.written: Path | None = None
        self.source: Source = FolderSource(root, sleep=self._sleep)

    async def _sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        if self.meanwhile and self.written is not None:
            self.written.write_bytes(self.meanwhile.pop(0))

    def put(self, reference: Reference, data: bytes) -> None:
        path = self.root / reference.scope / reference.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.written = path

    def remove(self, reference: Reference) -> None:
        (self.root / reference.scope / reference.key).unlink()


class FilledCluster:
    """An API server that knows Secrets by name only: nothing may be listed."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.failure: ApiError | ApiUnreachable | None = None
        self.source: Source = ClusterSource(self, "gateway")

    async def request(self, method: str, path: str, **_options: object) -> Any:
        self.asked.append(f"{method} {path}")
        if self.failure is not None:
            raise self.failure
        before, _, name = path.rpartition("/")
        assert (method, before) == ("GET", "/api/v1/namespaces/gateway/secrets")
        if name not in self.data:
            raise ApiError(404, "NotFound", f'secrets "{name}" not found')
        return {"kind": "Secret", "metadata": {"name": name}, "data": self.data[name]}

    def put(self, reference: Reference, data: bytes) -> None:
        self.data.setdefault(reference.scope, {})[reference.key] = base64.b64encode(data).decode()

    def remove(self, reference: Reference) -> None:
        del self.data[reference.scope][reference.key]
