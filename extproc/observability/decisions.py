"""The last decisions, for people to look up. Kept as tuples; words are made when someone reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from extproc.domain import Endpoint, Load, signals_of
from extproc.traffic.regions import Placed


class Outcome:
    """How a request went after its decision; filled in while it runs."""

    __slots__ = ("served", "status")

    def __init__(self) -> None:
        self.served = ""
        """The endpoint that answered, as the proxy tells it; '' when it does not, or has not yet."""
        self.status: int | None = None
        """The response's status, 0 when there was none; None while the request runs."""

    def __repr__(self) -> str:
        return f"<Outcome {self.status} by {self.served or 'unknown'}>"


class DecisionRecord(NamedTuple):
    """One decision. Signals are the picked endpoint's at that moment."""

    at_s: float
    """Seconds since the epoch."""
    request_id: str
    model: str | None
    """As the client named it."""
    target_model: str | None
    """The one that serves instead, None when it is `model`."""
    priority: int
    pool: str
    endpoint: Endpoint
    fallbacks: tuple[str, ...]
    score: float
    candidates: int
    load: Load
    """What its page said, NO_LOAD when that was unknown."""
    waiting: float
    """The projected queue, NaN when unknown."""
    in_flight: float
    """Our requests in flight there before this one."""
    took_s: float
    """From the whole request to the decision."""
    outcome: Outcome
    entity: str = ""
    """Of a request to a serving endpoint: the endpoint and the served entity, `chat/canary`; else ''."""
    entity_reason: str = ""
    """Why that entity: the kind of key that decided, never the key."""

    rule: str = ""
    """The endpoint's rule that decided, '' for none."""
    experiments: tuple[tuple[str, str], ...] = ()
    """Those that the request took part in, each with its arm."""
    bucket: int = -1
    """Of 10,000, by the key; -1 when none decided."""
    placed: Placed | None = None
    """In which region it is served, and why; None where there are no regions."""

    def signals(self) -> dict[str, object]:
        """As Candidates.signals."""
        return signals_of(self.load, self.waiting, self.in_flight)

    def reason(self) -> str:
        """The choice in a few words."""
        if self.candidates == 1:
            return "the only candidate"
        words = []
        if self.waiting == self.waiting:
            words.append(f"queue {self.waiting:.0f}")
        if self.load.running is not None:
            words.append(f"running {self.load.running:.0f}")
        if self.load.kv_usage is not None:
            words.append(f"kv {self.load.kv_usage:.0%}")
        if not words:
            return f"load unknown, {self.in_flight:.0f} in flight, of {self.candidates}"
        return f"{', '.join(words)}: {self.score:.2f} points, best of {self.candidates}"


class DecisionLog:
    """A ring of records; the oldest go first."""

    def __init__(self, size: int = 1000) -> None:
        self._ring: deque[DecisionRecord] = deque(maxlen=size)
        self.add = self._ring.append

    def __len__(self) -> int:
        return len(self._ring)

    def latest(self, *, request_id: str | None = None, limit: int = 100) -> Iterator[DecisionRecord]:
        """Newest first."""
        for record in reversed(self._ring):
            if limit <= 0:
                return
            if request_id is None or record.request_id == request_id:
                limit -= 1
                yield record
