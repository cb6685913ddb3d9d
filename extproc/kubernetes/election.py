"""Who of several replicas leads, by a Lease: the rules of client-go's leader election, so that both kinds may compete for one.

`Election` decides and does no I/O; `LeaseElection` asks the API server. A lease counts from when *we* saw it change, by our own
clock: the times in it are for people, and never compared with ours. Every write names the version it was made from, so of
two that want to lead one is told 409.

What differs from client-go: a leader that can't renew because the API server does not answer goes on leading unless it is told
otherwise (`strict`), for nobody else can take the lease meanwhile but somebody who can reach a server that we can't; it steps
down as soon as it sees another holder. And followers look twice a second, so that a lease that is let go is taken at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

Lease = Mapping[str, Any]
"""A Lease of coordination.k8s.io/v1 as JSON."""


class Timing(NamedTuple):
    """Seconds; controller-runtime's defaults."""

    lease_s: float = 15.0
    """How long a lease holds that is not renewed."""
    renew_deadline_s: float = 10.0
    """How long a leader tries to renew before it counts as out of contact."""
    retry_s: float = 2.0
    """From one renewal to the next."""
    look_s: float = 0.5
    """From one look of a follower to the next."""


JITTER: Final = 0.2
"""A follower's pause is longer by up to this share, so that followers do not come all at once."""


EARLY: Final = 0.02
"""The share of a lease by which a follower takes it before its end, so that requests are picked again within it and not just
after. A holder that can't renew gave up a third of the lease before, or serves on knowing what that means (`strict`)."""


class Election:
    """One candidate: what it saw, whether it leads, what it would write now. Time is `clock`'s, in seconds."""

    def __init__(
        self,
        identity: str,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        timing: Timing = Timing(),
        strict: bool = False,
    ) -> None:
        self.identity = identity
        self.timing = timing
        self.leading = False
        self.failing_since_s: float | None = None
        """Since when the API server gave no usable answer."""
        self.failure = ""
        self._strict = strict
        self._clock = clock
        self._wall_clock = wall_clock
        self._lease: Lease | None = None
        self._known = False
        """Whether anything was seen, so that None means that there is none."""
        self._changed_s = 0.0
        self._looked_s = 0.0
        self._not_before_s = 0.0
        self._renewed_s = 0.0

    def __repr__(self) -> str:
        return f"<Election {self.identity} {'leads' if self.leading else f'follows {self.holder!r}'}>"

    @property
    def holder(self) -> str:
        """Who holds the lease as far as we know, '' for nobody."""
        return str(_spec(self._lease).get("holderIdentity") or "")

    @property
    def must_look(self) -> bool:
        """Whether to read the lease before writing: a leader whose last write went well need not."""
        return not (self.leading and self._known and self.failing_since_s is None and self.holder == self.identity)

    @property
    def out_of_contact(self) -> bool:
        """A leader that has not renewed for longer than the deadline."""
        return self.leading and self._clock() - self._renewed_s >= self.timing.renew_deadline_s

    def seen(self, lease: Lease | None) -> None:
        """The lease as it is now, None when there is none. A leader who is not its holder leads no more."""
        now_s = self._clock()
        if self.failing_since_s is not None:
            # The holder may have been cut off as we were; it is back, too, and comes within its pause.
            self._not_before_s = now_s + 2 * self.timing.retry_s
        if not self._known:
            self._changed_s = now_s
        elif _spec(lease) != _spec(self._lease):
            # It changed after the last look. Counted from then, a holder that dies right after a renewal is replaced within
            # its lease; that takes half a second off the time between the holder's deadline and the end of its lease.
            self._changed_s = max(self._looked_s, now_s - self.timing.look_s * (1 + JITTER))
        self._looked_s = now_s
        self._lease, self._known = lease, True
        if self.leading and self.holder not in ("", self.identity):
            self.leading = False

    def wanted(self) -> dict[str, Any] | None:
        """The `spec` to write now to get or keep the lease; None while another holds it."""
        if not self._known:
            return None
        spec = _spec(self._lease)
        now = _micro_time(self._wall_clock())
        mine = self.holder == self.identity
        if self.holder and not mine and self._clock() < self._free_at_s():
            return None
        transitions = int(spec.get("leaseTransitions") or 0)
        return {
            **spec,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.timing.lease_s),
            "acquireTime": spec.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or self._lease is None else transitions + 1,
        }

    def body(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The lease with this spec, of the version that we saw."""
        return {**(self._lease or {}), "spec": spec}

    @property
    def exists(self) -> bool:
        """Whether there is a lease to update."""
        return self._lease is not None

    @property
    def lease(self) -> Lease | None:
        """As it was seen last."""
        return self._lease

    def written(self, lease: Lease) -> None:
        """The server took what we wanted: we lead."""
        self.seen(lease)
        self.failing_since_s, self.failure = None, ""
        self._renewed_s = self._clock()
        self.leading = True

    def waits(self) -> None:
        """The server answered, and another leads."""
        self.failing_since_s, self.failure = None, ""

    def failed(self, why: str) -> None:
        """No answer that helps. A strict leader steps down at its deadline."""
        if self.failing_since_s is None:
            self.failing_since_s = self._clock()
        self.failure = why
        if self._strict and self.out_of_contact:
            self.leading = False

    def conflict(self) -> None:
        """Somebody else wrote first: look again. Nobody's fault, and nothing else changes."""
        self._known = False

    def stop(self) -> None:
        """Lead no more, whatever the lease says."""
        self.leading = False

    def release(self) -> dict[str, Any] | None:
        """The spec that lets the lease go; None when it is not ours."""
        if self._lease is None or self.holder != self.identity:
            return None
        now = _micro_time(self._wall_clock())
        return {**_spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}

    def pause_s(self, random: float) -> float:
        """How long to wait before the next round; `random` is in [0, 1)."""
        timing = self.timing
        if self.leading:
            return timing.retry_s
        if self.failing_since_s is not None:
            return timing.retry_s * (1 + JITTER * random)
        pause_s = timing.look_s * (1 + JITTER * random)
        if not self.holder:
            return pause_s
        return min(pause_s, max(self._free_at_s() - self._clock(), 0.01))

    def patience_s(self) -> float:
        """How long a request may take: a strict leader must know by its deadline."""
        timing = self.timing
        if not (self.leading and self._strict):
            return timing.renew_deadline_s / 2
        left_s = self._renewed_s + timing.renew_deadline_s - self._clock()
        return max(0.1, min(timing.renew_deadline_s / 2, left_s))

    def _free_at_s(self) -> float:
        """When another's lease may be taken. Its own duration counts: the holder may have other settings than we."""
        seconds = _spec(self._lease).get("leaseDurationSeconds")
        held_s = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else self.timing.lease_s
        return max(self._changed_s + held_s * (1 - EARLY), self._not_before_s)


def _spec(lease: Lease | None) -> dict[str, Any]:
    spec = lease.get("spec") if lease else None
    return spec if isinstance(spec, dict) else {}


def _micro_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
