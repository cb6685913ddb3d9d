"""Tokens of requests that Kubernetes knows: its API server is asked, and what it said is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from extproc.api.auth import QUERY, QUERY_ALL
from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.errors import AccessNotChecked, AccessUnknown, ExtProcError, Unauthenticated
from extproc.kubernetes.reviews import DATA_PLANE, Refusal, Reviews, User
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.stages import Bearer

_log = logger(__name__)

_MOST: Final = 10_000
"""Tokens, and rights, that are remembered."""


class ReviewedTokens(Component):
    """Who has a token, by TokenReview, and whether they may query, by SubjectAccessReview. One event loop."""

    def __init__(self, cluster: Cluster, instruments: Instruments) -> None:
        super().__init__("tokens of requests")
        self._cluster = cluster
        self._reviews = Reviews(cluster.client, instruments, DATA_PLANE, most=_MOST)
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises SettingsError when there is no access to Kubernetes."""
        await self._cluster.connect("--api-auth=kubernetes")
        _log.info("requests for serving endpoints need a token", checked_by="TokenReview, SubjectAccessReview")

    async def close(self) -> None:
        """Nobody is asked any more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def known(self, token: str, name: str) -> Bearer | ExtProcError | None:
        """As the stage wants it: of what is remembered."""
        user = self._reviews.known(token)
        if user is None or isinstance(user, Refusal):
            return None if user is None else _as_error(user)
        right = self._reviews.known_right(user, *_question(name))
        return None if right is None else _bearer(user, right)

    def ask(self, token: str, name: str, resolve: Callable[[object], None]) -> Callable[[], None]:
        """As the stage wants it. A question that is under way for the token is waited for."""
        task = asyncio.ensure_future(self._ask(token, name, resolve))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

        def cancel() -> None:
            task.cancel()

        return cancel

    async def _ask(self, token: str, name: str, resolve: Callable[[object], None]) -> None:
        try:
            outcome = await self._outcome(token, name)
        except Exception as error:
            resolve(error)
        else:
            resolve(outcome)

    async def _outcome(self, token: str, name: str) -> Bearer | ExtProcError:
        user = await self._reviews.user(token)
        if isinstance(user, Refusal):
            return _as_error(user)
        refusal = await self._reviews.may(user, *_question(name))
        if refusal is None:
            self._reviews.counted_allowed()
        elif refusal.status != 403:
            return _as_error(refusal)
        return _bearer(user, refusal is None)


def _question(name: str) -> tuple[str, str]:
    """What has to be allowed: a verb on a nonResourceURL. A model's name stands there as one part of the path."""
    verb, path = QUERY
    return verb, path.format(quote(name, safe="")) if name else QUERY_ALL


def _bearer(user: User, may: bool) -> Bearer:
    return Bearer(user.name, user.groups, may)


def _as_error(refusal: Refusal) -> ExtProcError:
    if refusal.status == 401:
        return Unauthenticated("the token is not known to Kubernetes, or has expired")
    return AccessUnknown(refusal.text) if refusal.status == 503 else AccessNotChecked(refusal.text)
