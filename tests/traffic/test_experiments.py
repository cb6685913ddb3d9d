"""A/B experiments: shares, independence, and that nobody moves who need not.

`EXTPROC_KEYS=1000000` asks for as many keys as docs/experiments.md tells of: `make experiments-truth`.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import InferenceRequest, RequestHead
from extproc.traffic import Catalog, EndpointSpec, EntitySpec, NamedLayout, Route, RouteTable, ServingEndpoint
from extproc.traffic.conditions import Asking, Wanted
from extproc.traffic.experiments import (
    OUTSIDE,
    ArmSpec,
    Experiment,
    ExperimentSpec,
    changed_layout,
    spread,
    weights_of,
)
from extproc.traffic.layout import BUCKETS, moved
from extproc.traffic.match import MatchSpec

KEYS: Final = int(os.environ.get("EXTPROC_KEYS", "100000"))
AB: Final = (ArmSpec("control", 50, "a"), ArmSpec("treatment", 50, "b"))


def never() -> float:
    raise AssertionError("nobody asks for the time, or draws, without need")


def asking(key: bytes | None, now_s: float = 0.0, **headers: bytes) -> Asking:
    head = RequestHead({name.replace("_", "-"): value for name, value in headers.items()})
    return Asking(InferenceRequest(head, "/"), None, lambda: now_s, never, key)


def spec(name: str = "checkout", arms: tuple[ArmSpec, ...] = AB) -> ExperimentSpec:
    return ExperimentSpec(name, arms)


def arm(experiment: Experiment, request: Asking) -> str | None:
    found = experiment.arm_of(request)
    return None if found is None else found.name


def arms_of(experiment: Experiment, keys: int) -> list[str]:
    """The arm of each of as many users, '' for those in none."""
    request, found = asking(b""), []
    for user in range(keys):
        request.key = b"user-%d" % user
        found.append(arm(experiment, request) or OUTSIDE)
    return found


class TestTruth:
    def test_shares_are_what_they_say(self) -> None:
        weights = {"control": 40, "treatment": 40, "third": 5}
        experiment = Experiment(spec(arms=tuple(ArmSpec(name, weight) for name, weight in weights.items())), "chat")
        counts = Counter(arms_of(experiment, KEYS))
        most = 0.2 if KEYS >= 1_000_000 else 0.8  # 4 standard deviations of 1,000,000 and of 100,000 keys
        for name, weight in weights_of(experiment.spec.arms).items():
            assert counts[name] * 100 / KEYS == pytest.approx(weight, abs=most)

    def test_experiments_are_independent_of_each_other_and_of_the_split(self) -> None:
        one, other = (arms_of(Experiment(spec(name), "chat"), KEYS) for name in ("checkout", "prompt"))
        third = arms_of(Experiment(spec("checkout"), "another-endpoint"), KEYS)
        catalog = Catalog(routes=RouteTable([Route(("a", "b"), "pool")]))
        endpoint = ServingEndpoint(EndpointSpec("chat", (EntitySpec("a", "a"), EntitySpec("b", "b")), (50, 50)), catalog)
        split = [endpoint.choose(b"user-%d" % user, never)[0].name for user in range(KEYS)]
        for first, second in itertools.combinations((one, other, third, split), 2):
            assert chi_squared(first, second) < 15.1  # one degree of freedom, p = 0.0001

    def test_the_same_salt_is_the_same_experiment(self) -> None:
        one, other = (Experiment(spec(name)._replace(salt="s"), "chat") for name in ("a", "b"))
        assert arms_of(one, 1000) == arms_of(other, 1000)


def chi_squared(first: list[str], second: list[str]) -> float:
    """Pearson's, of the table of two kinds of arms."""
    seen, rows, columns = Counter(zip(first, second, strict=True)), Counter(first), Counter(second)
    expected = {(row, column): rows[row] * columns[column] / len(first) for row in rows for column in columns}
    return sum((seen[cell] - number) ** 2 / number for cell, number in expected.items())


WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(lambda each: sum(each) <= 100)


