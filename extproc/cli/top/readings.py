"""What `extproc top` reads of a metrics page: two readings make pools, endpoints, served entities and rollouts.

The page is Prometheus' text, and one request has all of it, whichever command serves there. Rates and times are those between
two readings; None is: nobody knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}

NEWER: Final[Mapping[str, str]] = {
    "llm_d_epp_average_queue_size": "inference_pool_average_queue_size",
    "llm_d_epp_average_running_requests": "inference_pool_average_running_requests",
    "llm_d_epp_average_kv_cache_utilization": "inference_pool_average_kv_cache_utilization",
    "llm_d_epp_per_endpoint_queue_size": "inference_pool_per_pod_queue_size",
    "llm_d_epp_flow_control_pool_saturation": "inference_extension_flow_control_pool_saturation",
    "llm_d_epp_flow_control_queue_size": "inference_extension_flow_control_queue_size",
    "llm_d_epp_scheduler_attempts_total": "inference_extension_scheduler_attempts_total",
}
"""With `--metrics-names=llm-d` a page has these instead."""
_RENAMED: Final = {"model_server_endpoint": "model_server_pod", "endpoint_name": "pod_name"}
NAMES: Final = (
    *NEWER,
    *NEWER.values(),
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "extproc_streams_inflight",
    "extproc_streams_total",
    "extproc_pool_endpoints",
    "extproc_pool_stale_endpoints",
    "extproc_endpoint_up",
    "extproc_endpoint_running_requests",
    "extproc_endpoint_kv_cache_usage",
    "extproc_endpoint_inflight_requests",
    "extproc_endpoint_metrics_age_seconds",
    "extproc_serving_traffic_percentage",
    "extproc_entity_requests_total",
    "extproc_entity_errors_total",
    "extproc_entity_ttft_seconds_bucket",
    "extproc_entity_e2e_seconds_bucket",
    "extproc_rollout_phase",
    "extproc_rollout_weight_percentage",
    "extproc_rollout_step",
    "extproc_rollout_steps",
    "extproc_rollout_evidence_ratio",
)
"""All that is asked for: a page of many thousand lines is not sent whole."""

Key = tuple[str, ...]


class Process(NamedTuple):
    """The one that was asked."""

    streams: int | None
    """That are open."""
    streams_per_s: float | None
    cpu: float | None
    """Cores in use."""
    memory_bytes: int | None


class Pool(NamedTuple):
    """A pool of the process."""

    name: str
    endpoints: int
    stale: int
    """Without fresh metrics."""
    down: int
    waiting: float | None
    """Mean of its endpoints, as the next two."""
    running: float | None
    kv_usage: float | None
    in_flight: int
    saturation: float | None
    queued: int
    """Requests that wait in the picker."""
    picks_per_s: float | None


class Endpoint(NamedTuple):
    """One of a pool."""

    pool: str
    name: str
    state: str
    """`down`, `stale`: nothing is known of its load, or `up`."""
    waiting: float | None
    running: float | None
    kv_usage: float | None
    in_flight: int
    age_s: float | None
    """Of its last page of metrics."""
    picks_per_s: float | None


class Entity(NamedTuple):
    """A served entity, as its endpoint splits requests now."""

    endpoint: str
    """The serving endpoint."""
    name: str
    percentage: int
    """What the split gives it."""
    requests_per_s: float | None
    error_rate: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    e2e_p50_s: float | None


class Rollout(NamedTuple):
    """An endpoint's rollout, or its last one."""

    endpoint: str
    canary: str
    phase: str
    weight: int
    step: int
    steps: int
    evidence: float | None
    """That the canary is worse, by its worst metric; at 1 it is taken back."""


class Now(NamedTuple):
    """All of it."""

    process: Process
    pools: tuple[Pool, ...]
    endpoints: tuple[Endpoint, ...]
    entities: tuple[Entity, ...]
    rollouts: tuple[Rollout, ...]


