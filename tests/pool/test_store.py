"""What is known of a pool's endpoints, and who may be picked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from extproc.candidates import ARRAY_SIZE, Candidates
from extproc.domain import Endpoint, Load, Reading
from extproc.pool import MemberView, PoolStore, Ticket
from extproc.scheduling import build_scheduler
from extproc.settings.picker import DEFAULT_PICKER
from tests.fakes.candidates import endpoints, send
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock

IDLE = Load(waiting=0, running=0, kv_usage=0.0)
A, B, C = (endpoint.key for endpoint in endpoints(3))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> PoolStore:
    """Three endpoints of which nothing is known."""
    store = PoolStore("p", clock, stale_after_s=2.0)
    store.replace_endpoints(endpoints(3))
    return store


def scrape(store: PoolStore, key: str, load: Load = IDLE) -> None:
    store.page_started(key)
    store.page_read(key, load)


def keys(candidates: Candidates) -> list[str]:
    return [endpoint.key for endpoint in candidates.endpoints]


def view(store: PoolStore, key: str) -> MemberView:
    return next(view for view in store.describe() if view.endpoint.key == key)


def pick(store: PoolStore, key: str) -> Ticket:
    return store.picked(next(e for e in store.candidates().endpoints if e.key == key))


def at(store: PoolStore, key: str) -> dict[str, float]:
    """The endpoint's signals as a scorer sees them."""
    all_ = store.candidates()
    i = keys(all_).index(key)
    return {
        "waiting": float(all_.waiting[i]),
        "running": float(all_.running[i]),
        "kv_usage": float(all_.kv_usage[i]),
        "in_flight": float(all_.in_flight[i]),
    }


class TestKnowledge:
    def test_never_scraped_is_unknown(self, store: PoolStore) -> None:
        known = at(store, A)
        assert all(math.isnan(known[signal]) for signal in ("waiting", "running", "kv_usage"))
        assert known["in_flight"] == 0
        assert store.fresh == 0
        assert view(store, A) == (store.describe()[0].endpoint, Load(), None, False, False, None, 0, 0, None, 0, 0, False)

    def test_a_page_is_known(self, store: PoolStore, clock: FakeClock) -> None:
        scrape(store, A, Load(waiting=2, running=3, kv_usage=0.5))
        assert at(store, A) == {"waiting": 2, "running": 3, "kv_usage": 0.5, "in_flight": 0}
        assert store.fresh == 1
        clock.advance(0.5)
        assert view(store, A).age_s == 0.5
        assert view(store, A).fresh

    def test_what_a_page_does_not_say_is_unknown(self, store: PoolStore) -> None:
        scrape(store, A, Load(running=3))
        known = at(store, A)
        assert known["running"] == 3
        assert math.isnan(known["waiting"])
        assert math.isnan(known["kv_usage"])

    def test_old_pages_become_unknown(self, store: PoolStore, clock: FakeClock) -> None:
        scrape(store, A, IDLE)
        clock.advance(1.9)
        scrape(store, B, IDLE)
        assert at(store, A)["waiting"] == 0
        clock.advance(0.1)
        assert math.isnan(at(store, A)["waiting"])
        assert math.isnan(at(store, A)["kv_usage"])
        assert at(store, B)["waiting"] == 0
        assert store.fresh == 1
        assert not view(store, A).fresh
        clock.advance(1.9)
        assert math.isnan(at(store, B)["running"])
        assert store.fresh == 0

    def test_a_new_page_makes_it_known_again(self, store: PoolStore, clock: FakeClock) -> None:
        scrape(store, A, IDLE)
        clock.advance(5)
        assert math.isnan(at(store, A)["waiting"])
        scrape(store, A, Load(waiting=1))
        assert at(store, A)["waiting"] == 1
        assert store.fresh == 1

    def test_stale_endpoints_stay_candidates(self, store: PoolStore, clock: FakeClock) -> None:
        scrape(store, A, IDLE)
        clock.advance(10)
        assert keys(store.candidates()) == [A, B, C]

    def test_a_failure_keeps_the_last_page_until_it_is_stale(self, store: PoolStore, clock: FakeClock) -> None:
        scrape(store, A, Load(waiting=4))
        store.page_failed(A, "timeout", down=False)
        assert at(store, A)["waiting"] == 4
        assert view(store, A).failure == "timeout"
        clock.advance(2)
        assert math.isnan(at(store, A)["waiting"])
        scrape(store, A, Load(waiting=4))
        assert view(store, A).failure is None


