"""Values that are replaced while others read them."""

from __future__ import annotations

from extproc.live import Live, LiveWriter
from extproc.observability.instruments import Instruments
from extproc.observability.tables import TableMetrics
from tests.fakes.clock import FakeClock
from tests.fakes.page import counted


def test_readers_see_the_last_value_and_keep_what_they_read() -> None:
    one: tuple[int, ...] = (1,)
    writer = LiveWriter(one, "numbers")
    live = writer.live
    before = live.value
    writer.replace((1, 2))
    assert (before, live.value, live.revision) == ((1,), (1, 2), 1)
    assert repr(live) == "<Live numbers revision=1 (1, 2)>"


def test_a_value_may_have_no_writer() -> None:
    live = Live("fixed")
    assert (live.value, live.revision, live.replaced_at_s) == ("fixed", 0, None)


def test_its_age_is_since_the_last_replacement() -> None:
    clock = FakeClock()
    writer = LiveWriter(0, clock=clock)
    clock.advance(5)
    assert writer.age_s() is None
    writer.replace(1)
    clock.advance(2)
    assert writer.age_s() == 2


def test_the_page_shows_both() -> None:
    clock, instruments = FakeClock(), Instruments()
    writer = TableMetrics(instruments).watch(LiveWriter(0, "adapters", clock=clock))
    assert counted(instruments, "extproc_table") == {}
    writer.replace(1)
    clock.advance(2)
    assert counted(instruments, "extproc_table") == {
        'extproc_table_revision{table="adapters"}': 1,
        'extproc_table_age_seconds{table="adapters"}': 2,
    }