class Reading:
    """One page. Raises ValueError for what is no page of an extproc."""

    def __init__(self, text: str, at_s: float, like: Reading | None = None) -> None:
        """`at_s`: when it was read, by a clock that goes forward. `like`: one before it, of whose labels most come again."""
        self.at_s = at_s
        self._series: dict[str, dict[str, float]] = {}
        """Values by name and by labels as they are written, which many metrics have in common."""
        self._labels: dict[str, dict[str, str]] = {} if like is None or like.crowded else like._labels
        for name, labels, value in samples(text):
            self._series.setdefault(NEWER.get(name, name), {})[labels] = value
        if "extproc_streams_inflight" not in self._series:
            raise ValueError("this is no metrics page of extproc; expected its --metrics-port")

    def __repr__(self) -> str:
        return f"<Reading of {sum(map(len, self._series.values()))} series>"

    @property
    def crowded(self) -> bool:
        """Most of the labels that it knows are of what has gone."""
        return len(self._labels) > 1000 + 2 * sum(map(len, self._series.values()))

    def by(self, name: str, *wanted: str, **where: str) -> dict[Key, float]:
        """Sums of a metric by these labels, of the series that have those."""
        found: dict[Key, float] = {}
        only = where.items()
        for labels, value in self._series.get(name, {}).items():
            given = self._given(labels)
            if only and not all(given.get(label, "") == text for label, text in only):
                continue
            key = tuple([given.get(label, "") for label in wanted])
            found[key] = found.get(key, 0.0) + value
        return found

    def _given(self, labels: str) -> dict[str, str]:
        known = self._labels.get(labels)
        if known is None:
            told = _LABEL.findall(labels)
            known = self._labels[labels] = {_RENAMED.get(label, label): _plain(value) for label, value in told}
        return known

    def one(self, name: str) -> float | None:
        """The sum of all series of a metric; None when there is none."""
        return self.by(name).get(())

    def came_before(self, later: Reading) -> bool:
        """It is of the same process, so counters go on."""
        start = "process_start_time_seconds"
        return self.at_s < later.at_s and self.one(start) == later.one(start)


def samples(text: str) -> Iterator[tuple[str, str, float]]:
    """Of Prometheus' text: name, labels as they are written, value. Raises ValueError for another text."""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        try:
            yield name, labels[:-1], float(value)
        except ValueError:
            raise ValueError(f"got {line[:100]!r}; expected a line of Prometheus' text") from None


def _plain(value: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPED.get(match[0], match[0]), value) if "\\" in value else value


def now(reading: Reading, before: Reading | None) -> Now:
    """What a page says; rates and times from what it said `before`."""
    if before is not None and not before.came_before(reading):
        before = None
    past = _Past(reading, before)
    endpoints = tuple(_endpoints(past))
    return Now(_process(past), tuple(_pools(past, endpoints)), endpoints, tuple(_entities(past)), tuple(_rollouts(reading)))


class _Past:
    """How much there is since."""

    def __init__(self, reading: Reading, before: Reading | None) -> None:
        self.reading = reading
        self.before = before

    def more(self, name: str, *wanted: str, **where: str) -> dict[Key, float]:
        """By how much counters have risen; {} when nobody knows."""
        if self.before is None:
            return {}
        then = self.before.by(name, *wanted, **where)
        return {key: max(value - then.get(key, 0.0), 0.0) for key, value in self.reading.by(name, *wanted, **where).items()}

    def rates(self, name: str, *wanted: str, **where: str) -> dict[Key, float]:
        """The same a second."""
        took_s = 0.0 if self.before is None else self.reading.at_s - self.before.at_s
        return {key: value / took_s for key, value in self.more(name, *wanted, **where).items()}


def _process(past: _Past) -> Process:
    return Process(
        _whole(past.reading.one("extproc_streams_inflight")),
        past.rates("extproc_streams_total").get((), 0.0 if past.before else None),
        past.rates("process_cpu_seconds_total").get(()),
        _whole(past.reading.one("process_resident_memory_bytes")),
    )


def _endpoints(past: _Past) -> Iterator[Endpoint]:
    per = ("name", "model_server_pod")
    waiting, running, usage, in_flight, ages = (
        past.reading.by(name, *per)
        for name in (
            "inference_pool_per_pod_queue_size",
            "extproc_endpoint_running_requests",
            "extproc_endpoint_kv_cache_usage",
            "extproc_endpoint_inflight_requests",
            "extproc_endpoint_metrics_age_seconds",
        )
    )
    picks = past.rates("inference_extension_scheduler_attempts_total", "pod_name", status="success")
    for key, up in past.reading.by("extproc_endpoint_up", *per).items():
        pool, name = key
        known = key in waiting or key in running or key in usage
        yield Endpoint(
            *(pool, name, "down" if not up else "up" if known else "stale"),
            *(waiting.get(key), running.get(key), usage.get(key)),
            *(int(in_flight.get(key, 0)), ages.get(key)),
            picks.get((name,), 0.0 if past.before else None),
        )


