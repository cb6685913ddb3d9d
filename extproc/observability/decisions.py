"""The last decisions, for people to look up. Kept as tuples; words are made when someone reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from extproc.domain import Endpoint, Load, signals_of
from extproc.response import Measurement
from extproc.scheduling.considered import Considered
from extproc.traffic.regions import Placed


class Answered(NamedTuple):
    """What was seen of a request's answer. None: it was not seen, or does not say."""

    ttft_s: float | None = None
    """To the first piece of its body."""
    tpot_s: float | None = None
    """For each token after the first, of streams."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Outcome:
    """How a request went after its decision; filled in while it runs."""

    __slots__ = ("answer", "served", "status", "took_s")

    def __init__(self) -> None:
        self.answer: Answered | None = None
        """What was measured of it; None while it runs, and where nobody does or wants to know."""
        self.took_s = 0.0
        """From the whole request to the end of its answer; 0 while it runs, and where nobody wants to know."""
        self.served = ""
        """The endpoint that answered, as the proxy tells it; '' when it does not, or has not yet."""
        self.status: int | None = None
        """The response's status, 0 when there was none; None while the request runs."""

    def __repr__(self) -> str:
        return f"<Outcome {self.status} by {self.served or 'unknown'}>"


def answered_of(measurement: Measurement, now_s: float) -> Answered:
    """What was measured of an answer that ended now."""
    times, usage = measurement.times, measurement.usage
    tpot_s = times.tpot_s(now_s, usage.completion) if measurement.streaming else None
    return Answered(times.ttft_s(), tpot_s, usage.prompt, usage.completion)


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

    version: int = 0
    """The serving endpoint's config version that decided, 0 for none."""
    considered: Considered | None = None
    """Who else was, where somebody may want to know (`DecisionLog.keeps_candidates`)."""

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


MOST_NUMBERS: Final = 250_000
"""Of all candidates that are kept: 8 MB, the last 1,000 decisions among some 60 endpoints and the last 60 among a thousand."""


class DecisionLog:
    """A ring of records; the oldest go first. What was considered goes sooner when pools are large."""

    def __init__(self, size: int = 1000, most_numbers: int = MOST_NUMBERS) -> None:
        self._ring: deque[DecisionRecord] = deque(maxlen=size)
        self.add = self._ring.append
        self.keeps_candidates = False
        """Somebody shows them: then each decision has its candidates, and what was measured of its answer."""
        self._considered: deque[Considered] = deque()
        self._size = size
        self._most_numbers = most_numbers
        self._numbers = 0

    def keep(self, considered: Considered) -> Considered:
        """Make room for it, so that all that are kept have at most so many numbers."""
        kept = self._considered
        kept.append(considered)
        numbers = self._numbers + considered.size
        while numbers > self._most_numbers or len(kept) > self._size:
            oldest = kept.popleft()
            numbers -= oldest.size
            oldest.let_go()
        self._numbers = numbers
        return considered

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
