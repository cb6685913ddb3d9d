"""Flow control: what 10,000 waiting requests cost, in time and memory, and what a request costs that does not have to wait."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

from extproc import compiled
from extproc.director import Director
from extproc.domain import Load
from extproc.flow import BandPlan, FlowPlan, FlowQueues, Gate, Gauge, Outcome, Ticket
from extproc.flow.fairness import GlobalStrict, RoundRobin
from extproc.flow.programs import ProgramAware
from extproc.flow.roles import MakeFairness
from extproc.observability.decisions import DecisionLog
from extproc.observability.flow import FlowMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import StreamMetrics
from extproc.observability.picker import AdmissionMetrics, PickerMetrics
from extproc.pool import PoolStore
from extproc.protocol import StreamLimits
from extproc.scheduling import build_scheduler
from extproc.scheduling.saturation import UtilizationDetector
from extproc.settings.picker import EndpointPickerConfig
from extproc.stages import AdmitByPriority, PickEndpoint, PoolOfEndpoints, WaitForRoom
from extproc.traffic import PoolTables
from extproc.transport.codec import Encoder
from extproc.transport.session import Session
from tests.bench.configs import LOAD_ONLY
from tests.bench.core import make_store, measure_us, stream_runner
from tests.bench.recorded import STREAMS
from tests.bench.table import Row
from tests.fakes import messages

WAITING: Final = 10_000
_DISPATCH_US, _OWN_BYTES = 20.0, 2048
_BODY: Final = b'{"model":"m","prompt":"%s"}' % (b"x" * 4000)
_FULL: Final = Load(waiting=50, running=10, kv_usage=0.2)
_ROOM: Final = Load(waiting=0, running=10, kv_usage=0.2)


class _Soon:
    """An event loop's `call_soon`, and no other timers."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> _Soon:
        if not delay_s:
            self.calls.append(call)
        return self

    def cancel(self) -> None:
        pass

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class _Nobody:
    def told(self, outcome: Outcome) -> None:
        pass


def _plan(fairness: MakeFairness = GlobalStrict) -> FlowPlan:
    return FlowPlan(default=BandPlan(max_requests=2 * WAITING, make_fairness=fairness))


def _pages(store: PoolStore, load: Load) -> None:
    for key in store.members():
        store.page_started(key)
        store.page_read(key, load)


def _gate(store: PoolStore, plan: FlowPlan, soon: _Soon, queue: int = 5) -> Gate:
    gate = Gate(
        FlowQueues(plan), Gauge(store, UtilizationDetector(queue, stale_after_s=600.0)), store.__len__, time.monotonic, soon
    )
    store.news = gate.news
    return gate


def _dispatch_us(endpoints: int, fairness: MakeFairness, flows: int) -> float:
    """From a place in the queue to being told, with the pool asked before each: the best of three."""
    best = float("inf")
    for _ in range(3):
        soon, store = _Soon(), make_store(endpoints)
        gate = _gate(store, _plan(fairness), soon, queue=2 * WAITING)  # so that there is room for them all
        nobody, now_s = _Nobody(), time.monotonic()
        for number in range(WAITING):
            gate.queues.offer(Ticket(nobody, flow=f"flow-{number % flows}", size_bytes=4096, came_s=now_s), now_s)
        gate.news()
        began_s = time.process_time()
        soon.run()
        best = min(best, (time.process_time() - began_s) / WAITING * 1e6)
        assert not len(gate.queues)
    return best


