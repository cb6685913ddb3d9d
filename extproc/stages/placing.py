"""Where requests come from, where they may be served, and which pool is to serve them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from extproc import names
from extproc.domain import InferenceRequest
from extproc.live import Live
from extproc.request import KeyFinder
from extproc.stages.draft import Draft
from extproc.stages.pools import Pools
from extproc.traffic import MadeAt, ServedEntity
from extproc.traffic.conditions import Asking
from extproc.traffic.regions import ABSENT, FORBIDDEN, LOCAL, SPILL_EMPTY, SPILL_FAILED, STORED, Placed, Regions
from extproc.traffic.residency import ANYWHERE, Kept, Residency
from extproc.traffic.spill import EMPTY, OPEN, Spill


class RegionRules:
    """Where requests come from, where they may be served, and where they are. It changes nothing, so it also explains."""

    def __init__(
        self,
        regions: Live[Regions],
        residency: Live[Residency],
        spills: Mapping[str, Spill],
        pools: Pools,
        *,
        trusted: bool = False,
        keys: KeyFinder = KeyFinder(),
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`residency` holds the gateway's own rules; `spills` is of each pool that has a region. `trusted`: a request's region
        is what its header says. `clock` gives seconds since 1970, `draw` numbers in [0, 1).
        """
        self._regions = regions
        self._residency = residency
        self._spills = spills
        self._pools = pools
        self._keys = keys
        self._clock = clock
        self._draw = draw
        self._trusted = trusted
        self._home = regions.value.home
        self._known = {name.encode(): name for name in regions.value.names}

    @property
    def regions(self) -> Regions:
        """As they are now: what ways cost may change, not which regions there are."""
        return self._regions.value

    def origin(self, request: InferenceRequest) -> str:
        """The region that the request comes from; the gateway's own when nothing that is believed says another."""
        if not self._trusted:
            return self._home
        return self._known.get(request.head.headers.get(names.REGION_HEADER, b""), self._home)

    def origin_bytes(self, request: InferenceRequest) -> bytes:
        """The same as a header would have it."""
        return self.origin(request).encode()

    def is_unknown(self, request: InferenceRequest) -> bool:
        """Whether the request says that it comes from a region that there is not."""
        said = request.head.headers.get(names.REGION_HEADER) if self._trusted else None
        return bool(said) and said not in self._known

    def kept(self, request: InferenceRequest, draft: Draft, origin: str, entity: str) -> Kept:
        """Where the request may be served as that entity of its endpoint, '' without one."""
        of_gateway, endpoint = self._residency.value, draft.endpoint
        if not of_gateway and (endpoint is None or not endpoint.residency):
            return ANYWHERE
        wants_key = of_gateway.needs_key or (endpoint is not None and endpoint.residency.needs_key)
        key = self._keys.find(request) if wants_key else None
        asking = Asking(
            request,
            draft.model,
            self._clock,
            _never,
            None if key is None else key.value,
            draft.subject,
            draft.groups,
            origin.encode(),
        )
        kept = of_gateway.kept(asking, origin, "")
        return kept if endpoint is None else endpoint.residency.kept(asking, origin, entity, kept)

    def place(
        self,
        request: InferenceRequest,
        origin: str,
        kept: Kept,
        pools: tuple[str, ...],
        made_at: MadeAt | None = None,
        tried: tuple[str, ...] = (),
    ) -> Placed | None:
        """The pool that serves it. None: there is one alone of which nobody says where it is, and no rule asks. Those that were
        `tried` come last.
        """
        regions = self.regions
        if len(pools) == 1 and not regions.region_of(pools[0]):
            return None if kept.regions is None else Placed("", origin, "", FORBIDDEN)
        if made_at is not None and made_at.pool in pools and self.able(made_at.pool):
            region = regions.region_of(made_at.pool)
            if kept.regions is None or region in kept.regions:
                reason = LOCAL if region == origin else STORED
                return Placed(made_at.pool, origin, region, reason, regions.cost(origin, region) or 0.0)
        left = self._left_by(request, pools)
        if tried:
            placed = regions.choose(origin, pools, kept.regions, _Untried(self.able, tried).able, left)
            if placed.pool and placed.pool not in tried and self.able(placed.pool):
                at_home = [pool for pool in pools if pool in tried and regions.region_of(pool) == origin and self.able(pool)]
                return placed._replace(reason=SPILL_FAILED) if at_home and placed.reason == SPILL_EMPTY else placed
        return regions.choose(origin, pools, kept.regions, self.able, left)

    def provider(self, origin: str, kept: Kept, region: str) -> Placed | None:
        """The same where a provider serves it, in that region; '' when nobody said where that is."""
        if kept.regions is not None and region not in kept.regions:
            return Placed("", origin, region, FORBIDDEN)
        if not region:
            return None
        return Placed("", origin, region, LOCAL if region == origin else ABSENT, self.regions.cost(origin, region) or 0.0)

    def copied_to(self, request: InferenceRequest, draft: Draft, entity: ServedEntity) -> str:
        """The pool that serves a copy of the request as that entity of its endpoint; '' when none of them may."""
        origin = self.origin(request)
        placed = self.place(request, origin, self.kept(request, draft, origin, entity.name), entity.pools)
        return entity.pool if placed is None else placed.pool

    def able(self, pool: str) -> bool:
        """Whether the pool has an endpoint that can be connected to."""
        return self._pools[pool].store.able

    def left(self, pool: str) -> str:
        """Why the pool is left for others, be it by a share of its requests."""
        spill = self._spills.get(pool)
        return OPEN if spill is None else spill.left

    def share(self, pool: str) -> float:
        """Of the pool's requests that go elsewhere if they can, 0 to 1."""
        spill = self._spills.get(pool)
        return 0.0 if spill is None else spill.share

    def _left_by(self, request: InferenceRequest, pools: tuple[str, ...]) -> Callable[[str], str]:
        """Why the request is to leave a pool."""
        for pool in pools:
            spill = self._spills.get(pool)
            if spill is not None and spill.is_partial:
                return _Sharing(self._spills, self._key(request), self._draw).left
        return self.left

    def _key(self, request: InferenceRequest) -> bytes | None:
        """By which the request is one of a share: who asks; else its id, so that its attempts go the same way."""
        key = self._keys.find(request)
        return (request.head.headers.get(names.REQUEST_ID_HEADER) or None) if key is None else key.value

    def state(self, pool: str) -> str:
        """For people."""
        return (self.left(pool) or "open") if self.able(pool) else EMPTY


class _Sharing:
    """A request where a share of a pool's requests goes elsewhere."""

    __slots__ = ("_draw", "_key", "_spills")

    def __init__(self, spills: Mapping[str, Spill], key: bytes | None, draw: Callable[[], float]) -> None:
        self._spills = spills
        self._key = key
        self._draw = draw

    def left(self, pool: str) -> str:
        spill = self._spills.get(pool)
        return OPEN if spill is None else spill.left_by(self._key, self._draw)


class _Untried:
    """Pools at which no attempt at the request has failed."""

    __slots__ = ("_able", "_tried")

    def __init__(self, able: Callable[[str], bool], tried: tuple[str, ...]) -> None:
        self._able = able
        self._tried = tried

    def able(self, pool: str) -> bool:
        return pool not in self._tried and self._able(pool)


def _never() -> float:
    """No rule of residency goes by chance."""
    return 0.0
