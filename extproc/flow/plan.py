"""A checked configuration of flow control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from extproc.flow.fairness import GlobalStrict
from extproc.flow.limits import StaticLimit
from extproc.flow.ordering import FirstCome
from extproc.flow.roles import EvictionFilter, EvictionOrder, MakeFairness, Ordering, UsageLimit
from extproc.flow.victims import PriorityThenTime, Sheddable

UNLIMITED: Final = 2**62
MAX_REQUESTS: Final = 5000
MAX_BYTES: Final = 10**9
TTL_S: Final = 60.0
HYSTERESIS: Final = 0.05
"""Share of a ceiling by which the saturation has to fall below it before a band that was held goes on. For detectors that read
pages, whose numbers swing with each one; what is counted here needs none."""


class BandPlan(NamedTuple):
    """What a band may hold, and who is next in it."""

    max_requests: int = MAX_REQUESTS
    max_bytes: int = MAX_BYTES
    ordering: Ordering = FirstCome()
    make_fairness: MakeFairness = GlobalStrict


GRACE_S: Final = 0.01
"""After the end of a request that was taken back, until its place shows in what is counted here."""
ABORT_S: Final = 0.25
"""How long an engine may take to let go of a request whose client is gone (upstream's budget)."""


class EvictionPlan(NamedTuple):
    """How requests in flight are taken back."""

    filter: EvictionFilter = Sheddable()
    order: EvictionOrder = PriorityThenTime()
    grace_s: float = GRACE_S
    """How long it takes until the end of one shows in the saturation."""


class FlowPlan(NamedTuple):
    """All of flow control for one pool."""

    bands: Mapping[int, BandPlan] = {}
    """Those that are there from the beginning; the band of priority 0 always is."""
    default: BandPlan = BandPlan()
    """Of bands that come with an objective."""
    default_negative: BandPlan = BandPlan()
    """Of those below 0."""
    limit: Callable[[], UsageLimit] = StaticLimit
    max_requests: int = UNLIMITED
    max_bytes: int = UNLIMITED
    """Of all bands together."""
    ttl_s: float = TTL_S
    """How long a request may wait; infinite for no end."""
    no_endpoint_ttl_s: float = TTL_S
    """How long it may while the pool has no endpoints."""
    hysteresis: float = HYSTERESIS
    """As HYSTERESIS."""
    eviction: EvictionPlan | None = None
    """None: what was let on is not taken back."""

    def band(self, priority: int) -> BandPlan:
        """The plan of the band of this priority."""
        plan = self.bands.get(priority)
        if plan is not None:
            return plan
        return self.default if priority >= 0 else self.default_negative
