"""What the endpoint picker counts, by the names of GIE v1.x: `inference_objective_*`, `inference_extension_*`."""

from __future__ import annotations

from collections.abc import Callable

from extproc import __version__
from extproc.observability.instruments import MAX_SERIES, UNBOUNDED, Family, Histogram, Instruments, Value
from extproc.observability.labels import ModelNames, Place
from extproc.observability.metrics import DECISION_SECONDS, MODEL_SERVER_ERROR, REQUEST_SECONDS, SIZES
from extproc.observability.twins import NO_FLOW


class ModelMetrics:
    """The bound children of one model."""

    __slots__ = ("_places", "duration", "running", "size", "total")

    def __init__(
        self, total: Value, size: Histogram, duration: Histogram, running: Value, places: tuple[Place, ...] = ()
    ) -> None:
        self.total = total
        self.size = size
        self.duration = duration
        self.running = running
        self._places = places

    def started(self, body_bytes: int) -> None:
        """A request is on its way: said at once when it was bound, or its place may be another's."""
        self.total.value += 1
        self.running.value += 1
        self.size.observe(body_bytes)
        for place in self._places:
            place.started()

    def ended(self, status: int, took_s: float) -> None:
        """A request is over; `status` is 0 when it had no answer. The last that is said of it."""
        self.running.value -= 1
        self.duration.observe(took_s)
        for place in self._places:
            place.ended(status)


class PickerMetrics:
    """`inference_objective_*`, `inference_extension_*`."""

    def __init__(self, instruments: Instruments, pool: str | None = None) -> None:
        """`pool`: the only one there is."""
        standard = ["model_name", "target_model_name", "priority"]
        self._names = ModelNames.of(instruments)
        self._total = instruments.counter("inference_objective_request_total", "Requests by model.", standard, most=UNBOUNDED)
        self._errors = instruments.counter(
            "inference_objective_request_error_total",
            "Requests that ended with an error.",
            [*standard, "error_code"],
            most=UNBOUNDED,
        )
        self._duration = instruments.histogram(
            "inference_objective_request_duration_seconds",
            "From the request's headers to the end.",
            REQUEST_SECONDS,
            standard,
            most=UNBOUNDED,
        )
        self._size = instruments.histogram(
            "inference_objective_request_sizes", "Request bodies in bytes.", SIZES, standard, most=UNBOUNDED
        )
        self._running = instruments.gauge(
            "inference_objective_running_requests", "Requests that have not ended.", standard, most=UNBOUNDED
        )
        instruments.gauge("inference_extension_info", "Build of the endpoint picker.", ["commit", "build_ref"]).child(
            "", __version__
        ).value = 1.0
        self.schedule = instruments.histogram(
            "inference_extension_scheduler_e2e_duration_seconds", "Time to pick an endpoint.", DECISION_SECONDS
        ).child()
        self._pool = pool
        self._queue = flow_queue(instruments)
        self._attempts = instruments.counter(
            "inference_extension_scheduler_attempts_total",
            "Attempts to pick an endpoint.",
            ["status", "target_model_name", "pod_name", "namespace", "port"],
            most=UNBOUNDED,
        )
        self.blind = instruments.counter(
            "extproc_picks_without_load_total",
            "Picks made while no endpoint of the pool had fresh metrics (fail open).",
            ["name"],
        )
        self.tried = instruments.counter(
            "extproc_picks_to_try_total",
            "Picks of an endpoint that says nothing of its load while others do, so that it may: an engine's first request.",
            ["name"],
        )
        self.elsewhere = instruments.counter(
            "extproc_served_elsewhere_total",
            "Requests answered by another endpoint than the picked one (a retry, a fallback).",
            ["name"],
        )
        self._models: dict[str | tuple[str, str | None, int], ModelMetrics] = {}
        self._by_endpoint: dict[tuple[str, str], Value] = {}
        self._sweep_at = MAX_SERIES
        self._labels_of: dict[tuple[str, str], tuple[str, ...]] = {}
        self.is_there: Callable[[str], bool] = _always
        """Whether an endpoint is still in a pool: what was counted of those that left is forgotten when there are many."""

    def model(self, name: str, target: str | None = None, priority: int = 0) -> ModelMetrics:
        """The bound children of a model ('' for requests without one) and of the one that serves it, None for itself."""
        bound = self._models.get(name if target is None and not priority else (name, target, priority))
        return self._bind(name, target, priority) if bound is None else bound

    def _bind(self, name: str, target: str | None, priority: int) -> ModelMetrics:
        names = self._names
        label, served = names.take_both(name, target)
        key = model_key(label, None if target is None else served, priority)
        bound = self._models.get(key)
        if bound is None:
            labels = (label, served, str(priority))
            bound = self._models[key] = ModelMetrics(
                names.value(self._total, *labels),
                names.histogram(self._size, *labels),
                names.histogram(self._duration, *labels),
                names.value(self._running, *labels),
                names.places(label, served),
            )
            if self._pool is not None:
                names.value(self._queue, NO_FLOW, str(priority), self._pool, label, served)
            names.bound(label, self._models, key)
            names.bound(served, self._models, key)
        return bound

    def error(self, model: str, code: str, target: str | None = None, priority: int = 0) -> None:
        names = self._names
        if code == MODEL_SERVER_ERROR:  # of a request that had its place, or none was free
            label = names.label(model)
            served = label if target is None else names.label(target)
        else:
            label, served = names.take_both(model, target)
        names.value(self._errors, label, served, str(priority), code).value += 1

    def attempt_failed(self, model: str) -> None:
        self._names.value(self._attempts, "failure", self._names.take(model), "", "", "").value += 1

    def picked(self, model: str, key: str, name: str, namespace: str, port: int) -> None:
        """Count a successful attempt."""
        child = self._by_endpoint.get((model, key))
        if child is None:
            child = self._bind_attempt(model, key, name, namespace, port)
        child.value += 1

    def _bind_attempt(self, model: str, key: str, name: str, namespace: str, port: int) -> Value:
        label = self._names.label(model)
        values = ("success", label, name, namespace, str(port))
        child = self._names.value(self._attempts, *values)
        self._by_endpoint[(label, key)] = child
        self._labels_of[(label, key)] = values
        self._names.bound(label, self._by_endpoint, (label, key))
        self._names.bound(label, self._labels_of, (label, key))
        if len(self._by_endpoint) > self._sweep_at:
            self._sweep()
        return child

    def _sweep(self) -> None:
        """Forget endpoints that left; next time when there are twice as many as stayed."""
        for both in [both for both in self._by_endpoint if not self.is_there(both[1])]:
            del self._by_endpoint[both]
            self._attempts.remove(*self._labels_of.pop(both))
        self._sweep_at = max(MAX_SERIES, 2 * len(self._by_endpoint))