def _pools(past: _Past, endpoints: Iterable[Endpoint]) -> Iterator[Pool]:
    def of(name: str, label: str = "name") -> dict[Key, float]:
        return {key: value for key, value in past.reading.by(name, label).items() if not math.isnan(value)}

    waiting, running = of("inference_pool_average_queue_size"), of("inference_pool_average_running_requests")
    usage, stale = of("inference_pool_average_kv_cache_utilization"), of("extproc_pool_stale_endpoints")
    saturation = of("inference_extension_flow_control_pool_saturation", "inference_pool")
    queued = of("inference_extension_flow_control_queue_size", "inference_pool")
    members: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        members.setdefault(endpoint.pool, []).append(endpoint)
    for key, count in of("extproc_pool_endpoints").items():
        mine = members.get(key[0], [])
        picks = [each.picks_per_s for each in mine if each.picks_per_s is not None]
        yield Pool(
            *(key[0], int(count), int(stale.get(key, 0)), sum(each.state == "down" for each in mine)),
            *(waiting.get(key), running.get(key), usage.get(key), sum(each.in_flight for each in mine)),
            *(saturation.get(key), int(queued.get(key, 0)), sum(picks) if picks else None),
        )


def _entities(past: _Past) -> Iterator[Entity]:
    per = ("serving_endpoint", "served_entity")
    shares = past.reading.by("extproc_serving_traffic_percentage", *per)
    asked = past.rates("extproc_entity_requests_total", *per, arm="")
    failed: dict[Key, float] = {}
    for (*whose, kind), rate in past.rates("extproc_entity_errors_total", *per, "kind", arm="").items():
        if kind != "4xx":  # the request's fault
            failed[tuple(whose)] = failed.get(tuple(whose), 0.0) + rate
    ttft = past.more("extproc_entity_ttft_seconds_bucket", *per, "le", arm="")
    e2e = past.more("extproc_entity_e2e_seconds_bucket", *per, "le", arm="")
    first, whole = _buckets(ttft), _buckets(e2e)
    for key, share in sorted(shares.items()):
        endpoint, name = key
        requests = asked.get(key, 0.0 if past.before else None)
        yield Entity(
            *(endpoint, name, int(share), requests, failed.get(key, 0.0) / requests if requests else None),
            *(quantile(first.get(key, ()), 0.5), quantile(first.get(key, ()), 0.95)),
            quantile(whole.get(key, ()), 0.5),
        )


def _buckets(counts: Mapping[Key, float]) -> dict[Key, list[tuple[float, float]]]:
    """Edge and count up to it, in order, by what stands before the edge in the keys."""
    found: dict[Key, list[tuple[float, float]]] = {}
    for (*whose, edge), count in counts.items():
        found.setdefault(tuple(whose), []).append((float(edge), count))
    return {whose: sorted(buckets) for whose, buckets in found.items()}


def quantile(buckets: Iterable[tuple[float, float]], share: float) -> float | None:
    """As Prometheus' histogram_quantile: evenly spread within a bucket; None for no values."""
    told = list(buckets)
    if not told or told[-1][1] <= 0:
        return None
    wanted = share * told[-1][1]
    low = below = 0.0
    for edge, count in told:
        if count >= wanted:
            return low if math.isinf(edge) else low + (edge - low) * (wanted - below) / max(count - below, 1e-12)
        low, below = edge, count
    return low


def _rollouts(reading: Reading) -> Iterator[Rollout]:
    steps, done = (
        reading.by("extproc_rollout_steps", "serving_endpoint"),
        reading.by("extproc_rollout_step", "serving_endpoint"),
    )
    phases = {
        name: phase
        for (name, phase), value in reading.by("extproc_rollout_phase", "serving_endpoint", "phase").items()
        if value
    }
    evidence: dict[str, float] = {}
    for (name, _, _), value in reading.by("extproc_rollout_evidence_ratio", "serving_endpoint", "metric", "of").items():
        evidence[name] = max(value, evidence.get(name, -math.inf))
    weights = reading.by("extproc_rollout_weight_percentage", "serving_endpoint", "served_entity")
    for (name, canary), weight in sorted(weights.items()):
        of, at = int(steps.get((name,), 0)), int(done.get((name,), 0))
        yield Rollout(name, canary, phases.get(name, ""), int(weight), at, of, evidence.get(name))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