class TestDown:
    def test_left_out_while_another_is_up(self, store: PoolStore) -> None:
        store.page_failed(B, "connection refused", down=True)
        assert keys(store.candidates()) == [A, C]
        assert view(store, B).down

    def test_all_back_when_all_are_down(self, store: PoolStore) -> None:
        """A router that lost its metrics must not stop the traffic."""
        scrape(store, A)
        for key in (A, B, C):
            store.page_failed(key, "connection refused", down=True)
        assert keys(store.candidates()) == [A, B, C]
        assert math.isnan(at(store, A)["waiting"]), "what a dead endpoint said is not known"

    @pytest.mark.parametrize("sign_of_life", ["page", "failure with a connection"])
    def test_back_when_it_answers(self, store: PoolStore, sign_of_life: str) -> None:
        for key in (A, B, C):
            store.page_failed(key, "connection refused", down=True)
        if sign_of_life == "page":
            scrape(store, B)
        else:
            store.page_failed(B, "503", down=False)
        assert keys(store.candidates()) == [B]
        scrape(store, A)
        assert keys(store.candidates()) == [A, B]

    def test_requests_in_flight_are_still_given_back(self, store: PoolStore) -> None:
        ticket = pick(store, B)
        store.page_failed(B, "connection refused", down=True)
        store.release(ticket)
        scrape(store, B)
        assert at(store, B)["in_flight"] == 0


def test_a_pool_can_serve_while_one_can_be_connected_to(store: PoolStore) -> None:
    first, *others = store.members()

    def now() -> tuple[bool, int]:
        return store.able, store.down

    assert now() == (True, 0)  # none was tried yet
    for key in (first, *others):
        store.page_failed(key, "refused", down=True)
        store.page_failed(key, "refused", down=True)
    assert now() == (False, len(others) + 1)
    store.page_failed(first, "timeout", down=False)
    assert now() == (True, len(others))
    store.page_failed(first, "refused", down=True)
    assert now() == (False, len(others) + 1)
    scrape(store, first)
    assert now() == (True, len(others))
    endpoints = [view.endpoint for view in store.describe()]
    store.replace_endpoints(endpoints[1:])
    assert now() == (False, len(others))
    store.replace_endpoints([])
    assert now() == (False, 0)


class TestLargePools:
    """What happens to one endpoint does not cost the others."""

    def test_all_fail_at_once(self, clock: FakeClock) -> None:
        """Layouts of the columns, which are linear in the pool, are few: not one for each endpoint, nor one for each pick."""
        number = 2000
        store = PoolStore("p", clock)
        store.replace_endpoints(endpoints(number))
        stamps = set()
        for i, endpoint in enumerate(endpoints(number)[:-1]):
            store.page_failed(endpoint.key, "refused", down=True)
            if i % 10 == 0:
                clock.advance(0.0001)
                stamps.add(id(store.candidates().endpoints))
        assert len(stamps) <= 3
        clock.advance(0.1)
        assert keys(store.candidates()) == [endpoints(number)[-1].key]

    def test_one_that_is_down_is_unknown_at_once(self, clock: FakeClock) -> None:
        store = PoolStore("p", clock)
        store.replace_endpoints(endpoints(1000))
        scrape(store, A)
        store.page_failed(A, "refused", down=True)
        assert keys(store.candidates())[0] == A
        assert math.isnan(at(store, A)["waiting"])

    def test_pages_that_become_stale_one_by_one(self, clock: FakeClock) -> None:
        store = PoolStore("p", clock, stale_after_s=2.0)
        store.replace_endpoints(endpoints(1000))
        for endpoint in endpoints(1000):
            scrape(store, endpoint.key)
            clock.advance(0.001)
        assert store.fresh == 1000
        for _ in range(2020):
            clock.advance(0.001)
            store.candidates()
        assert store.fresh == 0


def test_endpoints_that_were_not_tried_yet(store: PoolStore) -> None:
    assert store.untried == 3
    scrape(store, A)
    scrape(store, A)
    store.page_failed(B, "refused", down=True)
    assert store.untried == 1
    store.replace_endpoints([*endpoints(3), Endpoint("10.0.9.9", 1)])
    assert store.untried == 2
    store.replace_endpoints(endpoints(2))
    assert store.untried == 0


