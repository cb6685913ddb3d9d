"""What endpoints were like over the last minutes: a byte for each moment and measure, so that ten thousand of them take little.

Sampled from outside, a little at a time; what it holds is bounded, begins anew with the process, and goes with its endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp, log2
from typing import Final, NamedTuple

from extproc.pool.member import MemberView

SAMPLES: Final = 90
EVERY_S: Final = 10.0
"""Fifteen minutes in all."""
MOST: Final = 20_000
"""Endpoints, of all pools together, in some 16 MB; of more there is no history."""
AT_ONCE: Final = 200
"""Endpoints that are sampled without a pause, in less than a millisecond."""
_MEMORY_S: Final = 60.0
"""Over which the share of prefix hits is a mean, in which what is new counts most."""
_PER_DOUBLING: Final = 16.0
"""Steps in which a number doubles: what is not a share is kept within 2 % of one more than it is."""


class Measure(NamedTuple):
    """One of what is kept."""

    name: str
    title: str
    unit: str
    """`share`, from 0 to 1; `number`, or `per_s`."""


MEASURES: Final = (
    Measure("kv_usage", "KV cache used", "share"),
    Measure("waiting", "Requests in the queue", "number"),
    Measure("running", "Requests that run", "number"),
    Measure("in_flight", "Requests in flight from here", "number"),
    Measure("picks", "Picks a second", "per_s"),
    Measure("hits", "Prompts found in the prefix cache", "share"),
)
NAMES: Final = tuple([measure.name for measure in MEASURES])
_SHARES: Final = tuple([measure.unit == "share" for measure in MEASURES])


def packed(value: float | None, share: bool) -> int:
    """As a byte; 0 is unknown."""
    if value is None or value != value:
        return 0
    if share:
        return 1 + int(min(1.0, max(0.0, value)) * 254 + 0.5)
    return 1 + int(min(254.0, log2(1.0 + max(0.0, value)) * _PER_DOUBLING + 0.5))


def unpacked(byte: int, share: bool) -> float | None:
    """As `packed` took it, nearly."""
    if byte == 0:
        return None
    if share:
        return (byte - 1) / 254
    value: float = 2.0 ** ((byte - 1) / _PER_DOUBLING) - 1.0
    return value


class Track:
    """One endpoint's, as long as it is there."""

    __slots__ = ("hits", "kept", "matched", "matched_mean", "picks", "picks_per_s", "queried", "queried_mean", "seen")

    def __init__(self, samples: int, picks: int) -> None:
        self.kept = bytearray(len(MEASURES) * samples)
        """Measure by measure; each a ring whose place is the history's."""
        self.picks = picks
        self.picks_per_s: float | None = None
        """Over the last sample; None where there was none before."""
        self.queried = 0
        self.matched = 0
        self.queried_mean = 0.0
        self.matched_mean = 0.0
        self.hits: float | None = None
        """The share of prompts' tokens that it had in its cache, of the last minute; None when it got none."""
        self.seen = 0


class Spread(NamedTuple):
    """Over a pool's endpoints at one moment."""

    middle: float | None
    p95: float | None
    most: float | None


_NO_SPREAD: Final = Spread(None, None, None)


class _Pool:
    def __init__(self, samples: int) -> None:
        self.tracks: dict[str, Track] = {}
        self.spreads: list[list[Spread]] = [[_NO_SPREAD] * samples for _ in MEASURES]
        self.untracked = 0
        self.picks_per_s: float | None = None