def named(weights: list[int]) -> dict[str, int]:
    return weights_of([ArmSpec(f"arm{index}", weight) for index, weight in enumerate(weights)])


def sizes(layout: NamedLayout) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, size in layout:
        found[name] += size
    return dict(found)


def owners(layout: NamedLayout) -> list[str]:
    """Of each bucket."""
    return [name for name, size in layout for _ in range(size)]


class TestLayouts:
    @given(WEIGHTS)
    def test_a_layout_has_each_share(self, weights: list[int]) -> None:
        wanted = named(weights)
        layout = spread(wanted)
        assert sizes(layout) == {name: weight * 100 for name, weight in wanted.items() if weight}
        assert all(one[0] != other[0] for one, other in pairwise(layout))

    @given(WEIGHTS, WEIGHTS, WEIGHTS)
    def test_nobody_moves_who_need_not(self, one: list[int], other: list[int], third: list[int]) -> None:
        layout = spread(named(one))
        for before, after in pairwise((one, other, third)):
            old, new = named(before), named(after)
            following = changed_layout(new, layout)
            need = sum(max(0, new.get(name, 0) - old.get(name, 0)) for name in {*old, *new}) * (BUCKETS // 100)
            assert moved(layout, following) == need
            layout = following

    @given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
    def test_two_arms_need_no_history_for_that(self, a: int, b: int, c: int, d: int) -> None:
        old, new = named([min(a, 100 - a), min(b, 100 - b)]), named([min(c, 100 - c), min(d, 100 - d)])
        before, after = owners(spread(old)), owners(spread(new))
        for name in ("arm0", "arm1"):
            stayed = sum(one == other == name for one, other in zip(before, after, strict=True))
            assert stayed == min(old[name], new[name]) * (BUCKETS // 100)

    def test_a_share_of_all_between_two_arms_needs_none_either(self) -> None:
        for old, new in itertools.product(range(0, 101, 5), repeat=2):
            assert moved(spread(named_two(old)), spread(named_two(new))) == abs(new - old) * 100

    def test_over_a_hundred_is_refused(self) -> None:
        with pytest.raises(ValueError, match="add up to 101"):
            Experiment(spec(arms=(ArmSpec("a", 51), ArmSpec("b", 50))), "chat")

    def test_a_layout_has_all_buckets(self) -> None:
        with pytest.raises(ValueError, match="has not 10000 buckets"):
            Experiment(spec()._replace(layout=(("control", 1),)), "chat")


def named_two(first: int) -> dict[str, int]:
    return weights_of([ArmSpec("a", first), ArmSpec("b", 100 - first)])


class TestTakingPart:
    def test_who_has_no_key_takes_no_part(self) -> None:
        assert arm(Experiment(spec(), "chat"), asking(None)) is None

    def test_who_does_not_match_takes_no_part_unless_a_tester(self) -> None:
        gold = MatchSpec(headers=(("x-tier", Wanted("exact", ("gold",))),))
        experiment = Experiment(spec()._replace(matches=(gold,), overrides=(("ann", "treatment"),)), "chat")
        assert arm(experiment, asking(b"bob")) is None
        assert arm(experiment, asking(b"bob", x_tier=b"gold")) in ("control", "treatment")
        found = experiment.arm_of(asking(b"ann"))
        assert found is not None
        assert (found.name, found.entity, found.bucket) == ("treatment", "b", -1)

    def test_from_start_to_end(self) -> None:
        experiment = Experiment(spec()._replace(start_s=100.0, end_s=200.0, overrides=(("ann", "control"),)), "chat")
        told = [arm(experiment, asking(b"ann", now_s)) for now_s in (99.9, 100.0, 199.9, 200.0)]
        assert told == [None, "control", "control", None]

    def test_a_layout_that_is_kept_counts(self) -> None:
        layout = (("treatment", 9000), (OUTSIDE, 1000))
        counts = Counter(arms_of(Experiment(spec()._replace(layout=layout), "chat"), 10_000))
        assert counts["treatment"] == pytest.approx(9000, abs=150)
        assert "control" not in counts
