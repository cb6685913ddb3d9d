"""How often somebody may be wrong about a token.

Each address has a bucket of failures that fills again with time. When it is empty, tokens from there are not looked at, but for
those that have been good before: so nobody guesses faster than the bucket fills, and who is logged in does not notice.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 20
PER_S: Final = 1.0
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

    def wait_s(self, address: str, digest: bytes) -> float:
        """How long this token is not looked at; 0.0 when it may be."""
        if digest in self._good:
            return 0.0
        return max(0.0, (self._count(_network(address)) - self._at_once + 1) / self._per_s)

    def failed(self, address: str, digest: bytes) -> None:
        """The token is nobody's."""
        self._good.pop(digest, None)
        network = _network(address)
        count = self._count(network)
        self._failures[network] = (count + 1, self._clock())
        self._failures.move_to_end(network)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)

    def succeeded(self, digest: bytes) -> None:
        """The token is somebody's."""
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > _MOST:
            self._good.popitem(last=False)

    def _count(self, network: str) -> float:
        count, at_s = self._failures.get(network, (0.0, 0.0))
        return max(0.0, count - (self._clock() - at_s) * self._per_s) if count else 0.0


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))
    return str(ip)