class TestMembership:
    def test_an_empty_pool(self, clock: FakeClock) -> None:
        store = PoolStore("p", clock)
        assert len(store) == 0
        assert len(store.candidates()) == 0
        assert len(store.subset(["10.0.0.1"])) == 0
        assert store.describe() == []

    def test_those_that_stay_keep_what_is_known_of_them(self, store: PoolStore) -> None:
        scrape(store, A, Load(waiting=3))
        pick(store, A)
        revision = store.revision
        store.replace_endpoints([Endpoint("10.0.9.9", 1), *endpoints(1)])
        assert keys(store.candidates()) == ["10.0.9.9:1", A]
        assert at(store, A)["waiting"] == 4
        assert at(store, A)["in_flight"] == 1
        assert store.revision > revision
        assert store.fresh == 1

    def test_labels_are_updated(self, store: PoolStore) -> None:
        store.replace_endpoints([Endpoint("10.0.0.1", 8000, name="new", labels={"role": "decode"})])
        assert store.candidates().endpoints[0].labels == {"role": "decode"}
        assert view(store, A).endpoint.name == "new"

    def test_one_that_comes_back_is_new(self, store: PoolStore) -> None:
        scrape(store, A)
        ticket = pick(store, A)
        store.replace_endpoints(endpoints(3)[1:])
        store.replace_endpoints(endpoints(3))
        assert at(store, A)["in_flight"] == 0
        assert math.isnan(at(store, A)["waiting"])
        store.release(ticket)
        assert at(store, A)["in_flight"] == 0

    def test_a_request_may_outlive_its_endpoint(self, store: PoolStore) -> None:
        ticket = pick(store, C)
        store.replace_endpoints(endpoints(1))
        store.release(ticket)
        assert at(store, A)["in_flight"] == 0

    def test_late_pages_of_those_that_left_are_ignored(self, store: PoolStore) -> None:
        store.page_started(C)
        store.replace_endpoints(endpoints(1))
        store.page_read(C, IDLE)
        store.page_started(C)
        store.page_failed(C, "gone", down=True)
        assert keys(store.candidates()) == [A]
        assert store.fresh == 0

    def test_the_same_endpoint_twice_is_one(self, store: PoolStore) -> None:
        store.replace_endpoints([*endpoints(2), *endpoints(2)])
        assert keys(store.candidates()) == [A, B]
        assert len(store) == 2

    def test_repr(self, store: PoolStore) -> None:
        scrape(store, A)
        store.page_failed(B, "refused", down=True)
        assert repr(store) == "<PoolStore p members=3 eligible=2 fresh=1>"


class TestRestarts:
    """Who keeps something of an endpoint's caches is told when they are gone."""

    @pytest.fixture
    def forgotten(self, store: PoolStore) -> list[str]:
        heard: list[str] = []
        store.forget = heard.append
        return heard

    def test_another_start_time_is_another_process(self, store: PoolStore, forgotten: list[str]) -> None:
        scrape(store, A, IDLE._replace(started_s=1000.0))
        scrape(store, A, IDLE._replace(started_s=1000.0, running=3))
        assert forgotten == []
        scrape(store, A, IDLE._replace(started_s=1060.5))
        assert forgotten == [A]

    def test_one_that_was_away_and_does_not_say_when_it_was_started(self, store: PoolStore, forgotten: list[str]) -> None:
        scrape(store, A)
        store.page_failed(A, "refused", down=True)
        scrape(store, A)
        assert forgotten == [A]

    def test_one_that_could_not_be_reached_and_says_that_it_is_the_same(self, store: PoolStore, forgotten: list[str]) -> None:
        scrape(store, A, IDLE._replace(started_s=1000.0))
        store.page_failed(A, "refused", down=True)
        scrape(store, A, IDLE._replace(started_s=1000.0))
        assert forgotten == []

    def test_the_first_page_and_a_page_that_failed_tell_nothing(self, store: PoolStore, forgotten: list[str]) -> None:
        store.page_failed(A, "refused", down=True)
        scrape(store, A, IDLE._replace(started_s=1000.0))
        store.page_failed(A, "timeout", down=False)
        scrape(store, A)
        assert forgotten == []

    def test_when_it_began_is_told_once(self, store: PoolStore) -> None:
        heard: list[tuple[str, float]] = []
        store.began = lambda key, started_s: heard.append((key, started_s))
        for started_s in (1000.0, 1000.0, 1060.5):
            scrape(store, A, IDLE._replace(started_s=started_s))
        assert heard == [(A, 1000.0), (A, 1060.5)]

    def test_whoever_left(self, store: PoolStore, forgotten: list[str]) -> None:
        store.replace_endpoints(endpoints(2))
        assert forgotten == [endpoints(3)[2].key]


