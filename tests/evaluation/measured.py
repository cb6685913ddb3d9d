"""What came of a load."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """Of one policy in one scenario. Times are seconds from when a request was sent."""

    ttft_s: Sequence[float]
    """To the first token, of every request that got one."""
    hits: float
    """Prompt tokens that were found in caches, by the servers' own count."""
    queries: float
    """Prompt tokens that were looked for."""
    failed: int = 0
    """Requests without a whole answer."""
    by_server: Sequence[int] = ()
    """Requests that each got."""

    @property
    def hit_fraction(self) -> float:
        return self.hits / self.queries if self.queries else 0.0

    @property
    def mean_s(self) -> float:
        return statistics.fmean(self.ttft_s)

    @property
    def p95_s(self) -> float:
        """The smallest that 95 % do not exceed."""
        return sorted(self.ttft_s)[math.ceil(0.95 * len(self.ttft_s)) - 1]
