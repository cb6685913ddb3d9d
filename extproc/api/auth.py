"""Who asks, and what they may: by a table of tokens, by the API server of Kubernetes, or everybody on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from extproc.api.errors import ApiError, denied, unavailable
from extproc.api.logins import Failures
from extproc.kubernetes.reviews import Refusal, Reviews, User
from extproc.live import Live
from extproc.settings.api import is_loopback
from extproc.settings.tokens import Grant, Role, TokenTable, digest_of

API: Final = "/api/2.0/serving-endpoints"
_ANY_NAME: Final = "a-name"
"""Of an endpoint that there need not be."""
LOCAL: Final = "local"
"""What everybody is called where nobody is asked for a token."""


class Caller(Protocol):
    """Somebody who is known."""

    @property
    def subject(self) -> str:
        """For histories: never a token."""
        ...

    async def may(self, role: Role, endpoint: str) -> bool:
        """Whether the caller may do that with the endpoint, be it there or not. Raises ApiError when nobody can tell."""
        ...

    async def sees(self, names: Sequence[str]) -> Sequence[str]:
        """Those of the endpoints that the caller is shown in a list. Raises ApiError, also when there may be no list."""
        ...


class Guard(Protocol):
    """Knows who asks."""

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        """Raises ApiError for somebody who is not known."""
        ...

    def granted(self, endpoint: str) -> Sequence[tuple[str, Role]]:
        """Who may what with the endpoint, as far as that is known here."""
        ...


async def require(caller: Caller, role: Role, endpoint: str) -> None:
    """Raises ApiError unless the caller may. Says nothing of whether the endpoint is there."""
    if not await caller.may(role, endpoint):
        raise denied(f"{caller.subject} has no right to {role.name.lower()} the serving endpoint {endpoint!r}")


async def sees_all(caller: Caller) -> bool:
    """Whether the caller may view any endpoint, be it there or not: and so what is of none. Raises ApiError."""
    return await caller.may(Role.VIEW, _ANY_NAME)


async def level_of(caller: Caller, endpoint: str) -> str:
    """The highest of Databricks' levels that the caller has, who may view it at least."""
    for role in (Role.MANAGE, Role.QUERY):
        if await caller.may(role, endpoint):
            return role.level
    return Role.VIEW.level


class Open:
    """Everybody may everything. Only for a server that this machine alone can reach.

    A page in a browser on this machine can reach it too: requests that a page of somebody else sends are refused.
    """

    subject = LOCAL

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        if (origin is not None and not _is_of_this_machine(origin)) or site not in ("none", "same-origin"):
            raise denied(
                "Without tokens the API takes no requests from pages of other sites; --api-tokens-file or "
                "--api-auth=kubernetes tells callers apart"
            )
        return self

    async def may(self, role: Role, endpoint: str) -> bool:
        return True

    async def sees(self, names: Sequence[str]) -> Sequence[str]:
        return names

    def granted(self, endpoint: str) -> Sequence[tuple[str, Role]]:
        return [(LOCAL, Role.MANAGE)]


def _is_of_this_machine(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


class Tokens:
    """A table of tokens, which may be another one at each call."""

    def __init__(self, table: Live[TokenTable], clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._failures = Failures(clock)

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        token = _bearer(headers)
        digest = digest_of(token)
        forwarded = headers.get("x-forwarded-for", "")
        _check_pace(self._failures, address, digest, forwarded)
        grant = self._table.value.grant(token)
        if grant is None:
            self._failures.failed(address, digest, forwarded)
            raise _unknown("The token is not known here, or is no longer good")
        self._failures.succeeded(digest)
        return _Bearer(grant)

    def granted(self, endpoint: str) -> Sequence[tuple[str, Role]]:
        best: dict[str, Role] = {}
        for grant in self._table.value:
            if grant.may(Role.VIEW, endpoint):
                best[grant.subject] = max(best.get(grant.subject, Role.VIEW), grant.role)
        return list(best.items())


class _Bearer:
    """Who has a token of the table."""

    def __init__(self, grant: Grant) -> None:
        self.subject = grant.subject
        self._grant = grant

    async def may(self, role: Role, endpoint: str) -> bool:
        return self._grant.may(role, endpoint)

    async def sees(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if self._grant.may(Role.VIEW, name)]


QUERY: Final = ("post", "/serving-endpoints/{}/invocations")
QUERY_ALL: Final = "/serving-endpoints"
"""Where a request names nothing that it is for."""
_VERBS: Final = {
    Role.VIEW: ("get", f"{API}/{{}}"),
    Role.QUERY: QUERY,
    Role.MANAGE: ("put", f"{API}/{{}}"),
}
"""What has to be allowed in Kubernetes: a verb on a nonResourceURL."""


class Reviewed:
    """Whom the API server knows: a TokenReview for the token, a SubjectAccessReview for each right."""

    def __init__(self, reviews: Reviews, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviews = reviews
        self._failures = Failures(clock)

    async def caller(self, headers: Mapping[str, str], address: str) -> Caller:
        token = _bearer(headers)
        digest = digest_of(token)
        forwarded = headers.get("x-forwarded-for", "")
        _check_pace(self._failures, address, digest, forwarded)
        user = await self._reviews.user(token)
        if isinstance(user, Refusal):
            if user.status == 401:
                self._failures.failed(address, digest, forwarded)
            raise _as_error(user)
        self._failures.succeeded(digest)
        return _Known(user, self._reviews)

    def granted(self, endpoint: str) -> Sequence[tuple[str, Role]]:
        return []


class _Known:
    """A user of Kubernetes."""

    def __init__(self, user: User, reviews: Reviews) -> None:
        self.subject = user.name
        self._user = user
        self._reviews = reviews

    async def may(self, role: Role, endpoint: str) -> bool:
        verb, path = _VERBS[role]
        return await self._allowed(verb, path.format(endpoint))

    async def sees(self, names: Sequence[str]) -> Sequence[str]:
        """All of them with the right to get the list, as Kubernetes has it."""
        if not await self._allowed("get", API):
            raise denied(f"{self.subject} has no right to get the nonResourceURL {API}")
        return names

    async def _allowed(self, verb: str, path: str) -> bool:
        refused = await self._reviews.may(self._user, verb, path)
        if refused is not None and refused.status != 403:
            raise _as_error(refused)
        return refused is None


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise _unknown("The API needs a bearer token: Authorization: Bearer ...")
    return token


def _unknown(message: str) -> ApiError:
    return ApiError(401, "UNAUTHENTICATED", message, {"WWW-Authenticate": 'Bearer realm="serving-endpoints"'})


def _check_pace(failures: Failures, address: str, digest: bytes, forwarded: str) -> None:
    wait_s = failures.wait_s(address, digest, forwarded)
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        words = f"Too many tokens from this address were not known here; the next one is looked at in {seconds} s"
        raise ApiError(429, "RESOURCE_EXHAUSTED", words, {"Retry-After": str(seconds)})


def _as_error(refusal: Refusal) -> ApiError:
    if refusal.status == 401:
        return _unknown(refusal.text)
    if refusal.status == 503:
        return unavailable(refusal.text)
    return ApiError(refusal.status, "INTERNAL_ERROR", refusal.text)