class TestSubset:
    @pytest.mark.parametrize(
        ("hints", "chosen"),
        [
            ((A,), [A]),
            (("10.0.0.2",), [B]),
            ((C, "10.0.0.1"), [A, C]),
            ((A, A, "10.0.0.1"), [A]),
            (("10.0.0.1:9999",), []),
            (("10.0.9.9",), []),
            ((), []),
            ((A, B, C), [A, B, C]),
        ],
    )
    def test_by_address_and_by_address_and_port(self, store: PoolStore, hints: tuple[str, ...], chosen: list[str]) -> None:
        assert keys(store.subset(hints)) == chosen

    def test_ports_of_one_address(self, clock: FakeClock) -> None:
        store = PoolStore("p", clock)
        store.replace_endpoints([Endpoint("10.0.0.1", 8000), Endpoint("10.0.0.1", 8001), Endpoint("::1", 8000)])
        assert keys(store.subset(["10.0.0.1"])) == ["10.0.0.1:8000", "10.0.0.1:8001"]
        assert keys(store.subset(["10.0.0.1:8001"])) == ["10.0.0.1:8001"]
        assert keys(store.subset(["[::1]:8000"])) == keys(store.subset(["::1"])) == ["[::1]:8000"]

    def test_signals_go_along(self, store: PoolStore) -> None:
        scrape(store, B, Load(waiting=2, running=3, kv_usage=0.5))
        pick(store, B)
        chosen = store.subset([B])
        assert (chosen.waiting, chosen.running, chosen.kv_usage, chosen.in_flight) == ([3], [3], [0.5], [1])

    def test_a_subset_is_never_taken_for_the_whole(self, store: PoolStore) -> None:
        """What is kept for a stamp must not be used for other endpoints."""
        assert store.subset([A]).stamp != store.candidates().stamp
        assert store.subset([A]).stamp != store.subset([B]).stamp

    def test_down_endpoints_are_left_out(self, store: PoolStore) -> None:
        store.page_failed(B, "refused", down=True)
        assert keys(store.subset([A, B])) == [A]


class TestColumns:
    @pytest.mark.parametrize("number", [1, ARRAY_SIZE - 1, ARRAY_SIZE, ARRAY_SIZE + 50])
    def test_lists_for_small_pools_arrays_for_large_ones(self, clock: FakeClock, number: int) -> None:
        store = PoolStore("p", clock)
        store.replace_endpoints(endpoints(number))
        scrape(store, A, Load(waiting=2, running=3, kv_usage=0.5))
        pick(store, A)
        all_ = store.candidates()
        kind = np.ndarray if number >= ARRAY_SIZE else list
        assert {type(c) for c in (all_.waiting, all_.running, all_.kv_usage, all_.in_flight)} == {kind}
        assert at(store, A) == {"waiting": 3, "running": 3, "kv_usage": 0.5, "in_flight": 1}
        assert isinstance(store.subset([A]).waiting, list)
        assert store.subset([A]).waiting == [3.0]