def flow_queue(instruments: Instruments) -> Family[Value]:
    """How many requests wait for their turn, of which autoscalers ask: 0 without flow control, and there."""
    return instruments.once(
        "flow queue",
        lambda: instruments.gauge(
            "inference_extension_flow_control_queue_size",
            "Requests held in a queue of the picker's; none without flow control.",
            ["fairness_id", "priority", "inference_pool", "model_name", "target_model_name"],
            most=UNBOUNDED,
        ),
    )


def flow_bytes(instruments: Instruments) -> Family[Value]:
    """As `flow_queue`, in bytes."""
    return instruments.once(
        "flow bytes",
        lambda: instruments.gauge(
            "llm_d_epp_flow_control_queue_bytes",
            "Bytes of requests held in a queue of the picker's; none without flow control.",
            ["fairness_id", "priority", "inference_pool", "model_name", "target_model_name"],
        ),
    )


def model_key(name: str, target: str | None, priority: int) -> str | tuple[str, str | None, int]:
    """Of the bound children of a model: the name alone for what most requests are."""
    return name if target is None and not priority else (name, target, priority)


def _always(key: str) -> bool:
    return True


class RewriteMetrics:
    """What rewrites were decided."""

    def __init__(self, instruments: Instruments) -> None:
        self._decisions = instruments.counter(
            "inference_extension_model_rewrite_decisions_total",
            "Requests for which a rewrite chose the model that serves them.",
            ["model_rewrite_name", "model_name", "target_model"],
            most=UNBOUNDED,
        )
        self._names = ModelNames.of(instruments)

    def decided(self, rewrite: str, model: str, target: str) -> None:
        """`rewrite` is the object's `namespace/name`."""
        # As upstream, without the namespace: it is the pool's.
        label, served = self._names.take_both(model, target)
        self._names.value(self._decisions, rewrite.rpartition("/")[2], label, served).value += 1


class AdmissionMetrics:
    """Pools that are full, and what was shed for it."""

    def __init__(self, instruments: Instruments) -> None:
        self._shed = instruments.counter(
            "extproc_requests_shed_total",
            "Requests with a priority below 0 that were answered with 429 because their pool was full.",
            ["name", "priority"],
        )
        self._saturation = instruments.gauge(
            "inference_extension_flow_control_pool_saturation",
            "How full a pool is, by its saturation detector; from 1 on it sheds.",
            ["inference_pool"],
        )
        self._instruments = instruments

    def watch(self, pool: str, saturation: Callable[[], float]) -> None:
        """Show this pool; `saturation` is asked when someone looks."""
        gauge = self._saturation.child(pool)
        for family in (flow_queue(self._instruments), flow_bytes(self._instruments)):
            family.child(NO_FLOW, "0", pool, "", "")

        def refresh() -> None:
            gauge.value = saturation()

        self._instruments.before_collect.append(refresh)

    def shed(self, pool: str, priority: int) -> None:
        self._shed.child(pool, str(priority)).value += 1
