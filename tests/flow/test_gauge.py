"""How full a pool is, with what pages don't show yet."""

from __future__ import annotations

import pytest

from extproc.domain import Load
from extproc.flow import Gauge
from extproc.flow.gauge import KEPT_S
from extproc.pool import PoolStore
from extproc.scheduling.saturation import ConcurrencyDetector, UtilizationDetector
from tests.fakes.candidates import endpoints
from tests.fakes.clock import FakeClock

IDLE = Load(waiting=0, running=0, kv_usage=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def store_of(clock: FakeClock, number: int, load: Load | None = IDLE) -> PoolStore:
    store = PoolStore("p", clock)
    store.replace_endpoints(endpoints(number))
    if load is not None:
        read(store, load)
    return store


def read(store: PoolStore, load: Load) -> None:
    for key in store.members():
        store.page_started(key)
        store.page_read(key, load)


def pick(store: PoolStore, at: int = 0) -> None:
    store.picked(store.candidates().endpoints[at])


class TestABurst:
    def test_what_was_sent_since_the_page_waits_there(self, clock: FakeClock) -> None:
        store = store_of(clock, 2)
        gauge = Gauge(store, UtilizationDetector(queue=5))
        assert gauge.read(clock()) == 0
        for number in range(10):
            assert gauge.read(clock()) == pytest.approx(number / 10)
            gauge.let_on()
            pick(store, number % 2)
        assert gauge.read(clock()) == pytest.approx(1.0)

    def test_until_a_page_shows_that_it_runs(self, clock: FakeClock) -> None:
        store = store_of(clock, 1)
        gauge = Gauge(store, UtilizationDetector(queue=5))
        for _ in range(5):
            pick(store)
        assert gauge.ask() == pytest.approx(1.0)
        read(store, IDLE._replace(running=5))
        assert gauge.ask() == 0

    def test_a_page_that_was_made_before_it_arrived_changes_nothing_for_one_page(self, clock: FakeClock) -> None:
        store = store_of(clock, 1)
        gauge = Gauge(store, UtilizationDetector(queue=5))
        for _ in range(5):
            pick(store)
        read(store, IDLE)
        assert gauge.ask() == pytest.approx(1.0)
        read(store, IDLE)
        assert gauge.ask() == 0, "answers that clients read slowly are in flight, and run nowhere"

    def test_who_has_no_endpoint_yet_counts_too(self, clock: FakeClock) -> None:
        store = store_of(clock, 2)
        for detector in (UtilizationDetector(queue=5), ConcurrencyDetector(5)):
            gauge = Gauge(store, detector)
            gauge.on_the_way = 3
            assert gauge.ask() == pytest.approx(0.3)

    def test_in_flight_counts_at_once_for_a_detector_that_counts_it(self, clock: FakeClock) -> None:
        store = store_of(clock, 1, None)
        gauge = Gauge(store, ConcurrencyDetector(2))
        assert gauge.ask() == 0
        pick(store)
        pick(store)
        assert gauge.ask() == 1


class TestWhatIsNotKnown:
    def test_a_picker_that_lost_its_pages_holds_nobody(self, clock: FakeClock) -> None:
        store = store_of(clock, 2, None)
        assert Gauge(store, UtilizationDetector()).ask() == 0

    def test_a_pool_without_endpoints_is_full(self, clock: FakeClock) -> None:
        store = store_of(clock, 0)
        assert Gauge(store, UtilizationDetector()).ask() == 1

    def test_a_single_stale_page_is_full_until_none_is_left(self, clock: FakeClock) -> None:
        store = store_of(clock, 1)
        gauge = Gauge(store, UtilizationDetector())
        clock.advance(0.3)
        assert gauge.ask() == 1
        clock.advance(2)
        assert gauge.ask() == 0


class TestAskingSeldom:
    def test_nothing_is_asked_again_when_nothing_was_heard(self, clock: FakeClock) -> None:
        store = store_of(clock, 2)
        gauge = Gauge(store, UtilizationDetector())
        gauge.read(clock())
        assert not gauge.is_due(clock())
        gauge.news()
        assert gauge.is_due(clock())
        gauge.read(clock())
        gauge.let_on()
        assert gauge.is_due(clock())
        gauge.read(clock())
        assert gauge.is_due(clock() + 2 * KEPT_S)

    def test_a_large_pool_is_asked_for_each_16th_of_it(self, clock: FakeClock) -> None:
        store = store_of(clock, 640)
        gauge = Gauge(store, UtilizationDetector())
        gauge.read(clock())
        gauge.news()
        for _ in range(39):
            gauge.let_on()
        assert not gauge.is_due(clock() + 0.01)
        assert gauge.is_due(clock() + 0.04)
        gauge.let_on()
        assert gauge.is_due(clock())

    @pytest.mark.parametrize(("detector", "capacity"), [(UtilizationDetector(queue=5), 5), (ConcurrencyDetector(3), 3)])
    @pytest.mark.parametrize("members", [2, 63, 64, 640])
    def test_no_more_go_than_there_is_room_for_however_seldom_it_is_asked(
        self, clock: FakeClock, detector: UtilizationDetector | ConcurrencyDetector, capacity: int, members: int
    ) -> None:
        store = store_of(clock, members)
        gauge = Gauge(store, detector)
        gone = 0
        while gauge.read(clock()) < 1 - 1e-9:
            gauge.let_on()
            pick(store, gone % members)
            gone += 1
        assert gone == members * capacity
