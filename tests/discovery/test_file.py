from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.discovery.file import Entry, FileDiscovery, FileDiscoverySettings, parse_entries
from extproc.domain import Endpoint
from extproc.settings.base import SettingsError, validate
from tests.fakes.clock import FakeClock

from .resolver import Names

FILE = b"""\
# Written by the job that starts the servers.
endpoints:
  - name: gpu-0
    namespace: batch
    address: 10.0.0.1
    port: "8000"
    labels:
      llm-d.ai/engine-type: vllm
  - {name: gpu-1, address: "fd00::1", port: 8001}
"""


def problems(data: bytes) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_entries(data)
    return caught.value.problems


def shown(entries: Sequence[Entry]) -> list[tuple[str, str, str, dict[str, str]]]:
    return [(entry.where, entry.name, entry.namespace, dict(entry.labels)) for entry in entries]


def test_a_file() -> None:
    assert shown(parse_entries(FILE)) == [
        ("10.0.0.1:8000", "gpu-0", "batch", {"llm-d.ai/engine-type": "vllm"}),
        ("[fd00::1]:8001", "gpu-1", "default", {}),
    ]


def test_the_same_file_as_json() -> None:
    assert shown(parse_entries(json.dumps(yaml.safe_load(FILE)).encode())) == shown(parse_entries(FILE))


def test_a_file_that_says_that_there_is_nobody() -> None:
    assert parse_entries(b"endpoints: []") == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ["expected a map with the key endpoints (got nothing)"]),
        (b"- a", ["expected a map with the key endpoints (got ['a'])"]),
        (b"7", ["expected a map with the key endpoints (got 7)"]),
        (b"{}", ["endpoints: field required"]),
        (b"endpoints:", ["line 1: endpoints: field required"]),
        (b"endpoints: {}", ["line 1: endpoints: field required"]),
        (b"endpoints: [a]", ["line 1: endpoints[0]: expected a map with name, address and port (got 'a')"]),
        (b"endpoints: []\nversion: 1", ["line 2: version: unknown key"]),
        (b"1: 2", ["endpoints: field required", "[1]: keys should be strings (got 1)"]),
        (b"endpoints: [", ["line 2, column 1: expected YAML or JSON: did not find expected node content"]),
    ],
)
def test_files_that_cannot_be(data: bytes, expected: list[str]) -> None:
    assert problems(data) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": None}, "endpoints[0].name: field required"),
        ({"name": ""}, "endpoints[0].name: field required"),
        ({"name": 7}, "endpoints[0].name: input should be a valid string (got 7)"),
        ({"address": "gpu 0"}, "endpoints[0].address: expected an IP address or a host's name (got 'gpu 0')"),
        ({"address": "10.0.0.1:8000"}, "endpoints[0].address: expected an IP address or a host's name (got '10.0.0.1:8000')"),
        ({"address": "[fd00::1]"}, "endpoints[0].address: expected an IP address or a host's name (got '[fd00::1]')"),
        (
            {"address": "10.0.0.256"},
            "endpoints[0].address: expected an IPv4 address: four numbers of 0..255 (got '10.0.0.256')",
        ),
        ({"address": "fe80::1%eth0"}, "endpoints[0].address: expected an address without zone (got 'fe80::1%eth0')"),
        ({"metricsPort": 0}, "endpoints[0].metricsPort: expected a port in 1..65535 (got 0)"),
        ({"address": 167772161}, "endpoints[0].address: input should be a valid string (got 167772161)"),
        ({"port": 0}, "endpoints[0].port: expected a port in 1..65535 (got 0)"),
        ({"port": "65536"}, "endpoints[0].port: expected a port in 1..65535 (got '65536')"),
        ({"port": "http"}, "endpoints[0].port: expected a port in 1..65535 (got 'http')"),
        ({"port": "+80"}, "endpoints[0].port: expected a port in 1..65535 (got '+80')"),
        ({"port": 80.0}, "endpoints[0].port: expected a port in 1..65535 (got 80.0)"),
        ({"port": True}, "endpoints[0].port: expected a port in 1..65535 (got True)"),
        ({"labels": {"gpu": True}}, "endpoints[0].labels.gpu: input should be a valid string (got True)"),
        ({"labels": ["a"]}, "endpoints[0].labels: input should be a valid dictionary"),
        ({"adress": "10.0.0.1"}, "endpoints[0].adress: unknown key"),
    ],
)
def test_entries_that_cannot_be(change: dict[str, Any], expected: str) -> None:
    entry = {"name": "a", "address": "10.0.0.1", "port": 8000} | change

    assert problems(json.dumps({"endpoints": [entry]}).encode()) == [f"line 1: {expected}"]


