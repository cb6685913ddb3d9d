"""May this bearer do this? Asked of the API server: TokenReview, then SubjectAccessReview on a path.

As controller-runtime's filter for metrics does it, with its times: who a token is holds for a minute, a yes for five, a no
for half of one. Tokens are kept as hashes only. When the API server does not answer, what it said lately still counts, and
nobody else is let in.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from extproc.kubernetes.api import Requests
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger

_log = logger(__name__)

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

KNOWN_S: Final = 60.0
"""How long it is known who a token is."""
UNKNOWN_S: Final = 10.0
"""How long a token stays refused: somebody may just be about to make it good."""
ALLOWED_S: Final = 300.0
DENIED_S: Final = 30.0
AWAY_S: Final = 600.0
"""How old a yes may be while the API server does not answer: metrics are never needed more than then."""

_MOST: Final = 1024
"""Answers kept of each kind; callers choose tokens."""
_AT_ONCE: Final = 8
_PATIENCE_S: Final = 5.0
_LONGEST_TOKEN: Final = 16 * 1024

Value = TypeVar("Value")
Answer = TypeVar("Answer")


class User(NamedTuple):
    """Who a token is, as the API server says."""

    name: str
    uid: str
    groups: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...]


class Refusal(NamedTuple):
    """No, and why: an HTTP status and a line for people."""

    status: int
    text: str


class Purpose(NamedTuple):
    """What tokens are for here, in words."""

    flag: str
    who: str
    counter: str
    """Name of the metric of answers."""
    doc: str
    advice: str
    """Who lets us ask, when we may not."""


METRICS: Final = Purpose(
    flag="--metrics-endpoint-auth",
    who="scrapers",
    counter="extproc_metrics_auth_total",
    doc="Requests for pages that need a token, by what became of them.",
    advice="(the charts grant it with rbac.create=true and monitoring.prometheus.auth.enabled=true; the ClusterRole "
    "system:auth-delegator has it); --metrics-endpoint-auth=false turns the check off",
)
API: Final = Purpose(
    flag="--api-auth",
    who="callers of the API",
    counter="extproc_api_auth_total",
    doc="Tokens and rights of callers of the API that were asked for, by what became of them.",
    advice="(the ClusterRole system:auth-delegator has it); --api-tokens-file needs nobody's leave",
)


class _Kept(Generic[Value]):
    """Answers with their time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[object, tuple[float, Value]] = {}

    def get(self, key: object, holds_s: Callable[[Value], float]) -> Value | None:
        answer = self._answers.get(key)
        if answer is None or self._clock() - answer[0] >= holds_s(answer[1]):
            return None
        return answer[1]

    def put(self, key: object, value: Value) -> None:
        self._answers.pop(key, None)
        while len(self._answers) >= _MOST:
            del self._answers[next(iter(self._answers))]  # the oldest
        self._answers[key] = (self._clock(), value)


