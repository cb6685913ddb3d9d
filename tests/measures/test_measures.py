"""Windows, marks, and what is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.measures import COUNTED, RATED, UNKNOWN, Measures, Sample


class Clock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def request(e2e_s: float = 1.0) -> Sample:
    sample = Sample()
    sample.e2e_s = e2e_s
    return sample


def requests_of(measures: Measures, window_s: float | None = None) -> int:
    totals = measures.of("chat", "current", window_s=window_s)
    return -1 if totals is None else totals.requests


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 3)), max_size=60), st.sampled_from([10.0, 25.0, 60.0, 1e9]))
def test_a_window_has_what_came_in_it(steps: list[tuple[float, int]], window_s: float) -> None:
    """Everything that is younger, and nothing that is older than it and a slot."""
    clock = Clock()
    measures = Measures(clock, window_s=60.0, slots=6)
    came: list[float] = []
    for step_s, count in steps:
        clock.now_s += step_s
        for _ in range(count):
            measures.cell("chat", "current").add(request())
            came.append(clock.now_s)
    asked_s = min(window_s, 60.0)
    count = requests_of(measures, window_s)
    if not came:
        assert count == -1
        return
    assert sum(clock.now_s - at_s <= asked_s for at_s in came) <= count
    assert count <= sum(clock.now_s - at_s <= asked_s + measures.slot_s for at_s in came)
    total = measures.total("chat", "current")
    assert total is not None
    assert total.requests == len(came)
    assert total.e2e_s.n == len(came)


def test_old_windows_are_empty_and_nothing_is_lost() -> None:
    clock = Clock()
    measures = Measures(clock, window_s=60.0, slots=6)
    measures.cell("chat", "current").add(request())
    clock.now_s += 100
    assert requests_of(measures) == 0
    total = measures.total("chat", "current")
    assert total is not None
    assert total.requests == 1


@given(st.lists(st.floats(0, 40), max_size=20), st.lists(st.floats(0, 40), max_size=20))
def test_since_a_mark(before: list[float], after: list[float]) -> None:
    """Exactly what came after it, however long ago that is."""
    clock = Clock()
    measures = Measures(clock, window_s=60.0, slots=6)
    cell = measures.cell("chat", "current")
    for step_s in before:
        clock.now_s += step_s
        cell.add(request(0.5))
    mark = measures.mark("chat")
    for step_s in after:
        clock.now_s += step_s
        cell.add(request(2.0))
    since = measures.since(mark, "chat", "current")
    assert since is not None
    assert since.requests == len(after)
    assert since.e2e_s.n == len(after)
    if after:
        assert abs((since.e2e_s.quantile_s(0.0) or 0) - 2.0) < 0.021


def test_an_entity_that_comes_back_begins_anew() -> None:
    measures = Measures(Clock())
    for _ in range(5):
        measures.cell("chat", "current").add(request())
    mark = measures.mark("chat")
    kept = measures.cell("chat", "current")
    measures.keep({("chat", "other", "")})
    kept.add(request())
    assert measures.total("chat", "current") is None
    assert measures.since(mark, "chat", "current") is None
    measures.cell("chat", "current").add(request())
    since = measures.since(mark, "chat", "current")
    assert since is not None
    assert since.requests == 1


def test_another_process_has_another_beginning() -> None:
    """A mark of before a restart subtracts nothing."""
    before, after = Measures(Clock()), Measures(Clock())
    before.cell("chat", "current").add(request())
    mark = before.mark("chat")
    for _ in range(3):
        after.cell("chat", "current").add(request())
    since = after.since(mark, "chat", "current")
    assert since is not None
    assert since.requests == 3


def test_keys_by_endpoint() -> None:
    measures = Measures(Clock())
    for key in (("chat", "b", ""), ("chat", "a", "tone/warm"), ("churn", "x", ""), ("chat", "a", "")):
        measures.cell(*key)
    assert list(measures.known("chat")) == [("chat", "a", ""), ("chat", "a", "tone/warm"), ("chat", "b", "")]
    assert measures.of("chat", "b") is not None
    assert measures.of("chat", "c") is None
    assert measures.find("chat", "c") is None
    assert len(measures) == 4, "who reads makes nothing"
    assert repr(measures) == "<Measures of 4, 0 requests remembered>"


def test_feedback_counts_once() -> None:
    measures = Measures(Clock(), remembered=10)
    cells = measures.cell("chat", "a"), measures.cell("chat", "a", "tone/warm")
    measures.remembered.add(b"one", cells)
    assert measures.remembered.rate(b"one", 1.0, "churn") == UNKNOWN, "it is another endpoint's"
    assert measures.remembered.rate(b"one", 1.0, "chat") == COUNTED
    assert measures.remembered.rate(b"one", 0.0, "chat") == RATED
    assert measures.remembered.rate(b"two", 1.0) == UNKNOWN
    measures.remembered.add(b"three", cells)
    assert measures.remembered.rate(b"three", 0.25) == COUNTED
    for arm in ("", "tone/warm"):
        totals = measures.total("chat", "a", arm)
        assert totals is not None
        assert (totals.feedback_good, totals.feedback_bad, totals.feedback_score.mean) == (1, 1, 0.625)
        assert totals.requests == 0


@given(st.integers(0, 40), st.integers(0, 200))
def test_memory_of_requests_is_bounded(most: int, count: int) -> None:
    measures = Measures(Clock(), remembered=most)
    cells = (measures.cell("chat", "a"),)
    for number in range(count):
        measures.remembered.add(b"%d" % number, cells)
        assert len(measures.remembered) <= most
    known = [measures.remembered.rate(b"%d" % number, 1.0) == COUNTED for number in range(count)]
    assert sum(known) == sum(known[len(known) - sum(known) :]), "the last ones"
    assert sum(known) >= min(count, most // 2)
