"""Where stored responses were made."""

from __future__ import annotations

from extproc.traffic import MadeAt, StoredResponses

HERE, THERE = MadeAt("p", "10.0.0.1:80"), MadeAt("q", "10.0.0.2:80")


def test_what_was_learned_is_known_and_may_change() -> None:
    stored = StoredResponses()
    stored.learn("resp_1", HERE)
    assert stored.made_at("resp_1") == HERE
    stored.learn("resp_1", THERE)
    assert stored.made_at("resp_1") == THERE
    assert stored.made_at("resp_2") is None
    assert len(stored) == 1


def test_the_oldest_is_forgotten() -> None:
    stored = StoredResponses(2)
    for number in (1, 2, 1, 3):
        stored.learn(f"resp_{number}", HERE)
    assert [stored.made_at(f"resp_{number}") for number in (1, 2, 3)] == [HERE, None, HERE]


def test_ids_of_any_length_do_not_fill_the_memory() -> None:
    stored = StoredResponses()
    stored.learn("x" * 257, HERE)
    assert len(stored) == 0
