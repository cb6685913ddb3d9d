"""The index against an OrderedDict for each endpoint, and at its edges."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from extproc.domain import Endpoint
from extproc.prefix.hashing import HASH_BYTES, chain
from extproc.prefix.index import PrefixIndex
from tests.prefix.consistency import check
from tests.prefix.model import DEFAULT, Model

ENDPOINTS = [Endpoint("10.0.0.1", port) for port in range(8000, 8005)]
CROWD = [Endpoint("10.0.1.1", port) for port in range(8000, 8016)]
KEYS = [endpoint.key for endpoint in ENDPOINTS]


def hashes(prompt: str) -> bytes:
    return chain(prompt.encode(), 7, 1, 1000)


keys = st.sampled_from(KEYS)
long = st.builds(lambda length, end: "ab" * (length // 2) + end, st.integers(0, 60), st.sampled_from(["", "a", "x"]))
prompts = (st.text("ab", max_size=20) | long).map(hashes)


class Against(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(default_capacity=DEFAULT)
        self.model = Model()

    @rule(key=keys, prompt=prompts)
    def insert(self, key: str, prompt: bytes) -> None:
        self.index.insert(key, prompt)
        self.model.insert(key, prompt)

    @rule(prompt=prompts, endpoints=st.integers(1, len(CROWD)))
    def insert_everywhere(self, prompt: bytes, endpoints: int) -> None:
        for endpoint in CROWD[:endpoints]:
            self.insert(endpoint.key, prompt)

    @rule(prompt=prompts)
    def match_everywhere(self, prompt: bytes) -> None:
        everybody = [*CROWD, *ENDPOINTS]
        assert list(self.index.match(prompt, everybody)) == [self.model.matched(each.key, prompt) for each in everybody]

    @rule(key=keys, capacity=st.integers(0, 80))
    def set_capacity(self, key: str, capacity: int) -> None:
        self.index.set_capacity(key, capacity)
        self.model.set_capacity(key, capacity)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.index.forget(key)
        self.model.forget(key)

    @rule(prompt=prompts)
    def match(self, prompt: bytes) -> None:
        expected = [self.model.matched(key, prompt) for key in KEYS]
        assert list(self.index.match(prompt, ENDPOINTS)) == expected
        assert [self.index.matched(prompt, key) for key in KEYS] == expected

    @rule(chosen=st.lists(st.sampled_from(ENDPOINTS), unique=True), prompt=prompts)
    def match_some(self, chosen: list[Endpoint], prompt: bytes) -> None:
        assert list(self.index.match(prompt, chosen)) == [self.model.matched(endpoint.key, prompt) for endpoint in chosen]

    @invariant()
    def sizes(self) -> None:
        assert self.index.size == sum(len(held) for held in self.model.held.values())
        check(self.index)


TestAgainstModel = Against.TestCase
TestAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_a_conversation_of_many_turns_is_not_many_runs() -> None:
    index, model = PrefixIndex(default_capacity=1000), Model()
    turns = "".join("ab"[at % 3 % 2] * (at % 4 + 1) + "c" for at in range(60))
    for length in range(3, len(turns), 3):
        for key in KEYS[: 1 + length % 2]:
            asked = hashes(turns[:length] + "d")
            index.insert(key, asked)
            model.capacities[key] = 1000
            model.insert(key, asked)
    check(index)
    runs = index.dump()["runs"]
    dead_ends = len(turns) // 3 - 1
    assert isinstance(runs, int)
    assert runs <= dead_ends + 12
    for length in range(0, len(turns), 5):
        for asked in (hashes(turns[:length]), hashes(turns[:length] + "d")):
            assert index.match(asked, ENDPOINTS) == [model.matched(key, asked) for key in KEYS]


def test_the_end_of_what_was_not_used_for_long_leaves_first() -> None:
    index = PrefixIndex(default_capacity=6)
    index.insert("a:1", hashes("aaaa"))
    index.insert("a:1", hashes("bbbb"))
    assert (index.matched(hashes("aaaa"), "a:1"), index.matched(hashes("bbbb"), "a:1")) == (2, 4)
    index.insert("a:1", hashes("aaba"))
    assert [index.matched(hashes(prompt), "a:1") for prompt in ("aaaa", "aaba", "bbbb")] == [2, 4, 2]


def test_of_a_prompt_that_is_larger_than_the_endpoint_the_beginning_counts() -> None:
    index = PrefixIndex(default_capacity=3)
    index.insert("a:1", hashes("bb"))
    index.insert("a:1", hashes("abababab"))
    assert (index.matched(hashes("abababab"), "a:1"), index.matched(hashes("bb"), "a:1"), index.size) == (3, 0, 3)


def test_without_blocks_or_room_nothing_is_held() -> None:
    index = PrefixIndex()
    index.insert("a:1", b"")
    index.set_capacity("b:1", 0)
    index.insert("b:1", hashes("ab"))
    assert (index.size, index.bytes_used, list(index.endpoints)) == (0, 0, [])
    assert index.match(b"", ENDPOINTS) == index.match(hashes("ab"), ENDPOINTS) == [0.0] * 5
    assert index.match(hashes("ab"), []) == []


@pytest.mark.parametrize("number", [1, 63, 64, 65, 300])
def test_pools_of_every_size(number: int) -> None:
    endpoints = [Endpoint(f"10.0.{at // 250}.{at % 250 + 1}", 8000) for at in range(number)]
    index = PrefixIndex(default_capacity=100)
    prompt = hashes("ab" * 20)
    for at, endpoint in enumerate(endpoints):
        index.insert(endpoint.key, prompt[: HASH_BYTES * (at % 3 * 7)])
    found = index.match(prompt, endpoints)
    assert [float(value) for value in found] == [at % 3 * 7.0 for at in range(number)]
    assert isinstance(found, list) == (number < 64)
    backwards = endpoints[::-1]
    assert list(index.match(prompt, backwards)) == list(found)[::-1]
    check(index)


def test_an_endpoint_that_comes_and_one_that_goes_are_seen_through_the_same_sequence() -> None:
    index = PrefixIndex()
    index.insert(KEYS[0], hashes("ab"))
    assert index.match(hashes("ab"), ENDPOINTS) == [2, 0, 0, 0, 0]
    index.insert(KEYS[1], hashes("ab"))
    assert index.match(hashes("ab"), ENDPOINTS) == [2, 2, 0, 0, 0]
    index.forget(KEYS[0])
    assert index.match(hashes("ab"), ENDPOINTS) == [0, 2, 0, 0, 0]
    index.insert(KEYS[2], hashes("a"))  # takes the place of the one that was forgotten
    assert index.match(hashes("ab"), ENDPOINTS) == [0, 2, 1, 0, 0]


def test_what_was_forgotten_is_given_back_by_and_by() -> None:
    index = PrefixIndex(default_capacity=10_000)
    for at in range(1000):
        index.insert("a:1", chain(b"%d" % at, 7, 8, 1))
    index.forget("a:1")
    assert index.size == 0
    assert index.bytes_used > 1000 * HASH_BYTES
    for _ in range(40):
        index.insert("b:1", hashes("a"))
    assert index.bytes_used < 1000
    check(index)


def test_endpoints_that_come_and_go_leave_nothing() -> None:
    index = PrefixIndex()
    for port in range(1000):
        index.insert(f"a:{port}", hashes("ab"))
        index.set_capacity(f"a:{port}", 50)
        index.began(f"a:{port}", 1.0)
        index.forget(f"a:{port}")
    assert len(index._tree.blocks) < 5  # holders, each of which widens every mask by a bit
    assert not index._capacities
    assert not index._began
    check(index)


def test_a_process_that_began_anew_holds_nothing() -> None:
    index = PrefixIndex()
    assert not index.began("a:1", 100.0)
    index.insert("a:1", hashes("ab"))
    assert not index.began("a:1", 100.0)
    assert index.matched(hashes("ab"), "a:1") == 2
    assert index.began("a:1", 160.0)
    assert index.matched(hashes("ab"), "a:1") == 0
    assert not index.began("a:1", 160.0)


def test_an_endpoint_whose_time_is_learned_later_keeps_what_it_has() -> None:
    index = PrefixIndex()
    index.insert("a:1", hashes("ab"))
    assert not index.began("a:1", 100.0)
    assert index.matched(hashes("ab"), "a:1") == 2


def test_only_the_pool_is_kept() -> None:
    index = PrefixIndex()
    for key in KEYS:
        index.set_capacity(key, 5)
        index.insert(key, hashes("ab"))
    index.retain(KEYS[:2])
    assert index.match(hashes("ab"), ENDPOINTS) == [2, 2, 0, 0, 0]
    assert (index.capacity(KEYS[1]), index.capacity(KEYS[2])) == (5, PrefixIndex().capacity(""))


@settings(deadline=None)
@given(
    bound=st.integers(0, 20_000),
    inserts=st.lists(st.tuples(keys, st.text("abcd", max_size=60).map(hashes)), max_size=150),
)
def test_the_bound_in_bytes_is_hard(bound: int, inserts: list[tuple[str, bytes]]) -> None:
    index = PrefixIndex(max_bytes=bound, default_capacity=1000)
    for key, prompt in inserts:
        index.insert(key, prompt)
        assert index.bytes_used <= bound
    check(index)


@settings(deadline=None)
@given(
    inserts=st.lists(st.tuples(keys, st.lists(st.sampled_from([b"%08d" % at for at in range(6)])).map(b"".join)), max_size=40)
)
def test_what_is_no_chain_breaks_nothing(inserts: list[tuple[str, bytes]]) -> None:
    index = PrefixIndex(default_capacity=9)
    for key, nonsense in inserts:
        index.insert(key, nonsense)
        found = index.match(nonsense, ENDPOINTS)
        assert all(0 <= value <= len(nonsense) // HASH_BYTES for value in found)
        assert all(tally <= 9 for tally in [index._tree.blocks[holder] for holder in index._holders.values()])
    for key in KEYS:
        index.forget(key)
    index.insert("a:1", b"")
    assert index.size == 0


def test_what_people_see() -> None:
    index = PrefixIndex(max_bytes=10_000, default_capacity=3)
    index.insert("a:1", hashes("ab"))
    index.insert("b:1", hashes("abba"))
    dump = index.dump()
    assert dump["endpoints"] == [
        {"endpoint": "b:1", "blocks": 3, "capacity": 3, "began_s": None},
        {"endpoint": "a:1", "blocks": 2, "capacity": 3, "began_s": None},
    ]
    assert (dump["blocks"], dump["distinct_blocks"], dump["runs"], dump["max_bytes"]) == (5, 3, 2, 10_000)
    assert repr(index) == f"<PrefixIndex endpoints=2 blocks=5 bytes={dump['bytes']}/10000>"
