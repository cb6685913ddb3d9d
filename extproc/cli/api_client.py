"""Calls of the gateway's REST API from the command line."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

from extproc.settings.serving.fields import is_name

BASE: Final = "/api/2.0/serving-endpoints"
DEFAULT: Final = "http://127.0.0.1:9080"
_TIMEOUT_S: Final = 30.0
_MOST_BYTES: Final = 16 * 2**20
_EXPECTED: Final = "expected the gateway's API there, --api-port"

Function = TypeVar("Function", bound=Callable[..., Any])


class NotDone(click.ClickException):
    """The gateway refuses, or is not there: the exit code of what was asked wrongly. 1 is for what became of what was done."""

    exit_code = 2


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token is for this address alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_Stay)


class Api:
    """One gateway, as this user sees it."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raises click.UsageError for what is no address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise click.UsageError(f"--api: got {url[:100]!r}; expected an address such as {DEFAULT}")
        self._url = url.rstrip("/")
        self._token = token

    def call(self, method: str, name: str, below: str = "", body: Any = None, **query: object) -> Any:
        """The document that the API answers. Raises NotDone when it refuses, with its words, or is away; and
        click.UsageError for what can be no name.
        """
        if not is_name(name):
            raise click.UsageError(f"NAME: got {name[:100]!r}; expected the name of a serving endpoint")
        return self._asked(method, f"{BASE}/{quote(name, safe='')}{below}", body, query)

    def collection(self, method: str, action: str, body: Any = None, **query: object) -> Any:
        """The same of what is asked of all endpoints together, such as `:export`."""
        return self._asked(method, f"{BASE}{action}", body, query)

    def _asked(self, method: str, path: str, body: Any, query: Mapping[str, object]) -> Any:
        words = {key: str(value).lower() for key, value in query.items() if value not in (None, False)}
        request = urllib.request.Request(
            f"{self._url}{path}{'?' + urlencode(words) if words else ''}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", **({"Authorization": f"Bearer {self._token}"} if self._token else {})},
            method=method,
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            raise NotDone(_said(error) or f"{self._url}: answers {error.code}; {_EXPECTED}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise NotDone(f"{self._url}: {why}; {_EXPECTED}") from None


def _said(error: urllib.error.HTTPError) -> str:
    """Its words; '' when it is not the API that answers."""
    with error:
        try:
            said: Mapping[str, Any] = json.loads(error.read(_MOST_BYTES))
            return f"{said['error_code']}: {said['message']}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def api_options(function: Function) -> Function:
    """`--api` and `--token-file`."""
    function = click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the bearer token. [env: EXTPROC_API_TOKEN has the token itself]",
    )(function)
    return click.option("--api", envvar="EXTPROC_API", default=DEFAULT, show_default=True, help="The gateway's REST API.")(
        function
    )


def api_of(url: str, token_file: Path | None, environ: Mapping[str, str]) -> Api:
    """Raises click.UsageError."""
    try:
        token = environ.get("EXTPROC_API_TOKEN") if token_file is None else token_file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        raise click.UsageError(f"--token-file: {token_file} is no file with a token") from None
    return Api(url, token or None)