def test_all_problems_at_once() -> None:
    data = b"""\
endpoints:
  - {name: a, address: 10.0.0.1, port: 1}
  - {address: no where, port: none}
  - {name: c, address: 10.0.0.3, port: 3, weight: 1}
kind: x
"""
    assert problems(data) == [
        "line 3: endpoints[1].name: field required",
        "line 3: endpoints[1].address: expected an IP address or a host's name (got 'no where')",
        "line 3: endpoints[1].port: expected a port in 1..65535 (got 'none')",
        "line 4: endpoints[2].weight: unknown key",
        "line 5: kind: unknown key",
    ]


def test_the_same_twice() -> None:
    data = b"""\
endpoints:
  - {name: a, address: "fd00::1", port: 1}
  - {name: b, address: "fd00:0::1", port: "1"}
  - {name: a, address: 10.0.0.1, port: 1}
  - {name: a, namespace: other, address: 10.0.0.2, port: 1}
"""
    assert problems(data) == [
        "line 3: endpoints[1]: the same address and port as endpoints[0] (got '[fd00::1]:1')",
        "line 4: endpoints[2]: the same name as endpoints[0] (got 'default/a')",
    ]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff"), max_size=8)
ENTRIES = st.fixed_dictionaries(
    {
        "name": TEXT.filter(bool),
        "address": st.ip_addresses().map(str),
        "port": st.one_of(st.integers(1, 65535), st.integers(1, 65535).map(str)),
    },
    optional={"namespace": TEXT.filter(bool), "labels": st.dictionaries(TEXT, TEXT, max_size=2)},
)


@given(
    st.lists(
        ENTRIES,
        max_size=4,
        unique_by=(
            lambda entry: (entry["name"], entry.get("namespace", "default")),
            lambda entry: (ipaddress.ip_address(str(entry["address"])), int(str(entry["port"]))),
        ),
    ),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(entries: list[dict[str, Any]], as_json: bool) -> None:
    document = {"endpoints": entries}
    data = json.dumps(document) if as_json else yaml.safe_dump(document, allow_unicode=True)

    found = shown(parse_entries(data.encode()))

    assert found == [
        (
            Endpoint(entry["address"], int(entry["port"])).key,
            entry["name"],
            entry.get("namespace", "default"),
            entry.get("labels", {}),
        )
        for entry in entries
    ]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["endpoints", "name", "address", "port", "labels", "x"]), inner, max_size=4),
    ),
    max_leaves=10,
)


@given(st.one_of(JSON, JSON.map(lambda value: {"endpoints": [value]})))
@settings(max_examples=200, deadline=None)
def test_any_document_is_endpoints_or_problems(document: Any) -> None:
    problems: list[str] = []
    try:
        parse_entries(json.dumps(document).encode())
    except SettingsError as error:
        problems = error.problems

    assert not any("\n" in problem for problem in problems)


# -- parameters --------------------------------------------------------------------------------------------------------


