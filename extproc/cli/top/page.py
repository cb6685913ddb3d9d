"""The metrics page of a process, read over HTTP; and again and again, beside whoever shows it."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from extproc.cli.top.readings import NAMES, Reading

DEFAULT: Final = "http://127.0.0.1:9090"
_SOON_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 128 * 2**20


class Away(Exception):
    """There is no page to be had; its text says why."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token is for this address alone."""

    def redirect_request(self, *_: object) -> None:
        return None


class MetricsPage:
    """One process, as who holds this token sees it."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises ValueError for what is no address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise ValueError(f"got {url[:100]!r}; expected an address such as {DEFAULT}")
        self.url = url.rstrip("/").removesuffix("/metrics")
        query = urlencode([("name[]", name) for name in NAMES])
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._request = urllib.request.Request(f"{self.url}/metrics?{query}", headers=headers)
        self._last: Reading | None = None
        self._opener = urllib.request.build_opener(_Stay)

    def read(self) -> Reading:
        """What it says now. Raises Away."""
        try:
            with self._opener.open(self._request, timeout=_TIMEOUT_S) as answer:
                text = answer.read(_MOST_BYTES).decode("utf-8", "replace")
                if answer.length:  # bytes that are still to come, of an answer that said how many there would be
                    raise Away(f"{self.url}: its answer was not whole, or too large")
            self._last = Reading(text, time.monotonic(), self._last)
            return self._last
        except urllib.error.HTTPError as error:
            with error:
                wants = "; it wants a token that may read /metrics: --token-file" if error.code in (401, 403) else ""
                raise Away(f"{self.url} answers {error.code}{wants}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # the last: it went in the middle of an answer
            raise Away(f"{self.url}: {getattr(error, 'reason', error) or type(error).__name__}") from None


class Seen(NamedTuple):
    """What is known at a moment."""

    latest: Reading | None = None
    before: Reading | None = None
    problem: str = ""
    """Why there is nothing newer; '' while there is."""
    number: int = 0
    """How often it was asked."""


class Watcher:
    """Reads the page every `interval_s`, in a thread of its own: keys are answered meanwhile."""

    def __init__(self, page: MetricsPage, interval_s: float) -> None:
        self._page = page
        self._interval_s = interval_s
        self._over = threading.Event()
        self.seen = Seen()
        """Replaced whole."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Meanwhile it reads."""
        thread = threading.Thread(target=self._run, name="top", daemon=True)  # an answer may take its time to the end
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self.look()
            first = self.seen.before is None  # rates take two
            self._over.wait(min(self._interval_s, _SOON_S) if first else self._interval_s)

    def look(self) -> None:
        """Once."""
        latest, before, _, number = self.seen
        try:
            self.seen = Seen(self._page.read(), latest, "", number + 1)
        except Away as error:
            self.seen = Seen(latest, before, str(error), number + 1)
