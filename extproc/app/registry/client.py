"""Questions to MLflow's REST API (mlflow 3.17, `/api/2.0/mlflow`; Databricks' Unity Catalog has its own below that).

Nothing that it answers can hurt: an answer has a bound in bytes and in time, is not unpacked, leads nowhere else, and is JSON
or a failure. A failure says what came and what was expected, never what was in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import orjson

from extproc.registry.answers import BadAnswer, ModelVersion, aliases_of, code_of, version_of

API: Final = "/api/2.0/mlflow"
UNITY_CATALOG: Final = "/api/2.0/mlflow/unity-catalog"
MAX_ANSWER_BYTES: Final = 4 * 2**20
"""A model with 10,000 aliases has 600 KB."""
Answer = TypeVar("Answer")
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"

UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
REFUSED: Final = "refused"
STATUS: Final = "status"
UNREADABLE: Final = "unreadable"
CREDENTIALS: Final = "credentials"


class AskFailed(Exception):
    """No answer that could be used. `kind` is a word for a metric; the text is for people."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


class NotThere(Exception):
    """The registry has no such thing."""


class RegistryClient:
    """One for a service; usable until `close`."""

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float,
        unity_catalog: bool = False,
        authorization: Callable[[], str | None] = lambda: None,
        tls: Callable[[], ssl.SSLContext | bool] = lambda: True,
    ) -> None:
        """`authorization` gives the header's value, and raises AskFailed when it can't be had; `tls` is asked for each new
        session, and raises OSError, ssl.SSLError."""
        self._base = uri.rstrip("/") + (UNITY_CATALOG if unity_catalog else API)
        self._timeout_s = timeout_s
        self._authorization = authorization
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<RegistryClient {self._base}>"

    async def aliases(self, name: str) -> dict[str, str]:
        """Of a registered model. Raises NotThere, AskFailed."""
        document = await self._get("registered-models/get", {"name": name})
        return _read(lambda: aliases_of(document, name))

    async def version(self, name: str, version: str) -> ModelVersion:
        """Raises NotThere, AskFailed."""
        document = await self._get("model-versions/get", {"name": name, "version": version})
        return _read(lambda: version_of(document, version))

    async def close(self) -> None:
        """Let go of connections; who asks then gets new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, path: str, query: Mapping[str, str]) -> Any:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if authorization := self._authorization():
            headers["authorization"] = authorization
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = self._opened().get(f"{self._base}/{path}", params=query, headers=headers, allow_redirects=False)
                async with answer as response:
                    data = await _bounded(response)
                    return _document(response, data)
        except TimeoutError:
            raise AskFailed(TIMEOUT, f"no whole answer in {self._timeout_s:g} s") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
            await self.close()  # its authorities may have changed on disk
            why = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
            raise AskFailed(UNREACHABLE, f"TLS: {_line(why)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AskFailed(UNREACHABLE, _why(error)) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=8, ssl=self._tls())
            # No proxies and no .netrc of whoever started us; nothing is unpacked; cookies are of no use here.
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), max_field_size=32 * 2**10
            )
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise AskFailed(UNREADABLE, "a packed answer; expected it as it is")
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise AskFailed(UNREADABLE, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)


def _document(response: aiohttp.ClientResponse, data: bytes) -> Any:
    """Raises NotThere, AskFailed."""
    status = response.status
    document: object = None
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(data)
    if status == 200:
        if document is None:
            kind = response.content_type[:60]
            raise AskFailed(
                UNREADABLE, f"an answer of {len(data)} bytes of {kind} that is not JSON; expected MLflow's REST API"
            )
        return document
    if status in (401, 403):
        raise AskFailed(REFUSED, f"status {status}; expected credentials that may read registered models")
    code = code_of(document)
    if status == 404 and code == _ABSENT:
        raise NotThere
    if status == 404:
        raise AskFailed(STATUS, "status 404 without MLflow's error; expected the address of an MLflow server")
    named = f" {code[:60]}" if code and code.isascii() else ""
    raise AskFailed(STATUS, f"status {status}{named}; expected 200")


def _read(read: Callable[[], Answer]) -> Answer:
    try:
        return read()
    except BadAnswer as error:
        raise AskFailed(UNREADABLE, f"another answer than MLflow's: {error}") from None


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno  # the loops word it differently
        return os.strerror(number).lower() if number and number > 0 else _line(error.os_error)
    return _line(error)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