def test_parameters() -> None:
    assert validate(FileDiscoverySettings, {"path": "/etc/pool.yaml"}).watch_file is False
    assert validate(FileDiscoverySettings, {"path": "/etc/pool.yaml", "watchFile": True}).watch_file is True


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "path: field required"),
        ({"path": ""}, "path: field required"),
        ({"path": "/a", "watch_file": True}, "watch_file: unknown key"),
    ],
)
def test_parameters_that_cannot_be(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(FileDiscoverySettings, values)
    assert caught.value.problems == [problem]


# -- discovery ---------------------------------------------------------------------------------------------------------


class Pool:
    """A sink, and what is logged."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.errors: list[list[str]] = []
        self.good = 0
        self.endpoints: Sequence[Endpoint] = ()
        self.names: list[tuple[str, str | None]] = []
        self.twice = asyncio.Event()

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints
        self.told.append([endpoint.key for endpoint in endpoints])
        if len(self.told) == 2:
            self.twice.set()

    def on_error(self, problems: Sequence[str]) -> None:
        self.errors.append(list(problems))

    def on_good(self) -> None:
        self.good += 1

    def on_name(self, name: str, problem: str | None) -> None:
        self.names.append((name, problem))


def discovery(path: Path, pool: Pool, *, watch: bool = True, clock: FakeClock | None = None) -> FileDiscovery:
    return FileDiscovery(
        FileDiscoverySettings.model_validate({"path": str(path), "watchFile": watch}),
        pool,
        on_error=pool.on_error,
        on_good=pool.on_good,
        clock=clock or FakeClock(),
        sleep=lambda seconds: asyncio.sleep(0),
    )


def entry(number: int) -> str:
    return f"{{name: gpu-{number}, address: 10.0.0.{number}, port: 8000}}"


def test_the_first_load(tmp_path: Path) -> None:
    path, pool = tmp_path / "pool.yaml", Pool()
    path.write_bytes(FILE)

    discovery(path, pool).load()

    assert pool.told == [["10.0.0.1:8000", "[fd00::1]:8001"]]


def test_a_first_load_that_fails(tmp_path: Path) -> None:
    path, pool = tmp_path / "pool.yaml", Pool()
    path.write_text("endpoints: [{name: a}]")

    with pytest.raises(SettingsError) as caught:
        discovery(path, pool).load()

    assert caught.value.problems == [
        f"{path}: line 1: endpoints[0].address: field required",
        f"{path}: line 1: endpoints[0].port: field required",
    ]
    assert pool.told == []


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    path.write_bytes(FILE + b"#" * 2**20)

    with pytest.raises(SettingsError) as caught:
        discovery(path, Pool()).load()

    assert caught.value.problems == [f"{path}: larger than 1048576 bytes"]


def test_a_broken_file_keeps_the_last_good_pool(tmp_path: Path) -> None:
    path, pool, clock = tmp_path / "pool.yaml", Pool(), FakeClock()
    path.write_text(f"endpoints: [{entry(1)}]")
    files = discovery(path, pool, clock=clock)
    files.load()

    for text in (f"endpoints: [{entry(1)}, {entry(2)}", f"endpoints: [{entry(1)}, {entry(2)}]", "", "endpoints: []"):
        clock.advance(0.5)
        path.write_text(text)
        files.watcher.poll()
        files.watcher.poll()

    assert pool.told == [["10.0.0.1:8000"], ["10.0.0.1:8000", "10.0.0.2:8000"], []]
    assert [len(problems) for problems in pool.errors] == [1, 1]
    assert pool.good == 3
    assert files.watcher.error_since_s is None


async def test_a_watched_file_is_read_again(tmp_path: Path) -> None:
    path, pool = tmp_path / "pool.yaml", Pool()
    path.write_text(f"endpoints: [{entry(1)}]")
    files = discovery(path, pool)
    files.load()
    task = asyncio.create_task(files.run())
    path.write_text(f"endpoints: [{entry(2)}]")
    async with asyncio.timeout(5):
        await pool.twice.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert pool.told == [["10.0.0.1:8000"], ["10.0.0.2:8000"]]


async def test_a_file_that_is_not_watched_is_read_once(tmp_path: Path) -> None:
    path, pool = tmp_path / "pool.yaml", Pool()
    path.write_bytes(FILE)
    files = discovery(path, pool, watch=False)
    files.load()
    path.unlink()

    await files.run()

    assert len(pool.told) == 1
    assert pool.errors == []


# -- names -------------------------------------------------------------------------------------------------------------


class Named:
    """A file whose addresses are names, in a discovery that runs; time passes when the test says so."""

    def __init__(self, path: Path, names: Names, *, watch: bool = True) -> None:
        self.path = path
        self.pool = Pool()
        self.names = names
        self._pauses: list[tuple[float, asyncio.Future[None]]] = []
        self.discovery = FileDiscovery(
            FileDiscoverySettings.model_validate({"path": str(path), "watchFile": watch}),
            self.pool,
            on_error=self.pool.on_error,
            on_good=self.pool.on_good,
            on_name=self.pool.on_name,
            resolver=names,
            clock=FakeClock(),
            sleep=self._sleep,
        )
        self.discovery.load()

    async def _sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._pauses.append((seconds, future))
        await future

    async def resolved(self) -> None:
        """Let the names be asked for once more."""
        await self._wake(5.0)
        await self.until_paused()

    async def until_paused(self) -> None:
        async with asyncio.timeout(5):
            while not any(seconds == 5.0 and not future.done() for seconds, future in self._pauses):  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def write(self, text: str) -> None:
        """And let the watcher see it, and see it again."""
        self.path.write_text(text)
        before = len(self.pool.told)
        async with asyncio.timeout(5):
            while len(self.pool.told) == before:
                await self._wake(0.5)
                await self._wake(0.25)
                await asyncio.sleep(0)

    async def _wake(self, wanted: float) -> None:
        for seconds, future in self._pauses:
            if seconds == wanted and not future.done():
                future.set_result(None)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Named:
        self._task = asyncio.create_task(self.discovery.run())
        await self.until_paused()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
        assert asyncio.all_tasks() == {asyncio.current_task()}


NAMED = """\
endpoints:
- {name: a, address: GPU-0.example., port: 8000, metricsPort: 9400, labels: {k: v}}
- {name: b, address: 10.0.0.9, port: "8000", metricsPort: "9401"}
"""


async def test_names_are_resolved_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(NAMED)
    names = Names(**{"gpu-0.example": ["10.0.0.1"]})
    named = Named(tmp_path / "f", names, watch=False)
    assert named.pool.told == []
    async with named:
        assert named.pool.told == [["10.0.0.1:8000", "10.0.0.9:8000"]]
        assert [(each.name, each.metrics_port) for each in named.pool.endpoints] == [("a", 9400), ("b", 9401)]
        names.names["gpu-0.example"] = ["10.0.0.2", "10.0.0.3"]
        await named.resolved()
        await named.resolved()
        names.names["gpu-0.example"] = "try again"
        await named.resolved()

        assert named.pool.told[1:] == [["10.0.0.2:8000", "10.0.0.3:8000", "10.0.0.9:8000"]]
        assert [each.name for each in named.pool.endpoints] == ["a@10.0.0.2", "a@10.0.0.3", "b"]
        assert [dict(each.labels) for each in named.pool.endpoints] == [{"k": "v"}, {"k": "v"}, {}]
        assert named.pool.names == [("gpu-0.example", "try again")]


async def test_a_watched_file_gets_other_names(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("endpoints: [{name: a, address: a, port: 1}]")
    async with Named(tmp_path / "f", Names(a=["10.0.0.1"], b=["10.0.0.2"])) as named:
        await named.write("endpoints: [{name: a, address: b, port: 1}]")
        await named.until_paused()
        await named.write("endpoints: [{name: a, address: 10.0.0.3, port: 1}]")
        await named.write("endpoints: [{name: a, address: 10.0.0.3, port: 1, metricsPort: 2}]")

        assert named.pool.told == [["10.0.0.1:1"], ["10.0.0.2:1"], ["10.0.0.3:1"], ["10.0.0.3:1"]]
        assert named.pool.endpoints[0].metrics_port == 2


async def test_a_pool_is_not_emptied_by_names_that_do_not_resolve(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("endpoints: [{name: a, address: 10.0.0.1, port: 1}]")
    names = Names()
    named = Named(tmp_path / "f", names)
    task = asyncio.create_task(named.discovery.run())
    (tmp_path / "f").write_text("endpoints: [{name: a, address: nobody, port: 1}]")
    async with asyncio.timeout(5):
        while not named.pool.names:
            await named._wake(0.5)
            await named._wake(0.25)
    await named.until_paused()

    assert named.pool.told == [["10.0.0.1:1"]]
    names.names["nobody"] = ["10.0.0.4"]
    await named.resolved()
    assert named.pool.told == [["10.0.0.1:1"], ["10.0.0.4:1"]]
    assert named.pool.names == [("nobody", "unknown host"), ("nobody", None)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
