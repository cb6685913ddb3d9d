"""Limits on calls and tokens a minute, as token buckets (`ai_gateway.rate_limits`).

A bucket holds a minute's worth and is filled evenly, so what was not used in the last minute may come at once. Buckets are in
memory and this process's own: with several replicas each allows the whole limit.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final, NamedTuple

from extproc.traffic.specs import RateLimit

MOST_USERS: Final = 100_000
"""Buckets that one limit keeps for its users; beyond it the fullest are forgotten, which are full again anyway."""
_LOOKED_AT: Final = 1000
"""Buckets of which some are forgotten when there are too many: 0.5 ms."""
_MINUTE_S: Final = 60.0
ENDPOINT: Final = "endpoint"
USER: Final = "user"
GROUP: Final = "user_group"
PRINCIPAL: Final = "service_principal"
CALLS: Final = "calls"
TOKENS: Final = "tokens"


class Bucket:
    """What is left of a limit, for one of those whom it is for."""

    __slots__ = ("at_s", "left")

    def __init__(self, left: float, at_s: float) -> None:
        self.left = left
        """Below 0 when an answer cost more than was known beforehand."""
        self.at_s = at_s


class Exceeded(NamedTuple):
    """A limit that has no room."""

    key: str
    what: str
    """`calls` or `tokens`."""
    amount: int
    """The limit, a minute."""
    wait_s: float
    """Until there is room again."""

    def __str__(self) -> str:
        whose = {ENDPOINT: "", USER: " for each user", GROUP: " for the group", PRINCIPAL: " for the principal"}
        return f"the limit of {self.amount} {self.what} per minute{whose.get(self.key, '')}"


class Limiter:
    """One amount a minute, for each of those whom it is for."""

    __slots__ = ("_amount", "_buckets", "_most", "key", "what")

    def __init__(self, key: str, what: str, amount: int, most_users: int = MOST_USERS) -> None:
        self.key = key
        self.what = what
        self._amount = amount
        self._most = most_users
        self._buckets: dict[bytes, Bucket] = {}

    def exceeded(self, who: bytes, now_s: float) -> Exceeded | None:
        """Why one more is too many, None when it is not. Changes nothing."""
        if not self._amount:
            return Exceeded(self.key, self.what, 0, _MINUTE_S)
        bucket = self._buckets.get(who)
        if bucket is None:
            return None
        left = self._left(bucket, now_s)
        needed = 1.0
        if left >= needed:
            return None
        return Exceeded(self.key, self.what, self._amount, (needed - left) * _MINUTE_S / self._amount)

    def take(self, who: bytes, amount: float, now_s: float) -> None:
        """It was used; a negative amount is given back."""
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._forget(now_s)
            bucket = self._buckets[who] = Bucket(float(self._amount), now_s)
        bucket.left = min(self._left(bucket, now_s) - amount, float(self._amount))
        bucket.at_s = now_s

    def _left(self, bucket: Bucket, now_s: float) -> float:
        filled = max(0.0, now_s - bucket.at_s) * self._amount / _MINUTE_S
        return min(float(self._amount), bucket.left + filled)

    def _forget(self, now_s: float) -> None:
        """Make room: of those who came first, who waits longest to be full stays. A few at a time: requests wait."""
        oldest = list(islice(self._buckets, _LOOKED_AT))
        oldest.sort(key=lambda who: -self._left(self._buckets[who], now_s))
        for who in oldest[: max(1, len(oldest) // 10)]:
            del self._buckets[who]

    def __len__(self) -> int:
        return len(self._buckets)


class Asker(NamedTuple):
    """Who makes a request, as far as limits are concerned."""

    user: bytes = b""
    """A checked token's subject, else the sticky key; b'' for all of whom nothing is known, together."""
    principal: str = ""
    """A checked token's subject, '' when none was checked."""
    groups: Collection[str] = ()


class EndpointLimits:
    """All limits of one endpoint. Of those for users the most specific counts: a principal's, a group's, every user's."""

    def __init__(self, limits: Collection[RateLimit], most_users: int = MOST_USERS) -> None:
        self._endpoint: list[Limiter] = []
        self._users: list[Limiter] = []
        self._groups: dict[str, list[Limiter]] = {}
        self._principals: dict[str, list[Limiter]] = {}
        for limit in limits:
            made = [
                Limiter(limit.key, what, amount, most_users)
                for what, amount in ((CALLS, limit.calls), (TOKENS, limit.tokens))
                if amount is not None
            ]
            if limit.key == ENDPOINT:
                self._endpoint += made
            elif limit.key == GROUP:
                self._groups.setdefault(limit.principal, []).extend(made)
            elif limit.principal:
                self._principals.setdefault(limit.principal, []).extend(made)
            else:
                self._users += made
        self.counts_tokens = any(limit.tokens is not None for limit in limits)

    def _of(self, asker: Asker) -> list[tuple[Limiter, bytes]]:
        """The limits that hold for somebody, each with whose bucket it is."""
        found = [(limiter, b"") for limiter in self._endpoint]
        own = self._principals.get(asker.principal) if asker.principal else None
        if own is not None:
            return found + [(limiter, asker.user) for limiter in own]
        shared = [limiter for group in asker.groups for limiter in self._groups.get(group, ())]
        if shared:
            return found + [(limiter, b"") for limiter in shared]
        return found + [(limiter, asker.user) for limiter in self._users]

    def exceeded(self, asker: Asker, now_s: float) -> Exceeded | None:
        """The limit that a request of theirs would exceed, the one with the longest wait; None when there is room."""
        worst: Exceeded | None = None
        for limiter, who in self._of(asker):
            exceeded = limiter.exceeded(who, now_s)
            if exceeded is not None and (worst is None or exceeded.wait_s > worst.wait_s):
                worst = exceeded
        return worst

    def take(self, asker: Asker, calls: int, tokens: float, now_s: float) -> None:
        """So many calls and tokens were used; negative tokens are given back."""
        for limiter, who in self._of(asker):
            amount = calls if limiter.what == CALLS else tokens
            if amount:
                limiter.take(who, amount, now_s)
