"""The last pairs, and what is kept of their bodies for how long."""

from __future__ import annotations

from typing import Any

from extproc.shadow import Bodies, Comparison, Gap, Pair, Pairs


def pair(at_s: float, size: int = 0, **fields: Any) -> Pair:
    bodies = Bodies(b"x" * size, "", "") if size else None
    return Pair(
        at_s, f"id-{at_s:g}", {"status": 200}, {"status": 500}, **{"found": Comparison(None), "bodies": bodies, **fields}
    )


def test_newest_first_and_only_so_many() -> None:
    pairs = Pairs(most=3)
    for at_s in range(5):
        pairs.add(pair(at_s))
    assert [each.at_s for each in pairs.latest(10)] == [4, 3, 2]
    assert [each.at_s for each in pairs.latest(1)] == [4]
    assert len(pairs) == 3


def test_bodies_go_when_they_are_too_much_and_pairs_stay() -> None:
    pairs = Pairs(most_kept_bytes=100)
    for at_s in range(4):
        pairs.add(pair(at_s, 40))
    assert [each.bodies is not None for each in pairs.latest(10)] == [True, True, False, False]
    assert pairs.kept_bytes == 80
    pairs.add(pair(9, 500))
    assert [each.bodies for each in pairs.latest(10)] == [None] * 5
    assert pairs.kept_bytes == 0


def test_bodies_go_when_they_are_too_old() -> None:
    pairs = Pairs()
    for at_s in range(4):
        pairs.add(pair(at_s, 10))
    pairs.forget(2.0)
    assert [each.bodies is not None for each in pairs.latest(10)] == [True, True, False, False]
    assert pairs.kept_bytes == 20


def test_a_pair_that_leaves_the_ring_takes_its_bodies_along() -> None:
    pairs = Pairs(most=2)
    for at_s in range(5):
        pairs.add(pair(at_s, 10 if at_s % 2 else 0))
    assert pairs.kept_bytes == 10
    pairs.add(pair(5))
    pairs.add(pair(6))
    assert pairs.kept_bytes == 0


def test_shapes() -> None:
    gap = Gap(1, 0.5, 0.5)
    one = pair(1.0, found=Comparison(False, ("numbers",), 0.5, gap), bodies=Bodies(b"\xff?", "live", "shadow"))
    told = one.shape()
    assert (told["verdict"], told["differs_in"], told["live"]) == ("differs", ["numbers"], {"status": 200})
    assert told["numeric_difference"] == {"compared": 1, "largest": 0.5, "mean": 0.5, "other_shape": False}
    assert "bodies" not in told
    assert one.shape(bodies=True)["bodies"] == {"request": "\ufffd?", "live": "live", "shadow": "shadow"}
    assert pair(1.0).shape(bodies=True)["bodies"] is None


def test_bodies_show_themselves_nowhere() -> None:
    assert "secret" not in repr(Bodies(b"secret", "secret", "secret"))
    assert repr(Bodies(b"12", "", "")) == "<Bodies 2 bytes>"
