"""Requests in flight that were taken back for more important ones: how many, and how long their ends took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.flow import Evictor
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger, peer_logger

CONFIRMATION_SECONDS: Final[tuple[float, ...]] = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_log = logger(__name__)
_peers_log = peer_logger(__name__)


class EvictionMetrics:
    """`flow_control_revocations_*`, by upstream's names."""

    def __init__(self, instruments: Instruments) -> None:
        prefix = "llm_d_epp_flow_control_"
        self._instruments = instruments
        self._issued = instruments.counter(
            f"{prefix}revocations_issued_total",
            "Requests in flight that were taken back, by the priority of those that waited.",
            ["priority", "inference_pool"],
        )
        self._ended = instruments.counter(
            f"{prefix}revocations_total",
            "The same by what came of it: confirmed, the stream ended; timed_out, it did not within 10 s.",
            ["outcome", "inference_pool"],
        )
        self._target = instruments.gauge(
            f"{prefix}reclaim_target",
            "By how much the saturation was above the ceiling of those who waited, when requests were taken back last.",
            ["inference_pool"],
        )
        self._pending = instruments.gauge(
            f"{prefix}pending_reclaim",
            "Saturation of requests that were taken back, and whose end does not show in it yet.",
            ["inference_pool"],
        )
        self._seconds = instruments.histogram(
            f"{prefix}revocation_confirmation_seconds",
            "From the answer to a request that was taken back until its stream ended.",
            CONFIRMATION_SECONDS,
            ["inference_pool"],
        )
        self._evictable = instruments.gauge(
            "extproc_flow_control_evictable_requests",
            "Requests in flight that may be taken back. Of those, some may have begun to be answered, and are not.",
            ["inference_pool"],
        )

    def watch(self, pool: str, evictor: Evictor, clock: Callable[[], float]) -> None:
        """Show this pool; `clock` is its gate's."""
        confirmed, timed_out = self._ended.child("confirmed", pool), self._ended.child("timed_out", pool)
        seconds = self._seconds.child(pool)

        def revoked(priority: int, victim: int) -> None:
            self._issued.child(str(priority), pool).value += 1
            _log.debug("a request was taken back", pool=pool, priority=victim, waits=priority)

        def retired(took_s: float, ended: bool) -> None:
            if ended:
                confirmed.value += 1
                seconds.observe(took_s)
            else:
                timed_out.value += 1
                _peers_log.warning("a request that was taken back has not ended", pool=pool, seconds=round(took_s, 1))

        def refresh() -> None:
            self._target.child(pool).value = evictor.target
            self._pending.child(pool).value = evictor.pending(clock())
            self._evictable.child(pool).value = float(evictor.evictable)

        evictor.revoked, evictor.retired = revoked, retired
        self._instruments.before_collect.append(refresh)
