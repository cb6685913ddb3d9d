"""Who counts by served entity and arm forgets what has gone, a while later."""

from __future__ import annotations

from typing import Any

from extproc.app.endpoints.desk import CountedEndpoints
from extproc.control.changes import Create, Delete, UpdateConfig
from extproc.observability.kept import Kept
from tests.control.desks import Bench, document

EXPERIMENT: dict[str, Any] = {
    "name": "tone",
    "arms": [{"name": "warm", "weight": 50, "entity": "a"}, {"name": "cold", "weight": 50, "entity": "b"}],
    "end": "2026-06-01T00:00:00Z",
}
END_S = 1_780_272_000.0
ARMS = {("chat", "tone/warm"), ("chat", "tone/cold")}
ENTITIES = {("chat", "a"), ("chat", "b")}


class Seen:
    def __init__(self) -> None:
        self.kept: list[Kept] = []

    def keep(self, kept: Kept) -> None:
        self.kept.append(kept)

    def taken(self) -> list[tuple[set[Any], set[Any], set[Any]]]:
        """What was said since it was asked last."""
        told, self.kept = self.kept, []
        return [(set(each.entities), set(each.arms), set(each.shown)) for each in told]


async def test_arms_of_an_experiment_that_ends_and_then_goes() -> None:
    bench, seen = Bench(), Seen()
    await bench.desk.open()
    counting = CountedEndpoints(bench.writer.live, [seen], 10.0)
    await bench.desk.apply(Create({**document("chat"), "experiments": [EXPERIMENT]}), "ann")
    counting.look(0.0, END_S - 60)
    assert seen.taken() == [(ENTITIES, ARMS, ARMS)]
    counting.look(1.0, END_S - 59)
    assert seen.taken() == [], "nothing has changed"
    counting.look(2.0, END_S)
    assert seen.taken() == [], "it has ended, and is shown for a while"
    counting.look(12.0, END_S + 10)
    assert seen.taken() == [(ENTITIES, ARMS, set())]
    await bench.desk.apply(UpdateConfig("chat", {"experiments": []}), "ann")
    counting.look(13.0, END_S + 11)
    assert seen.taken() == []
    counting.look(22.9, END_S + 20)
    counting.look(23.0, END_S + 21)
    assert seen.taken()[-1] == (ENTITIES, set(), set())


async def test_an_endpoint_that_comes_back_counts_from_0() -> None:
    bench, seen = Bench(), Seen()
    await bench.desk.open()
    counting = CountedEndpoints(bench.writer.live, [seen], 10.0)
    await bench.desk.apply(Create(document("chat")), "ann")
    counting.look(0.0, 0.0)
    await bench.desk.apply(Delete("chat"), "ann")
    counting.look(1.0, 1.0)
    await bench.desk.apply(Create(document("chat")), "ann")
    seen.taken()
    counting.look(2.0, 2.0)
    assert [entities for entities, _, _ in seen.taken()] == [set(), ENTITIES], "forgotten, then kept"


async def test_who_ends_late_is_forgotten_too() -> None:
    """A request may end when nobody knows its entity any more: it is looked again, though nothing changes."""
    bench, seen = Bench(), Seen()
    await bench.desk.open()
    counting = CountedEndpoints(bench.writer.live, [seen], 10.0)
    for now_s in range(25):
        counting.look(float(now_s), 0.0)
    assert seen.taken() == [(set(), set(), set())] * 3