class _Carrier:
    """Forgets the answers."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.carrier = self

    def later(self, delay_s: float, call: Callable[[], None]) -> _Carrier:
        return self

    def cancel(self) -> None:
        pass

    def ask(self) -> bool:
        return False

    def resume(self, outcome: object) -> None:
        self.session.resume(outcome)


class _Picker:
    """A picker of ten endpoints, with flow control or without."""

    def __init__(self, *, queued: bool) -> None:
        instruments = Instruments()
        metrics = PickerMetrics(instruments)
        blueprint = build_scheduler(EndpointPickerConfig.model_validate(LOAD_ONLY))
        self.store, self.soon = make_store(10), _Soon()
        pools = {"p": PoolOfEndpoints(self.store, *blueprint.pool(random.random, time.monotonic), PoolTables().traffic)}
        self.gates = {"p": _gate(self.store, _plan(), self.soon, 2 * WAITING)} if queued else {}
        wait = [WaitForRoom(self.gates, FlowMetrics(instruments), default_pool="p")] if queued else []
        admit = AdmitByPriority(pools, AdmissionMetrics(instruments), metrics, default_pool="p", queued=self.gates)
        pick = PickEndpoint(pools, metrics, DecisionLog(), default_pool="p")
        self.director = Director([admit, *wait, pick], StreamMetrics(instruments))


def _sessions(director: Director, number: int, *, whole: bool = True) -> list[Session]:
    encoder, limits, made = Encoder(), StreamLimits(), []
    head = messages.request_headers()
    for _ in range(number):
        session = Session(director, encoder, limits)
        _Carrier(session)
        session.receive(head)
        session.receive(messages.request_body(_BODY, end=whole))
        made.append(session)
    return made


def _own_bytes(director: Director, *, whole: bool) -> float:
    """What a stream takes beside its body, that waits for room or for the end of its body."""
    kept = _sessions(director, 100, whole=whole)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept += _sessions(director, WAITING - 100, whole=whole)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / (WAITING - 100) - len(_BODY)


def _waiting() -> tuple[float, float, float]:
    """Bytes that a waiting request takes beside its body, and what they are of more than those of one whose body is not whole;
    and the time from its turn to its answer's bytes, pick included."""
    picker = _Picker(queued=True)
    gate = picker.gates["p"]
    _pages(picker.store, Load(waiting=1e9, running=10, kv_usage=0.2))
    coming = _own_bytes(picker.director, whole=False)
    own = _own_bytes(picker.director, whole=True)
    assert len(gate.queues) == WAITING
    _pages(picker.store, _ROOM)
    began_s = time.process_time()
    picker.soon.run()
    took_us = (time.process_time() - began_s) / WAITING * 1e6
    assert not len(gate.queues)
    return own, own - coming, took_us


def _passing_us() -> tuple[float, float]:
    """A 1 KB request without flow control, and with it while there is room."""
    pickers = [_Picker(queued=False), _Picker(queued=True)]
    for picker in pickers:
        picker.store.page_failed("nobody", "", down=False)
    runs = [stream_runner(picker.director, STREAMS["1 KB"]) for picker in pickers]
    rounds = [[measure_us(run, 2000, 3) for run in runs] for _ in range(5)]
    plain, queued = [min(each) for each in zip(*rounds, strict=True)]
    return plain, queued


def flow_rows() -> list[Row]:
    """The time has a bar where the hot path is compiled."""
    bar = _DISPATCH_US if compiled() else None
    own, more, whole_us = _waiting()
    plain_us, queued_us = _passing_us()
    return [
        Row("dispatch, 10 endpoints, one flow", _dispatch_us(10, GlobalStrict, 1), "µs", bar),
        Row("dispatch, 10 endpoints, 1,000 flows in turn", _dispatch_us(10, RoundRobin, 1000), "µs", bar),
        Row("dispatch, 10 endpoints, 100 programs by their service", _dispatch_us(10, ProgramAware, 100), "µs", bar),
        Row("dispatch, 1,000 endpoints, one flow", _dispatch_us(1000, GlobalStrict, 1), "µs", bar),
        Row("from its turn to its answer, pick included", whole_us, "µs"),
        Row("a waiting request: more than one whose body still comes", more, "bytes", _OWN_BYTES),
        Row("… and all of its stream, without the body", own, "bytes"),
        Row("a 1 KB request without flow control", plain_us, "µs"),
        Row("with it, and room: more", queued_us - plain_us, "µs"),
    ]
