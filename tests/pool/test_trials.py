"""Endpoints that say nothing of their load while others do: they get a request that may wake them, and never a burst."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import ARRAY_SIZE, Candidates
from extproc.domain import Load
from extproc.pool import PoolStore, Ticket
from extproc.scheduling import build_scheduler
from extproc.scheduling.scheduler import Scheduler
from extproc.settings.picker import DEFAULT_PICKER
from tests.fakes.candidates import endpoints, explained, send
from tests.fakes.clock import FakeClock
from tests.fakes.fuzz import examples

IDLE = Load(waiting=0, running=0, kv_usage=0.0)
NO_SAMPLES = Load(kv_block_size=16)


class Fleet:
    """Model servers behind a store: the first `cold` of them have pages that say nothing, the others are known."""

    def __init__(self, number: int, cold: int = 1, seed: int = 1) -> None:
        self.all = endpoints(number)
        self.store = PoolStore("p", FakeClock())
        self.store.replace_endpoints(self.all)
        self.cold = [endpoint.key for endpoint in self.all[:cold]]
        self.picks: Counter[str] = Counter()
        self.in_flight: dict[str, list[Ticket]] = {endpoint.key: [] for endpoint in self.all}
        self.scheduler: Scheduler = build_scheduler(DEFAULT_PICKER).scheduler(random.Random(seed).random)
        for endpoint in self.all:
            self.page(endpoint.key, NO_SAMPLES if endpoint.key in self.cold else IDLE)

    def page(self, key: str, load: Load) -> None:
        self.store.page_started(key)
        self.store.page_read(key, load)

    def pages(self) -> None:
        """What engines say that run what they have."""
        for key, tickets in self.in_flight.items():
            if key not in self.cold:
                self.page(key, Load(waiting=0, running=len(tickets), kv_usage=min(1.0, len(tickets) / 100)))

    def choose(self) -> str:
        candidates = self.store.candidates()
        endpoint = candidates.endpoints[send(self.scheduler, candidates).positions[0]]
        self.in_flight[endpoint.key].append(self.store.picked(endpoint))
        self.picks[endpoint.key] += 1
        return endpoint.key

    def end(self, key: str, *, answered: bool = True) -> None:
        self.store.release(self.in_flight[key].pop(0), answered=answered)


@pytest.mark.parametrize("number", [2, 10, ARRAY_SIZE + 6])
def test_a_cold_one_gets_a_request_soon_and_joins_when_it_wakes(number: int) -> None:
    fleet = Fleet(number)
    (cold,) = fleet.cold
    tries = 0
    while not fleet.picks[cold]:
        tries += 1
        fleet.end(fleet.choose())
    assert tries <= 20 * number
    fleet.cold = []
    fleet.page(cold, IDLE)
    fleet.picks.clear()
    for _ in range(60 * number):
        fleet.end(fleet.choose())
    assert 30 <= fleet.picks[cold] <= 90


def test_two_of_them_where_one_never_says_anything_share_as_upstream_would() -> None:
    fleet = Fleet(2)
    for _ in range(60):
        fleet.end(fleet.choose())
    assert 10 <= fleet.picks[fleet.cold[0]] <= 30


@pytest.mark.parametrize("number", [2, 10, ARRAY_SIZE + 6])
def test_one_that_hangs_holds_one_request(number: int) -> None:
    fleet = Fleet(number)
    (hanging,) = fleet.cold
    for step in range(50 * number):
        key = fleet.choose()
        if key != hanging and step % 7:
            fleet.end(key)
        if not step % 5:
            fleet.pages()
    assert len(fleet.in_flight[hanging]) == 1


def test_one_that_fails_at_once_gets_no_more_than_its_share() -> None:
    fleet = Fleet(5)
    (failing,) = fleet.cold
    for _ in range(500):
        key = fleet.choose()
        fleet.end(key, answered=key != failing)
    assert 20 <= fleet.picks[failing] <= 100


def test_one_that_serves_and_never_says_so_has_as_much_in_flight_as_the_others() -> None:
    fleet = Fleet(4)
    (silent,) = fleet.cold
    queue: list[str] = []
    for step in range(4000):
        queue.append(fleet.choose())
        if len(queue) > 40:
            fleet.end(queue.pop(0))
        if not step % 5:
            fleet.pages()
    assert 5 <= len(fleet.in_flight[silent]) <= 12
    assert 0.15 <= fleet.picks[silent] / 4000 <= 0.26


@pytest.mark.parametrize(
    "make",
    [
        lambda store, key: store.page_failed(key, "timeout", down=False),
        lambda store, key: store.page_failed(key, "refused", down=True),
        lambda store, key: None,
    ],
    ids=["hangs", "refuses", "was never asked"],
)
def test_one_that_does_not_answer_is_not_tried(make: Callable[[PoolStore, str], None]) -> None:
    fleet = Fleet(3, cold=0)
    store = PoolStore("p", FakeClock())
    store.replace_endpoints(fleet.all)
    fleet.store = store
    for endpoint in fleet.all[1:]:
        fleet.page(endpoint.key, IDLE)
    make(store, fleet.all[0].key)
    for _ in range(100):
        fleet.end(fleet.choose())
    assert not fleet.picks[fleet.all[0].key]


@pytest.mark.parametrize("reason", ["http_status", "garbage"])
def test_one_whose_page_is_an_error_is_alive(reason: str) -> None:
    fleet = Fleet(3, cold=0)
    key = fleet.all[0].key
    store = PoolStore("p", FakeClock())
    store.replace_endpoints(fleet.all)
    fleet.store = store
    for endpoint in fleet.all[1:]:
        fleet.page(endpoint.key, IDLE)
    store.page_failed(key, reason, down=False, alive=True)
    for _ in range(60):
        fleet.end(fleet.choose())
    assert fleet.picks[key] >= 4


def test_where_nobody_is_known_nobody_is_tried() -> None:
    assert Fleet(3, cold=3).store.candidates().trial == -1


def test_asking_changes_nothing_and_a_subset_has_its_own_positions() -> None:
    fleet = Fleet(3)
    for _ in range(3):
        fleet.store.release(fleet.store.picked(fleet.all[2]))

    def trial(candidates: Candidates) -> str | None:
        return None if candidates.trial < 0 else candidates.endpoints[candidates.trial].key

    assert [trial(fleet.store.candidates()) for _ in range(3)] == fleet.cold * 3
    assert trial(fleet.store.subset([fleet.all[1].key, fleet.cold[0]])) == fleet.cold[0]
    assert trial(fleet.store.subset([fleet.all[1].key])) is None
    assert fleet.store.candidates().stamp is fleet.store.candidates().stamp


def test_the_explanation_says_that_it_is_tried() -> None:
    fleet = Fleet(3)
    for _ in range(3):
        fleet.store.release(fleet.store.picked(fleet.all[2]))
    rows = {row.endpoint.key: row for row in explained(fleet.scheduler, fleet.store.candidates()).candidates}
    assert {key for key, row in rows.items() if row.trial} == set(fleet.cold)
    assert rows[fleet.cold[0]].total == max(row.total for row in rows.values())


def test_signs_of_life_are_hints() -> None:
    """An endpoint without a page that answers requests: its page is worth another try."""
    fleet = Fleet(3, cold=0)
    hints: list[str] = []
    fleet.store.hint = hints.append
    a, b, _ = (endpoint.key for endpoint in fleet.all)
    first, second = fleet.store.picked(fleet.all[0]), fleet.store.picked(fleet.all[2])
    fleet.store.page_failed(a, "http_status", down=False, alive=True)
    fleet.store.page_failed(b, "refused", down=True)
    fleet.store.release(first, answered=True)
    third = fleet.store.move(second, b)
    fleet.store.release(third)
    assert hints == [a, b]


events = st.lists(st.sampled_from(["pick", "pick", "pick", "end", "fail", "pages"]), max_size=200)


@examples(60)
@given(events, st.integers(2, 6), st.integers(0, 1000))
def test_whatever_happens_a_silent_one_never_gets_a_burst(script: list[str], number: int, seed: int) -> None:
    """Its share of the picks at most; in flight what it has answered and one at most, and no more than the known on average."""
    fleet = Fleet(number, seed=seed)
    (silent,) = fleet.cold
    total = answered = 0
    draw = random.Random(seed)
    for event in script:
        if event == "pick":
            before = len(fleet.in_flight[silent])
            mean = sum(len(tickets) for key, tickets in fleet.in_flight.items() if key != silent) / (number - 1)
            total += 1
            if fleet.choose() == silent:
                assert before < max(1.0, min(1.0 + answered, mean))
        elif event == "pages":
            fleet.pages()
        else:
            busy = [key for key, tickets in fleet.in_flight.items() if tickets]
            if busy:
                key = draw.choice(busy)
                answered += key == silent and event == "end"
                fleet.end(key, answered=event == "end")
        assert fleet.picks[silent] <= total / number + 1