class TestTurns:
    @pytest.mark.parametrize("number", [3, ARRAY_SIZE])
    def test_when_each_was_picked_last(self, clock: FakeClock, number: int) -> None:
        """In the pool's picks, through pages, a new layout and subsets."""
        store = PoolStore("p", clock)
        store.replace_endpoints(endpoints(number))
        for key in (B, A, B):
            store.release(pick(store, key))
        assert list(store.candidates().picked_at[:3]) == [2, 3, 0]
        scrape(store, A)
        assert list(store.candidates().picked_at[:3]) == [2, 3, 0]
        store.replace_endpoints(endpoints(number)[1:])
        assert list(store.candidates().picked_at[:2]) == [3, 0]
        pick(store, C)
        assert list(store.candidates().picked_at[:2]) == [3, 4]
        assert list(store.subset([C]).picked_at) == [4]

    def test_they_go_round_while_all_are_as_good(self, store: PoolStore) -> None:
        """With the default config, of which the pages decide nothing here."""
        scheduler = build_scheduler(DEFAULT_PICKER).scheduler(seeded())
        order = []
        for _ in range(12):
            for key in (A, B, C):
                scrape(store, key)
            candidates = store.candidates()
            (position,) = send(scheduler, candidates).positions
            order.append(candidates.endpoints[position].key)
            store.release(store.picked(candidates.endpoints[position]))
        assert sorted(order[:3]) == [A, B, C]
        assert order == order[:3] * 4


class TestLoads:
    """What is no column: each candidate's page, where it can be believed."""

    def test_they_stand_where_the_candidates_do(self, store: PoolStore, clock: FakeClock) -> None:
        loras = Load(waiting=1, running_loras=("a", "b"), kv_blocks=100)
        scrape(store, B, loras)
        assert list(store.candidates().loads) == [Load(), loras, Load()]
        assert list(store.subset([C, B]).loads) == [loras, Load()]
        assert store.candidates().signals(1) == {
            "waiting": 1,
            "running": None,
            "kv_usage": None,
            "in_flight": 0,
            "running_loras": ("a", "b"),
            "kv_blocks": 100,
        }
        clock.advance(2)
        assert list(store.candidates().loads) == [Load()] * 3

    def test_of_one_that_is_down(self, store: PoolStore) -> None:
        for key in (A, B, C):
            scrape(store, key, Load(kv_blocks=1))
            store.page_failed(key, "refused", down=True)
        assert list(store.candidates().loads) == [Load()] * 3

    def test_another_load_is_another_stamp(self, store: PoolStore) -> None:
        scrape(store, A, Load(kv_blocks=1))
        before = store.candidates().stamp
        scrape(store, A, Load(kv_blocks=2))
        assert store.candidates().stamp is not before


class TestStamp:
    def test_picks_keep_it(self, store: PoolStore) -> None:
        before = store.candidates().stamp
        store.release(pick(store, A))
        assert store.candidates().stamp is before

    def test_pages_change_it(self, store: PoolStore, clock: FakeClock) -> None:
        stamps = [store.candidates().stamp]

        def changed() -> bool:
            stamps.append(store.candidates().stamp)
            return stamps[-1] != stamps[-2]

        scrape(store, A)
        assert changed()
        scrape(store, A)
        assert not changed(), "the page says what it said"
        clock.advance(2)
        assert changed(), "A is stale"
        store.page_failed(A, "refused", down=True)
        assert changed()
        store.replace_endpoints(endpoints(2))
        assert changed()
        assert not changed()


