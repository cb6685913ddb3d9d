from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.discovery.names import MAX_NAMES, resolve
from extproc.discovery.static import StaticDiscovery, Target, parse_targets
from extproc.domain import Endpoint
from extproc.settings.base import SettingsError, shown

from .resolver import Names

EXPECTED = "expected host:port, such as 10.0.0.1:8000, [fd00::1]:8000 or vllm.example:8000"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.0.0.1:8000", Target("10.0.0.1", 8000)),
        (" 10.0.0.1:1 ", Target("10.0.0.1", 1)),
        ("[fd00::1]:65535", Target("fd00::1", 65535)),
        ("[FD00:0:0::1]:8000", Target("fd00::1", 8000)),
        ("localhost:8000", Target("localhost", 8000)),
        ("VLLM-0.vllm.default.svc.cluster.local.:8000", Target("vllm-0.vllm.default.svc.cluster.local", 8000)),
        ("model_server:8000", Target("model_server", 8000)),
        ("4090-box:8000", Target("4090-box", 8000)),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert parse_targets([text]) == (target,)
    assert parse_targets([str(target)]) == (target,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", EXPECTED),
        ("10.0.0.1", EXPECTED),
        (":8000", EXPECTED),
        ("10.0.0.1:", EXPECTED),
        ("10.0.0.1:http", EXPECTED),
        ("10.0.0.1:-1", EXPECTED),
        ("10.0.0.1:٨٠", EXPECTED),
        ("http://10.0.0.1:8000", EXPECTED),
        ("a b:8000", EXPECTED),
        ("-a:8000", EXPECTED),
        ("a..b:8000", EXPECTED),
        ("x" * 64 + ":8000", EXPECTED),
        (".".join(["x" * 60] * 5) + ":8000", EXPECTED),
        ("10.0.0.1:0", "expected a port in 1..65535"),
        ("10.0.0.1:65536", "expected a port in 1..65535"),
        ("10.0.0.256:8000", "expected an IPv4 address: four numbers of 0..255"),
        ("10.0.1:8000", "expected an IPv4 address: four numbers of 0..255"),
        ("fd00::1:8000", "expected brackets around an IPv6 address, such as [fd00::1]:8000"),
        ("[10.0.0.1]:8000", "expected an IPv6 address without zone between the brackets"),
        ("[fe80::1%eth0]:8000", "expected an IPv6 address without zone between the brackets"),
        ("[host]:8000", "expected an IPv6 address without zone between the brackets"),
    ],
)
def test_targets_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_targets([text], path="--endpoints")

    assert caught.value.problems == [f"--endpoints[0]: {problem} (got {shown(text)})"]


def test_all_problems_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_targets(["a:1", "b", "A:1", "c:0", "[::1]:2", "[0::1]:2"])

    assert caught.value.problems == [
        f"endpoints[1]: {EXPECTED} (got 'b')",
        "endpoints[2]: the same as endpoints[0] (got 'A:1')",
        "endpoints[3]: expected a port in 1..65535 (got 'c:0')",
        "endpoints[5]: the same as endpoints[4] (got '[0::1]:2')",
    ]


def test_a_text_with_commas() -> None:
    assert parse_targets("a:1, b:2,\n[::1]:3,") == (Target("a", 1), Target("b", 2), Target("::1", 3))
    assert parse_targets("") == ()


PORTS = st.integers(1, 65535)


@given(st.lists(st.builds(Target, st.ip_addresses().map(str), PORTS), unique=True, max_size=5))
def test_addresses_are_read_as_they_are_shown(targets: list[Target]) -> None:
    assert parse_targets([str(target) for target in targets]) == tuple(targets)


@given(st.lists(st.text("a1.:-[]% é,", max_size=12), max_size=3))
def test_any_text_is_targets_or_problems(entries: list[str]) -> None:
    found = 0
    try:
        found = len(parse_targets(entries))
    except SettingsError as error:
        found = len(entries) if error.problems else -1

    assert found == len(entries)


# -- discovery ---------------------------------------------------------------------------------------------------------


class Rounds:
    """A sleep that ends when the test says so; asserts how long it would be."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        assert seconds == 5.0
        self.asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def next(self) -> None:
        """Let one more round happen, up to its sleep."""
        async with asyncio.timeout(5):
            await self.asleep.wait()
            self.asleep.clear()
            self._wake.set()
            await self.asleep.wait()


class Pool:
    """A sink, and what is logged."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.endpoints: Sequence[Endpoint] = ()
        self.errors: list[tuple[str, str | None]] = []

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self.told.append([endpoint.key for endpoint in endpoints])

    def on_error(self, name: str, problem: str | None) -> None:
        self.errors.append((name, problem))


def discovery(entries: str, pool: Pool, names: Names, rounds: Rounds, *, timeout_s: float = 5.0) -> StaticDiscovery:
    return StaticDiscovery(
        parse_targets(entries), pool, on_error=pool.on_error, resolver=names, sleep=rounds, timeout_s=timeout_s
    )


