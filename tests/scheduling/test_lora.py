"""Plugins that go by LoRA adapters."""

from __future__ import annotations

import pytest

from extproc.domain import NO_LOAD, Load
from tests.fakes.candidates import asking, candidates
from tests.fakes.plugins import kit, make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def loras(running: str = "", waiting: str = "", most: int | None = 4) -> Load:
    return Load(running_loras=tuple(running.split()), waiting_loras=tuple(waiting.split()), max_loras=most)


POOL = [
    loras("m other"),
    loras("other"),
    loras("other", "m", most=2),
    loras("other", "third", most=2),
    loras("m", most=1),
    Load(waiting=1),
    NO_LOAD,
]


@both_kinds
def test_lora_affinity_scorer(arrays: bool) -> None:
    scorer = make("lora-affinity-scorer")
    pool = candidates(loads=POOL, arrays=arrays)
    assert list(scorer.score(asking(model="m"), pool)) == [1.0, 0.8, 0.6, 0.0, 1.0, 0.0, 0.0]
    assert list(scorer.score(asking(model="third"), pool)) == [0.8, 0.8, 0.0, 0.6, 0.0, 0.0, 0.0]
    assert list(scorer.score(asking(model=None), pool)) == [0.8, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert list(scorer.score(asking(model="m"), pool.only([4, 3]))) == [1.0, 0.0]
    assert list(scorer.score(asking(model="m"), candidates(2, arrays=arrays))) == [0, 0]


def test_what_is_kept_of_a_page_is_not_of_the_next() -> None:
    scorer = make("lora-affinity-scorer")
    assert list(scorer.score(asking(model="m"), candidates(loads=[loras("m")], stamp=1))) == [1.0]
    assert list(scorer.score(asking(model="m"), candidates(loads=[loras("")], stamp=1))) == [1.0], "the same stamp"
    assert list(scorer.score(asking(model="m"), candidates(loads=[loras("")], stamp=2))) == [0.8]


def test_many_models_of_clients_are_not_all_remembered() -> None:
    scorer, pool = make("lora-affinity-scorer"), candidates(loads=[loras("m7")], stamp="same")
    for number in range(1000):
        assert list(scorer.score(asking(model=f"m{number}"), pool)) == [1.0 if number == 7 else 0.8]
    assert len(scorer._by_model) <= 64


@pytest.mark.parametrize(
    ("model", "chance", "expected"),
    [
        ("m", 0.5, [0, 2, 4]),
        ("m", 0.9995, [1]),
        ("third", 0.5, [3]),
        ("new", 0.5, [0, 1]),
        ("new", 0.9999, [0, 1]),
    ],
)
def test_lora_affinity_filter(model: str, chance: float, expected: list[int]) -> None:
    plugin = make("lora-affinity-filter", None, kit(random=lambda: chance))
    assert plugin.keep(asking(model=model), candidates(loads=POOL)) == expected


def test_where_nobody_has_it_or_room_all_are_kept() -> None:
    plugin = make("lora-affinity-filter")
    assert plugin.keep(asking(model="m"), candidates(loads=[Load(waiting=1), NO_LOAD])) is None
    assert plugin.keep(asking(model="m"), candidates(3)) is None


def test_whose_turn_it_is_to_be_tried_stays() -> None:
    plugin = make("lora-affinity-filter")
    assert plugin.keep(asking(model="m"), candidates(loads=[loras("m"), NO_LOAD], trial=1)) == [0, 1]
