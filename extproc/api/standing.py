"""Pools and their endpoints as they stand: health in words with the numbers, signals and their age, what went there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from extproc.candidates import Column
from extproc.domain import SIGNALS
from extproc.pool.history import History, Track
from extproc.pool.member import MemberView
from extproc.pool.store import PoolStore

OK: Final = "ok"
SILENT: Final = "silent"
STALE: Final = "stale"
NEW: Final = "new"
DOWN: Final = "down"
HEALTHS: Final = (OK, SILENT, STALE, NEW, DOWN)
"""It serves and says how it is; its page says nothing of its load; its page is too old; no page was asked for yet; nobody
answers."""
_MAIN: Final = ("waiting", "running", "kv_usage")


class PoolShape(TypedDict):
    """A pool. Means are over endpoints whose signal is known; null: of none."""

    pool: str
    endpoints: int
    fresh: int
    """Those whose page is not too old."""
    down: int
    eligible: int
    """Those that may be picked now."""
    in_flight: int
    waiting_mean: float | None
    kv_usage_mean: float | None
    picks: int
    picks_per_s: float | None


class EndpointShape(TypedDict):
    """One endpoint of a pool. null: nobody knows."""

    endpoint: str
    name: str
    namespace: str
    labels: dict[str, str]
    health: str
    why: str
    """'' where nothing is the matter."""
    eligible: bool
    """Whether it may be picked now."""
    signals: dict[str, Any]
    """By their names (docs/plugins.md), as the last page said them, however old it is."""
    signals_age_s: float | None
    waiting_projected: float | None
    """The page's queue and what was sent there since."""
    in_flight: int
    picks: int
    picks_per_s: float | None
    prefix_hits: float | None
    """Of the tokens that went there in the last minute, what part it had in its cache."""


class Standing(NamedTuple):
    """An endpoint with what is known of it."""

    view: MemberView
    track: Track | None
    health: str
    why: str
    eligible: bool


class Pool:
    """One pool, as it is read."""

    def __init__(self, store: PoolStore, history: History) -> None:
        self.store = store
        self.history = history

    @property
    def name(self) -> str:
        return self.store.name

    def shape(self) -> PoolShape:
        """The pool as a whole."""
        store = self.store
        candidates = store.candidates()
        return {
            "pool": store.name,
            "endpoints": len(store),
            "fresh": store.fresh,
            "down": store.down,
            "eligible": len(candidates),
            "in_flight": int(sum(candidates.in_flight)),
            "waiting_mean": _mean(candidates.waiting),
            "kv_usage_mean": _mean(candidates.kv_usage),
            "picks": store.picks,
            "picks_per_s": self.history.picks_per_s(store.name),
        }

    def standings(self) -> Iterator[Standing]:
        """Every endpoint, each as it is when it is asked for."""
        able = self.store.able
        for view in self.store.views():
            yield self._standing(view, able)

    def standing(self, key: str) -> Standing | None:
        """One of them; None when it is not (any more) there."""
        self.store.candidates()
        view = self.store.view(key)
        return None if view is None else self._standing(view, self.store.able)

    def _standing(self, view: MemberView, able: bool) -> Standing:
        health, why = health_of(view, self.store.stale_after_s, able)
        return Standing(view, self.history.track(self.name, view.endpoint.key), health, why, not view.down or not able)


class Pools:
    """All of them. `history` is written elsewhere."""

    def __init__(self, stores: Callable[[], dict[str, PoolStore]], history: History) -> None:
        self._stores = stores
        self.history = history

    def all(self) -> list[Pool]:
        """In the order of the config."""
        return [Pool(store, self.history) for store in self._stores().values()]

    def get(self, name: str) -> Pool | None:
        """The one of this name."""
        store = self._stores().get(name)
        return None if store is None else Pool(store, self.history)


def health_of(view: MemberView, stale_after_s: float, able: bool) -> tuple[str, str]:
    """How the endpoint is, and what is the matter. `able`: another one can be connected to."""
    failed = f": {view.failure}" if view.failure else ""
    if view.down:
        turns = "at the last attempt" if view.failures < 2 else f"at the last {view.failures} attempts"
        left = "so it is left out" if able else "and so is every other, so it is picked all the same"
        return DOWN, f"it could not be connected to {turns}{failed}; {left}"
    if view.age_s is None:
        if not view.tried:
            return NEW, "its page was not asked for yet; its signals are unknown"
        return STALE, f"no page was ever read{failed}; its signals are unknown, and it is picked by what is in flight"
    if not view.fresh:
        bound = f"its page is {view.age_s:.1f} s old, more than {stale_after_s:g} s (--metrics-staleness-threshold)"
        return STALE, f"{bound}{failed}; its signals count as unknown"
    missing = [name for name in _MAIN if getattr(view.load, name) is None]
    if len(missing) == len(_MAIN):
        return SILENT, "its page says nothing of its load; it is tried from time to time"
    return OK, f"its page does not say {', '.join(missing)}" if missing else ""


def shape(standing: Standing) -> EndpointShape:
    """For JSON."""
    view, track = standing.view, standing.track
    endpoint = view.endpoint
    return {
        "endpoint": endpoint.key,
        "name": endpoint.name,
        "namespace": endpoint.namespace,
        "labels": dict(endpoint.labels),
        "health": standing.health,
        "why": standing.why,
        "eligible": standing.eligible,
        "signals": {signal.name: signal.of(view.load, view) for signal in SIGNALS},
        "signals_age_s": view.age_s,
        "waiting_projected": view.waiting_projected,
        "in_flight": view.in_flight,
        "picks": view.picks,
        "picks_per_s": None if track is None else track.picks_per_s,
        "prefix_hits": None if track is None else track.hits,
    }


SORTS: Final[dict[str, Callable[[Standing], float | None]]] = {
    "waiting": lambda each: each.view.load.waiting if each.view.fresh else None,
    "running": lambda each: each.view.load.running if each.view.fresh else None,
    "kv_usage": lambda each: each.view.load.kv_usage if each.view.fresh else None,
    "in_flight": lambda each: each.view.in_flight,
    "picks": lambda each: None if each.track is None else each.track.picks_per_s,
    "hits": lambda each: None if each.track is None else each.track.hits,
    "age": lambda each: each.view.age_s,
    "health": lambda each: HEALTHS.index(each.health),
}
"""The most first, and then what is unknown; `name` is the one that goes from A to Z."""
NAME: Final = "name"


def ordered(found: Sequence[Standing], sort: str) -> list[Standing]:
    """Raises KeyError for what is neither in `SORTS` nor `NAME`."""
    named = sorted(found, key=lambda each: (each.view.endpoint.name, each.view.endpoint.key))
    if sort == NAME:
        return named
    value_of = SORTS[sort]
    values = [value_of(each) for each in named]
    places = sorted(range(len(named)), key=lambda at: float("inf") if (value := values[at]) is None else -value)
    return [named[at] for at in places]


def matches(standing: Standing, words: Sequence[str]) -> bool:
    """Whether each word, in small letters, is in its name, its address, its labels or its health."""
    endpoint = standing.view.endpoint
    labels = [f"{key}={value}" for key, value in endpoint.labels.items()]
    text = "\n".join([endpoint.name, endpoint.key, endpoint.namespace, standing.health, *labels]).lower()
    return all(word in text for word in words)


def _mean(column: Column) -> float | None:
    known = [float(value) for value in column if value == value]
    return sum(known) / len(known) if known else None