class Running:
    """The discovery in a task, with its first round done."""

    def __init__(self, entries: str, names: Names, *, timeout_s: float = 5.0) -> None:
        self.pool = Pool()
        self.names = names
        self.rounds = Rounds()
        self.discovery = discovery(entries, self.pool, names, self.rounds, timeout_s=timeout_s)

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.discovery.run())
        async with asyncio.timeout(5):
            await self.rounds.asleep.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_addresses_are_told_once_and_that_is_all() -> None:
    pool, names = Pool(), Names()

    await discovery("10.0.0.2:8000, [::1]:8000, 10.0.0.1:8000", pool, names, Rounds()).run()

    assert pool.told == [["10.0.0.2:8000", "[::1]:8000", "10.0.0.1:8000"]]
    assert names.asked == []


async def test_an_empty_list_is_an_empty_pool() -> None:
    pool = Pool()

    await discovery("", pool, Names(), Rounds()).run()

    assert pool.told == [[]]


async def test_names() -> None:
    async with Running("a:1, 10.0.0.9:2, b:3, b:4", Names(a=["10.0.0.1"], b=["10.0.0.2", "10.0.0.3"])) as running:
        assert running.pool.told == [["10.0.0.1:1", "10.0.0.9:2", "10.0.0.2:3", "10.0.0.3:3", "10.0.0.2:4", "10.0.0.3:4"]]
        assert [endpoint.name for endpoint in running.pool.endpoints][:3] == ["a:1", "10.0.0.9:2", "b:3@10.0.0.2"]
        assert sorted(running.names.asked) == ["a", "b"]
        assert repr(running.discovery) == "<StaticDiscovery 4 targets, 6 endpoints, 0 names failing>"


async def test_only_changes_are_told() -> None:
    async with Running("a:1", Names(a=["10.0.0.1"])) as running:
        await running.rounds.next()
        running.names.names["a"] = ["10.0.0.2"]
        await running.rounds.next()
        await running.rounds.next()

        assert running.pool.told == [["10.0.0.1:1"], ["10.0.0.2:1"]]


async def test_two_entries_with_one_address_are_one_endpoint() -> None:
    async with Running("a:1, b:1", Names(a=["10.0.0.1"], b=["10.0.0.1", "10.0.0.2"])) as running:
        assert running.pool.told == [["10.0.0.1:1", "10.0.0.2:1"]]


async def test_a_name_that_fails_keeps_its_addresses() -> None:
    async with Running("a:1, b:1", Names(a=["10.0.0.1"], b=["10.0.0.2"])) as running:
        running.names.names |= {"a": "try again", "b": ["10.0.0.3"]}
        await running.rounds.next()
        await running.rounds.next()
        running.names.names["a"] = []
        await running.rounds.next()
        running.names.names["a"] = ["10.0.0.4"]
        await running.rounds.next()

        assert running.pool.told == [
            ["10.0.0.1:1", "10.0.0.2:1"],
            ["10.0.0.1:1", "10.0.0.3:1"],
            ["10.0.0.4:1", "10.0.0.3:1"],
        ]
        assert running.pool.errors == [("a", "try again"), ("a", "no addresses"), ("a", None)]


async def test_a_name_that_never_was_known_is_tried_again() -> None:
    async with Running("a:1, 10.0.0.9:1", Names()) as running:
        assert running.pool.told == [["10.0.0.9:1"]]
        assert running.pool.errors == [("a", "unknown host")]
        running.names.names["a"] = ["10.0.0.1"]
        await running.rounds.next()

        assert running.pool.told[1:] == [["10.0.0.1:1", "10.0.0.9:1"]]


def test_names_are_bounded() -> None:
    entries = [f"a{number}:1" for number in range(MAX_NAMES + 1)]

    assert len(parse_targets(entries[1:])) == MAX_NAMES
    with pytest.raises(SettingsError) as caught:
        parse_targets(entries)
    assert caught.value.problems == ["endpoints: expected at most 1000 names to resolve (got 1001)"]


async def test_addresses_of_a_name_are_bounded() -> None:
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(300)]
    async with Running("a:1", Names(a=addresses)) as running:
        assert running.pool.told == [[f"{address}:1" for address in addresses[:256]]]
        assert running.pool.errors == [("a", "300 addresses, of which the first 256 count")]


async def test_few_names_are_asked_for_at_once() -> None:
    names = Names(**{f"a{number}": [f"10.0.0.{number}"] for number in range(30)})
    async with Running(",".join(f"a{number}:1" for number in range(30)), names) as running:
        assert len(running.pool.told[-1]) == 30
        assert names.most_at_once == 8


async def test_a_resolver_that_hangs_holds_up_nobody_for_long() -> None:
    async with Running("a:1, b:1", Names(a=None, b=["10.0.0.2"]), timeout_s=0.01) as running:
        assert running.pool.told == [["10.0.0.2:1"]]
        assert running.pool.errors == [("a", "no answer in 0.01 s")]


class TestTheSystemsResolver:
    async def test_a_name_with_both_families_has_only_its_ipv4_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0)),
        ]
        self.answer(monkeypatch, found)

        assert await resolve("name") == ["10.0.0.1", "10.0.0.2"]

    async def test_ipv6_only_and_without_zones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 0, 0, 0)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 2)),
        ]
        self.answer(monkeypatch, found)

        assert await resolve("name") == ["fd00::1"]

    async def test_localhost(self) -> None:
        assert await resolve("localhost") in (["127.0.0.1"], ["::1"])

    @staticmethod
    def answer(monkeypatch: pytest.MonkeyPatch, found: list[Any]) -> None:
        async def getaddrinfo(*_: object, **__: object) -> list[Any]:
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