class Reviews:
    """Asks, and remembers. One event loop."""

    def __init__(
        self,
        requests: Requests,
        instruments: Instruments,
        purpose: Purpose = METRICS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._purpose = purpose
        self._users: _Kept[User | None] = _Kept(clock)
        self._rights: _Kept[bool] = _Kept(clock)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._told = ""
        self._results = instruments.counter(purpose.counter, purpose.doc, ["result"])

    async def refusal(self, authorization: str, method: str, path: str) -> Refusal | None:
        """None when whoever sent this Authorization header may do this. Raises nothing."""
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            return self._counted("unauthenticated", Refusal(401, f"a bearer token is required ({self._purpose.flag})"))
        user = await self.user(token)
        if isinstance(user, Refusal):
            return user
        refusal = await self.may(user, method.lower(), path)
        return refusal or self._counted("allowed", None)

    async def user(self, token: str) -> User | Refusal:
        """Who has the token. Raises nothing."""
        if len(token) > _LONGEST_TOKEN:
            return self._counted("unauthenticated", _UNKNOWN)
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        try:
            user = await self._user(key, token)
        except (ApiError, ApiUnreachable) as error:
            return self._cannot(error)
        return self._counted("unauthenticated", _UNKNOWN) if user is None else user

    async def may(self, user: User, verb: str, path: str) -> Refusal | None:
        """None when the user may do that; a Refusal with 403 when not. Raises nothing."""
        try:
            allowed = await self._may(user, verb, path)
        except (ApiError, ApiUnreachable) as error:
            return self._cannot(error)
        if not allowed:
            return self._counted("denied", Refusal(403, f"{user.name} has no right to {verb} the nonResourceURL {path}"))
        self._well()
        return None

    def _counted(self, result: str, refusal: Answer) -> Answer:
        self._results.child(result).value += 1
        return refusal

    def _cannot(self, error: ApiError | ApiUnreachable) -> Refusal:
        if isinstance(error, ApiError):
            # What the server said names our account, and whoever reads this has not shown who they are.
            why = self._advice(error)
            self._failed(f"{why}: {error.message or error.reason}")
            return self._counted("error", Refusal(500, why))
        why = "the API server can't be asked about this token"
        self._failed(f"{why}: {error}")
        return self._counted("error", Refusal(503, why))

    async def _user(self, key: bytes, token: str) -> User | None:
        user_known = self._users.get((key,), lambda user: KNOWN_S if user else UNKNOWN_S)
        if user_known is not None:
            return user_known
        refused = self._users.get((key, "refused"), lambda _: UNKNOWN_S)
        if refused is not None:
            return None
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            status = await self._ask(TOKEN_REVIEWS, body)
        except ApiUnreachable:
            if (stale := self._users.get((key,), lambda _: AWAY_S)) is not None:
                return stale
            raise
        if status.get("authenticated") is not True:
            self._users.put((key, "refused"), _NOBODY)
            return None
        user = _user_of(status.get("user") or {})
        self._users.put((key,), user)
        return user

    async def _may(self, user: User, verb: str, path: str) -> bool:
        key = (user, verb, path)
        right = self._rights.get(key, lambda allowed: ALLOWED_S if allowed else DENIED_S)
        if right is not None:
            return right
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra},
            "nonResourceAttributes": {"path": path, "verb": verb},
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            status = await self._ask(ACCESS_REVIEWS, body)
        except ApiUnreachable:
            if self._rights.get(key, lambda allowed: AWAY_S if allowed else 0.0):
                return True
            raise
        allowed = status.get("allowed") is True
        self._rights.put(key, allowed)
        return allowed

    async def _ask(self, path: str, body: object) -> dict[str, Any]:
        async with self._slots:
            answer = await self._requests.request("POST", path, body=body, timeout_s=_PATIENCE_S)
        status = answer.get("status") if isinstance(answer, dict) else None
        return status if isinstance(status, dict) else {}

    def _failed(self, why: str) -> None:
        """Said once until it changes, for who asks does so every few seconds."""
        if why != self._told:
            self._told = why
            _log.warning(f"tokens of {self._purpose.who} can't be checked", error=why)

    def _well(self) -> None:
        if self._told:
            self._told = ""
            _log.info(f"tokens of {self._purpose.who} can be checked again")

    def _advice(self, error: ApiError) -> str:
        if error.status != 403:
            return f"the API server refuses to check tokens ({error.status} {error.reason})"
        return (
            "no right to create tokenreviews.authentication.k8s.io and subjectaccessreviews.authorization.k8s.io in the "
            f"cluster {self._purpose.advice}"
        )


_UNKNOWN: Final = Refusal(401, "the API server does not know this token, or it has expired")
_NOBODY: Final = User("", "", (), ())


def _user_of(user: dict[str, Any]) -> User:
    extra = user.get("extra") or {}
    return User(
        str(user.get("username") or ""),
        str(user.get("uid") or ""),
        tuple(map(str, user.get("groups") or ())),
        tuple((str(name), tuple(map(str, values or ()))) for name, values in sorted(extra.items())),
    )
