"""May this bearer do this? Asked of the API server: TokenReview, then SubjectAccessReview on a path.

As controller-runtime's filter for metrics does it, with its times: who a token is holds for a minute, a yes for five, a no
for half of one. Tokens are kept as hashes only. When the API server does not answer, what it said lately still counts, and
nobody else is let in; then it is asked again after a pause, and who was let in lately does not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from extproc.kubernetes.api import Requests
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.kubernetes.kept import MOST, Kept
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
PAUSE_S: Final = 2.0
"""For how long a server is not asked that did not answer, or may not be asked by us."""
PATIENCE_S: Final = 5.0
"""How long one answer may take."""

_AT_ONCE: Final = 8
_MOST_UNDER_WAY: Final = 2048
"""Questions that wait for their turn; callers choose tokens."""
_LONGEST_TOKEN: Final = 16 * 1024

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
DATA_PLANE: Final = Purpose(
    flag="--data-plane-auth",
    who="requests",
    counter="extproc_data_plane_auth_total",
    doc="Tokens of requests about which the API server of Kubernetes was asked, by what became of them.",
    advice="(the ClusterRole system:auth-delegator has it); --data-plane-auth=off turns the check off",
)


class Reviews:
    """Asks, and remembers. One event loop."""

    def __init__(
        self,
        requests: Requests,
        instruments: Instruments,
        purpose: Purpose = METRICS,
        *,
        most: int = MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: answers that are kept of each kind."""
        self._requests = requests
        self._purpose = purpose
        self._clock = clock
        self._users: Kept[User] = Kept(clock, most)
        self._strangers: Kept[bool] = Kept(clock, most)
        """Apart from the users, so that any number of unknown tokens forgets none of those."""
        self._rights: Kept[bool] = Kept(clock, most)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[object, asyncio.Task[Any]] = {}
        self._fault: ApiError | ApiUnreachable | None = None
        """Why the last question had no answer."""
        self._again_s = 0.0
        """When the next may be asked after that."""
        self._told = ""
        self._results = instruments.counter(purpose.counter, purpose.doc, ["result"])

    # -- what is known already ------------------------------------------------------------------------------------

    def known(self, token: str) -> User | Refusal | None:
        """As `user`, of what is remembered; None when the server has to be asked. Nothing is counted.

        While the server does not answer that is also a user who was known lately; it is asked again meanwhile.
        """
        if len(token) > _LONGEST_TOKEN:
            return _UNKNOWN
        key = _key(token)
        user = self._users.get(key, _known_s)
        if user is not None:
            return user
        if self._strangers.get(key, _unknown_s):
            return _UNKNOWN
        if not isinstance(self._fault, ApiUnreachable):
            return None
        stale = self._users.get(key, _away_s)
        if stale is not None:
            self._meanwhile(key, lambda: self._review(key, token))
        return stale

    def known_right(self, user: User, verb: str, path: str) -> bool | None:
        """Whether the user may do that, as far as it is remembered; as `known`."""
        key = (user, verb, path)
        right = self._rights.get(key, _right_s)
        if right is not None or not isinstance(self._fault, ApiUnreachable):
            return right
        stale = self._rights.get(key, _away_if_allowed_s)
        if stale is not None:
            self._meanwhile(key, lambda: self._review_right(user, verb, path))
        return stale

    # -- asking ---------------------------------------------------------------------------------------------------

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
        """Who has the token. Raises nothing. However many ask at once, the server is asked once."""
        user = self.known(token)
        if user is None:
            key = _key(token)
            try:
                user = await asyncio.shield(self._once(key, lambda: self._review(key, token)))
            except (ApiError, ApiUnreachable) as error:
                stale = self._users.get(key, _away_s) if isinstance(error, ApiUnreachable) else None
                return stale or self._cannot(error)
        return self._counted("unauthenticated", user) if isinstance(user, Refusal) else user

    async def may(self, user: User, verb: str, path: str) -> Refusal | None:
        """None when the user may do that; a Refusal with 403 when not. Raises nothing. As `user`, once."""
        allowed = self.known_right(user, verb, path)
        if allowed is None:
            key = (user, verb, path)
            try:
                allowed = await asyncio.shield(self._once(key, lambda: self._review_right(user, verb, path)))
            except (ApiError, ApiUnreachable) as error:
                if isinstance(error, ApiError) or not self._rights.get(key, _away_if_allowed_s):
                    return self._cannot(error)
                return None
        if not allowed:
            return self._counted("denied", Refusal(403, f"{user.name} has no right to {verb} the nonResourceURL {path}"))
        if self._fault is None:
            self._well()
        return None

    def counted_allowed(self) -> None:
        """Somebody may what was asked for."""
        self._counted("allowed", None)

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

    def _once(self, key: object, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> asyncio.Task[Answer]:
        """The question that is under way, else a new one. It ends when nobody waits for it any more, too, and is remembered."""
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= _MOST_UNDER_WAY:
                raise ApiUnreachable(f"{_MOST_UNDER_WAY} questions wait for their turn")
            task = self._under_way[key] = asyncio.ensure_future(ask())
            task.add_done_callback(functools.partial(self._over, key))
        return task

    def _meanwhile(self, key: object, ask: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Ask, if it is time to, and let nobody wait."""
        if self._may_ask:
            with contextlib.suppress(ApiUnreachable):
                self._once(key, ask)

    def _over(self, key: object, task: asyncio.Task[Any]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # who waited has it; nobody need have

    async def _review(self, key: bytes, token: str) -> User | Refusal:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = await self._ask(TOKEN_REVIEWS, body)
        if status.get("authenticated") is not True:
            self._strangers.put(key, True)
            self._users.forget(key)  # or it would be let in when the server is away
            return _UNKNOWN
        user = _user_of(status.get("user") or {})
        self._users.put(key, user)
        return user

    async def _review_right(self, user: User, verb: str, path: str) -> bool:
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra},
            "nonResourceAttributes": {"path": path, "verb": verb},
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = await self._ask(ACCESS_REVIEWS, body)
        allowed = status.get("allowed") is True
        self._rights.put((user, verb, path), allowed)
        return allowed

    @property
    def _may_ask(self) -> bool:
        return self._fault is None or self._clock() >= self._again_s

    async def _ask(self, path: str, body: object) -> dict[str, Any]:
        async with self._slots:
            if not self._may_ask and self._fault is not None:
                raise _anew(self._fault)
            try:
                answer = await self._requests.request("POST", path, body=body, timeout_s=PATIENCE_S)
            except (ApiError, ApiUnreachable) as error:
                self._fault = _anew(error)
                self._again_s = self._clock() + PAUSE_S
                raise _anew(error) from None
            self._fault = None
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


def _key(token: str) -> bytes:
    """What a token is known by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _known_s(_: User) -> float:
    return KNOWN_S


def _unknown_s(_: bool) -> float:
    return UNKNOWN_S


def _away_s(_: User) -> float:
    return AWAY_S


def _right_s(allowed: bool) -> float:
    return ALLOWED_S if allowed else DENIED_S


def _away_if_allowed_s(allowed: bool) -> float:
    return AWAY_S if allowed else 0.0


def _anew(error: ApiError | ApiUnreachable) -> ApiError | ApiUnreachable:
    """The same without its traceback, whose frames have the token. A server that has too much to do is away."""
    if isinstance(error, ApiUnreachable):
        return ApiUnreachable(str(error))
    if error.status >= 500 or error.status == 429:
        return ApiUnreachable(f"it answers {error.status} {error.reason}")
    return ApiError(error.status, error.reason, error.message)


def _user_of(user: dict[str, Any]) -> User:
    extra = user.get("extra") or {}
    return User(
        str(user.get("username") or ""),
        str(user.get("uid") or ""),
        tuple(map(str, user.get("groups") or ())),
        tuple((str(name), tuple(map(str, values or ()))) for name, values in sorted(extra.items())),
    )