class History:
    """Of all pools. One writer: who calls `sample`."""

    def __init__(self, *, samples: int = SAMPLES, most: int = MOST) -> None:
        self.samples = samples
        self.most = most
        self._pools: dict[str, _Pool] = {}
        self._at_s = [0.0] * samples
        """Unix seconds of each place; 0 where there is none yet."""
        self._number = 0
        """Samples so far."""
        self._tracked = 0
        self._last_s: float | None = None

    def __len__(self) -> int:
        return self._tracked

    def sample(
        self,
        pools: Mapping[str, Callable[[], Iterable[MemberView]]],
        reuse: Callable[[str], Mapping[str, Sequence[int]]],
        now_s: float,
        clock_s: float,
    ) -> Iterator[None]:
        """One more moment, `AT_ONCE` endpoints with each step. `reuse`: of a pool, by endpoint, tokens that were looked for in
        prefix caches and that were found. `now_s`: Unix seconds; `clock_s`: monotonic.
        """
        over_s = None if self._last_s is None else clock_s - self._last_s
        self._last_s = clock_s
        self._number += 1
        place = self._number % self.samples
        self._at_s[place] = 0.0  # until all of it is there
        for name in [name for name in self._pools if name not in pools]:
            self._tracked -= len(self._pools.pop(name).tracks)
        for name, views in pools.items():
            pool = self._pools.get(name)
            if pool is None:
                pool = self._pools[name] = _Pool(self.samples)
            yield from self._sample_pool(pool, views(), reuse(name), place, over_s)
        self._at_s[place] = now_s

    def _sample_pool(
        self,
        pool: _Pool,
        views: Iterable[MemberView],
        reused: Mapping[str, Sequence[int]],
        place: int,
        over_s: float | None,
    ) -> Iterator[None]:
        columns = [bytearray() for _ in MEASURES]
        left, untracked, rate = AT_ONCE, 0, 0.0
        for view in views:
            key = view.endpoint.key
            track = pool.tracks.get(key)
            if track is None:
                if self._tracked >= self.most:
                    untracked += 1
                    continue
                track = pool.tracks[key] = Track(self.samples, view.picks)
                self._tracked += 1
                _count(track, view, reused.get(key), None)
            else:
                _count(track, view, reused.get(key), over_s)
            track.seen = self._number
            rate += track.picks_per_s or 0.0
            _keep(track, view, place, self.samples, columns)
            left -= 1
            if left <= 0:
                left = AT_ONCE
                yield
        pool.untracked = untracked
        pool.picks_per_s = None if over_s is None else rate
        for key in [key for key, track in pool.tracks.items() if track.seen != self._number]:
            del pool.tracks[key]
            self._tracked -= 1
        yield
        for number, column in enumerate(columns):
            pool.spreads[number][place] = _spread(column, _SHARES[number])

    # -- read ------------------------------------------------------------------------------------------------------------

    def at(self) -> list[float]:
        """Unix seconds of the moments that there are, oldest first."""
        return [self._at_s[place] for place in self._places()]

    def track(self, pool: str, key: str) -> Track | None:
        """The endpoint's; None where it has none."""
        found = self._pools.get(pool)
        return None if found is None else found.tracks.get(key)

    def values(self, pool: str, key: str, measure: str) -> list[float | None]:
        """One for each moment of `at`."""
        track = self.track(pool, key)
        places = self._places()
        if track is None:
            return [None] * len(places)
        number = NAMES.index(measure)
        begin = number * self.samples
        return [unpacked(track.kept[begin + place], _SHARES[number]) for place in places]

    def spreads(self, pool: str, measure: str) -> list[Spread]:
        """Over the pool's endpoints, one for each moment of `at`."""
        found = self._pools.get(pool)
        if found is None:
            return [_NO_SPREAD] * len(self._places())
        return [found.spreads[NAMES.index(measure)][place] for place in self._places()]

    def picks_per_s(self, pool: str) -> float | None:
        """Of all of the pool's endpoints that have a history, over the last sample; None while nobody knows."""
        found = self._pools.get(pool)
        return None if found is None else found.picks_per_s

    def untracked(self, pool: str) -> int:
        """Endpoints without a history, as there are too many."""
        found = self._pools.get(pool)
        return 0 if found is None else found.untracked

    def _places(self) -> list[int]:
        first = max(1, self._number - self.samples + 1)
        places = [number % self.samples for number in range(first, self._number + 1)]
        # The newest one may be under way.
        return [place for place in places if self._at_s[place] > 0]


def _count(track: Track, view: MemberView, reused: Sequence[int] | None, over_s: float | None) -> None:
    """How much came since the last sample."""
    if over_s is not None and over_s > 0:
        track.picks_per_s = max(0, view.picks - track.picks) / over_s
    track.picks = view.picks
    queried, matched = (reused[0], reused[1]) if reused is not None else (0, 0)
    if over_s is not None:
        kept = exp(-over_s / _MEMORY_S)
        track.queried_mean = track.queried_mean * kept + max(0, queried - track.queried)
        track.matched_mean = track.matched_mean * kept + max(0, matched - track.matched)
        track.hits = track.matched_mean / track.queried_mean if track.queried_mean >= 1.0 else None
    track.queried, track.matched = queried, matched


def _keep(track: Track, view: MemberView, place: int, samples: int, columns: Sequence[bytearray]) -> None:
    load = view.load
    known = view.fresh and not view.down
    values = (
        load.kv_usage if known else None,
        load.waiting if known else None,
        load.running if known else None,
        float(view.in_flight),
        track.picks_per_s,
        track.hits,
    )
    at = place
    for number, value in enumerate(values):
        byte = packed(value, _SHARES[number])
        track.kept[at] = byte
        at += samples
        if byte:
            columns[number].append(byte)


def _spread(column: bytearray, share: bool) -> Spread:
    if not column:
        return _NO_SPREAD
    ordered = sorted(column)
    last = len(ordered) - 1
    return Spread(
        unpacked(ordered[last // 2], share), unpacked(ordered[int(last * 0.95)], share), unpacked(ordered[last], share)
    )
