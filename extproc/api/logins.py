"""How often somebody may be wrong about a token.

Each address has a bucket of failures that fills again with time. When it is empty, tokens from there are not looked at, but for
those that have been good before: so nobody guesses faster than the bucket fills, and who is logged in does not notice.

Behind a proxy, an address is what stands last in X-Forwarded-For. Anybody can write such a header, so the address of the
connection has a larger bucket besides, for all that come from there: inventing addresses gains no more than that.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 20
PER_S: Final = 1.0
_PROXY: Final = 20
"""A proxy may be wrong so many times as often as an address."""
_MOST: Final = 4096
"""Addresses with failures, and tokens that were good: of each the last ones are remembered."""
_NETWORK_BITS: Final = 64
"""Of an IPv6 address: whoever has one has all with the same beginning."""


class Failures:
    """What is known of callers' luck. One event loop."""

    def __init__(self, clock: Callable[[], float], at_once: int = AT_ONCE, per_s: float = PER_S) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._at_once, self._per_s = at_once, per_s
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How many count at a time, by address."""
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def wait_s(self, address: str, digest: bytes, forwarded: str = "") -> float:
        """How long this token is not looked at; 0.0 when it may be. `forwarded` is X-Forwarded-For, '' when there is none."""
        if digest in self._good:
            return 0.0
        return max(self._wait_s(key, times) for key, times in _buckets(address, forwarded))

    def _wait_s(self, key: str, times: int) -> float:
        return max(0.0, (self._count(key, times) - self._at_once * times + 1) / (self._per_s * times))

    def failed(self, address: str, digest: bytes, forwarded: str = "") -> None:
        """The token is nobody's."""
        self._good.pop(digest, None)
        for key, times in _buckets(address, forwarded):
            count = self._count(key, times)
            self._failures[key] = (count + 1, self._clock())
            self._failures.move_to_end(key)
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def succeeded(self, digest: bytes) -> None:
        """The token is somebody's."""
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > _MOST:
            self._good.popitem(last=False)

    def _count(self, key: str, times: int) -> float:
        count, at_s = self._failures.get(key, (0.0, 0.0))
        return max(0.0, count - (self._clock() - at_s) * self._per_s * times) if count else 0.0


def _buckets(address: str, forwarded: str) -> list[tuple[str, int]]:
    """Keys, and how many times as much is in them."""
    if not forwarded:
        return [(_network(address), 1)]
    last = forwarded.rpartition(",")[2].strip()[:64]
    return [(f"{address} for {_network(last)}", 1), (f"{address} for all", _PROXY)]


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))
    return str(ip)
