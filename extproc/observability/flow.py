"""Flow control: who waits, how long it took, and what became of them; by upstream's names (`llm_d_epp_flow_control_*`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from extproc.flow import Evictor, FlowQueues, Outcome
from extproc.flow.plan import UNLIMITED
from extproc.observability.evictions import EvictionMetrics
from extproc.observability.instruments import OTHER, Family, Histogram, Instruments
from extproc.observability.labels import ModelNames
from extproc.observability.picker import flow_bytes, flow_queue
from extproc.observability.twins import NO_FLOW

MAX_FLOWS: Final = 100
"""Fairness ids that have lines of their own; clients choose them."""
QUEUE_SECONDS: Final[tuple[float, ...]] = (
    *(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
CYCLE_SECONDS: Final[tuple[float, ...]] = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1)
_MOST: Final = 5000
_AT_ONCE: Final = 200


class WaitingRow(NamedTuple):
    """A request that waits."""

    flow: str
    priority: int
    model: str
    target: str | None
    size_bytes: int


class FlowNames:
    """Which fairness ids stand on the page. When there is no place, the one that was heard of longest ago gives way, and what
    was counted of it goes to `other`. The id is the first label of whatever has it."""

    def __init__(self, names: ModelNames, most: int = MAX_FLOWS) -> None:
        self._names = names
        self._most = most
        self._known: OrderedDict[str, list[tuple[Family[Histogram], tuple[str, ...]]]] = OrderedDict()
        self.gone: Callable[[str], None] = lambda flow: None
        """Told of an id that gave way."""

    def take(self, flow: str) -> str:
        """The id, which has a place from now on."""
        if flow in (NO_FLOW, OTHER):
            return flow
        if flow in self._known:
            self._known.move_to_end(flow)
            return flow
        if len(self._known) >= self._most:
            gone, counted = self._known.popitem(last=False)
            for family, values in counted:
                self._names.fold(family, values, (OTHER, *values[1:]))
            self.gone(gone)
        self._known[flow] = []
        return flow

    def label(self, flow: str) -> str:
        """The id if it has a place."""
        return flow if flow == NO_FLOW or flow in self._known else OTHER

    def counts(self, flow: str, family: Family[Histogram], values: tuple[str, ...]) -> None:
        """These label values have the id."""
        known = self._known.get(flow)
        if known is not None:
            known.append((family, values))


class FlowMetrics:
    """`flow_control_*`. What waits is counted when someone looks."""

    def __init__(self, instruments: Instruments, *, most_flows: int = MAX_FLOWS) -> None:
        self._instruments = instruments
        self._models = ModelNames.of(instruments)
        self._flows = FlowNames(self._models, most_flows)
        self._flows.gone = self._forget
        self._queue_size = flow_queue(instruments)
        self._queue_bytes = flow_bytes(instruments)
        self._waited = instruments.histogram(
            "inference_extension_flow_control_request_queue_duration_seconds",
            "How long requests waited for room in their pool, by what became of them; 0 for those that did not have to.",
            QUEUE_SECONDS,
            ["fairness_id", "priority", "outcome", "inference_pool", "model_name", "target_model_name"],
            most=_MOST,
        )
        self._enqueued = instruments.histogram(
            "inference_extension_flow_control_request_enqueue_duration_seconds",
            "How long it took to give a request its place in the queue.",
            CYCLE_SECONDS,
            ["fairness_id", "priority", "outcome"],
            most=_MOST,
        )
        self.cycle = instruments.histogram(
            "inference_extension_flow_control_dispatch_cycle_duration_seconds",
            "How long a look at who may go took, with what those did who went.",
            CYCLE_SECONDS,
        ).child()
        self._outcomes = instruments.counter(
            "llm_d_epp_flow_control_requests_total",
            "Requests of pools with flow control, by what became of them.",
            ["outcome", "priority", "inference_pool"],
        )
        band = ["priority", "inference_pool"]
        share = "Share of the places that is taken"
        bytes_ = "Share of the bytes that is taken"
        self._requests_used = instruments.gauge(
            "llm_d_epp_flow_control_capacity_utilization_requests", f"{share}, of a band.", band
        )
        self._bytes_used = instruments.gauge("llm_d_epp_flow_control_capacity_utilization_bytes", f"{bytes_}, of a band.", band)
        self._all_requests_used = instruments.gauge(
            "llm_d_epp_flow_control_global_capacity_utilization_requests", f"{share}, of all; 0 without a bound.", band[1:]
        )
        self._all_bytes_used = instruments.gauge(
            "llm_d_epp_flow_control_global_capacity_utilization_bytes", f"{bytes_}, of all; 0 without a bound.", band[1:]
        )
        self._evictions: EvictionMetrics | None = None
        self._bound: dict[tuple[str, int, Outcome, str, str, str | None], Histogram] = {}

    def watch(
        self,
        pool: str,
        queues: FlowQueues,
        rows: Callable[[], Iterable[WaitingRow]],
    ) -> None:
        """Show this pool: `rows` are those who wait."""
        shown: set[tuple[str, ...]] = set()
        self._instruments.before_collect.append(lambda: self._refresh(pool, queues, rows, shown))

    def evictions(self, pool: str, evictor: Evictor, clock: Callable[[], float]) -> None:
        """Show what is taken back of this pool; `clock` is its gate's."""
        if self._evictions is None:
            self._evictions = EvictionMetrics(self._instruments)
        self._evictions.watch(pool, evictor, clock)

    def joined(self, flow: str, priority: int, took_s: float, why: Outcome | None) -> None:
        """A request got its place, or did not."""
        outcome = "NotYetFinalized" if why is None else why.value
        values = (self._flows.take(flow), str(priority), outcome)
        if not self._enqueued.has(values):
            self._flows.counts(values[0], self._enqueued, values)
        self._enqueued.child(*values).observe(took_s)

    def over(
        self, pool: str, flow: str, priority: int, outcome: Outcome, waited_s: float, model: str, target: str | None
    ) -> None:
        """It waits no more, or did not have to."""
        key = (flow, priority, outcome, pool, model, target)
        child = self._bound.get(key)
        if child is None:
            child = self._bind(key)
        child.observe(waited_s)
        self._outcomes.child(outcome.value, str(priority), pool).value += 1

    def _bind(self, key: tuple[str, int, Outcome, str, str, str | None]) -> Histogram:
        flow, priority, outcome, pool, model, target = key
        names = self._models
        if outcome is Outcome.DISPATCHED:
            label, served = names.take_both(model, target)
        else:
            label = names.label(model)
            served = label if target is None else names.label(target)
        values = (self._flows.take(flow), str(priority), outcome.value, pool, label, served)
        if not self._waited.has(values):
            self._flows.counts(values[0], self._waited, values)
        child = names.histogram(self._waited, *values)
        if values[0] == flow and label == model and served in (model, target):
            self._bound[key] = child
            names.bound(label, self._bound, key)
            names.bound(served, self._bound, key)
        return child

    def _forget(self, flow: str) -> None:
        for key in [key for key in self._bound if key[0] == flow]:
            del self._bound[key]

    def _refresh(
        self, pool: str, queues: FlowQueues, rows: Callable[[], Iterable[WaitingRow]], shown: set[tuple[str, ...]]
    ) -> Iterator[None]:
        sums: dict[tuple[str, ...], tuple[int, int]] = {}
        key: tuple[str, ...]
        for number, row in enumerate(rows()):
            label = self._models.label(row.model)
            served = label if row.target is None else self._models.label(row.target)
            key = (self._flows.label(row.flow), str(row.priority), pool, label, served)
            requests, size = sums.get(key, (0, 0))
            sums[key] = (requests + 1, size + row.size_bytes)
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
        for key in shown - set(sums):
            for family in (self._queue_size, self._queue_bytes):
                if key[0] == NO_FLOW:
                    family.child(*key).value = 0.0
                else:
                    family.remove(*key)
        shown.clear()
        shown.update(sums)
        for key, (requests, size) in sums.items():
            self._queue_size.child(*key).value = float(requests)
            self._queue_bytes.child(*key).value = float(size)
        self._capacity(pool, queues)

    def _capacity(self, pool: str, queues: FlowQueues) -> None:
        plan = queues.plan
        for band in queues.bands:
            self._requests_used.child(str(band.priority), pool).value = band.requests / band.plan.max_requests
            self._bytes_used.child(str(band.priority), pool).value = band.size_bytes / band.plan.max_bytes
        of_all = queues.requests / plan.max_requests if plan.max_requests < UNLIMITED else 0.0
        self._all_requests_used.child(pool).value = of_all
        self._all_bytes_used.child(pool).value = queues.size_bytes / plan.max_bytes if plan.max_bytes < UNLIMITED else 0.0