class TestProjection:
    """The queue between two pages."""

    def test_what_was_sent_since_the_page_was_asked_for_waits(self, store: PoolStore) -> None:
        pick(store, A)  # before the page: it is in the page's numbers
        scrape(store, A, Load(waiting=5))
        pick(store, A)
        assert at(store, A)["waiting"] == 6
        assert view(store, A).unseen == 1
        assert view(store, A).waiting_projected == 6

    def test_what_was_sent_while_the_page_was_made_waits(self, store: PoolStore) -> None:
        scrape(store, A, IDLE)
        store.page_started(A)
        pick(store, A)
        store.page_read(A, Load(waiting=1))
        assert at(store, A)["waiting"] == 2
        scrape(store, A, Load(waiting=1))
        assert at(store, A)["waiting"] == 1

    def test_a_page_that_never_came_saw_nothing(self, store: PoolStore) -> None:
        scrape(store, A, Load(waiting=0))
        pick(store, A)
        store.page_started(A)
        store.page_failed(A, "timeout", down=False)
        pick(store, A)
        store.page_started(A)
        assert at(store, A)["waiting"] == 2
        store.page_read(A, Load(waiting=0))
        assert at(store, A)["waiting"] == 0

    def test_what_has_ended_does_not_wait(self, store: PoolStore) -> None:
        scrape(store, A, IDLE)
        first, second = pick(store, A), pick(store, A)
        store.page_started(A)
        third = pick(store, A)
        for ticket, left in ((second, 2), (third, 1), (first, 0)):
            store.release(ticket)
            assert at(store, A)["waiting"] == left

    def test_what_the_page_has_seen_is_not_taken_off_when_it_ends(self, store: PoolStore) -> None:
        ticket = pick(store, A)
        scrape(store, A, Load(waiting=3))
        store.release(ticket)
        assert at(store, A)["waiting"] == 3

    def test_at_least_what_is_in_flight_beyond_the_running_batch(self, store: PoolStore) -> None:
        for _ in range(7):
            pick(store, A)
        scrape(store, A, Load(waiting=0, running=2))  # the engine's gauges lag a step
        assert at(store, A)["waiting"] == 5
        scrape(store, A, Load(waiting=6, running=2))
        assert at(store, A)["waiting"] == 6
        scrape(store, A, Load(waiting=0))
        assert at(store, A)["waiting"] == 0, "the batch is unknown, so nothing can be said beyond it"

    @pytest.mark.parametrize("number", [10, 130])
    def test_a_burst_between_two_pages_spreads(self, clock: FakeClock, number: int) -> None:
        """Without the projection all of it would go to the one endpoint that looked idle last."""
        store = PoolStore("p", clock)
        store.replace_endpoints(endpoints(number))
        for i, endpoint in enumerate(endpoints(number)):
            scrape(store, endpoint.key, Load(waiting=0 if i == 0 else 1, running=0, kv_usage=0.1))
        scheduler = build_scheduler(DEFAULT_PICKER).scheduler(seeded())
        for _ in range(number * 5 - (number - 1)):
            candidates = store.candidates()
            (position,) = send(scheduler, candidates).positions
            store.picked(candidates.endpoints[position])
        waiting = [view.waiting_projected or 0 for view in store.describe()]
        assert max(waiting) - min(waiting) <= 1

    def test_a_burst_on_a_pool_of_which_nothing_is_known_spreads(self, store: PoolStore) -> None:
        scheduler = build_scheduler(DEFAULT_PICKER).scheduler(seeded())
        for _ in range(30):
            candidates = store.candidates()
            (position,) = send(scheduler, candidates).positions
            store.picked(candidates.endpoints[position])
        assert all(8 <= view.in_flight <= 12 for view in store.describe())


def test_readings_are_of_those_that_may_be_picked(store: PoolStore, clock: FakeClock) -> None:
    scrape(store, A, Load(waiting=3))
    pick(store, A)
    clock.advance(0.5)
    store.page_started(B)
    store.page_failed(B, "refused", down=True)
    assert store.readings() == [Reading(Load(waiting=3), 0.5, 1, A), Reading(Load(), None, 0, C)]
    address = endpoints(3)[2].address
    assert store.readings([C]) == store.readings([address]) == [Reading(Load(), None, 0, C)]
    assert store.readings([]) == []


class TestExpected:
    """The queue for who asks whether there is room."""

    def waiting(self, store: PoolStore) -> float | None:
        return store.projected()[0].load.waiting

    def test_what_was_sent_since_the_page_waits_there(self, store: PoolStore) -> None:
        scrape(store, A, Load(waiting=2, running=1, kv_usage=0.5, max_loras=4))
        ticket = pick(store, A)
        pick(store, A)
        assert store.projected()[0] == Reading(Load(waiting=4, running=1, kv_usage=0.5, max_loras=4), 0, 2, A)
        store.release(ticket)
        assert self.waiting(store) == 3

    def test_for_one_page_more_as_far_as_it_runs_nowhere(self, store: PoolStore) -> None:
        scrape(store, A)
        for _ in range(3):
            pick(store, A)
        scrape(store, A, IDLE._replace(running=1))
        assert self.waiting(store) == 2
        scrape(store, A, IDLE._replace(running=1))
        assert self.waiting(store) == 0

    def test_nothing_that_is_not_known(self, store: PoolStore) -> None:
        pick(store, A)
        assert self.waiting(store) is None


def test_whoever_wants_to_know_is_told_of_news(store: PoolStore) -> None:
    told: list[int] = []
    store.news = lambda: told.append(len(store))
    scrape(store, A)
    assert len(told) == 1
    ticket = pick(store, A)
    assert len(told) == 1
    store.release(ticket)
    assert len(told) == 2
    store.replace_endpoints(endpoints(1))
    assert told == [3, 3, 1]
