from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from extproc.app.endpoints import EndpointsFile
from extproc.app.watching import FileErrors
from extproc.control.changes import Create, Delete
from extproc.files import watch
from extproc.observability.instruments import Instruments
from extproc.settings.base import SettingsError
from tests.app.running import until
from tests.control.desks import Bench, document
from tests.control.stores import Shaky


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.02})


async def soon(_: float) -> None:
    await asyncio.sleep(0.005)


class Fed:
    """A desk, and a feeder of it over a path."""

    def __init__(self, path: Path, bench: Bench, **words: Any) -> None:
        self.bench = bench
        self.instruments = Instruments()
        self.feeder = EndpointsFile(
            str(path), f"file:{path.name}", bench.desk, FileErrors(self.instruments), sleep=soon, **words
        )

    def errors(self) -> float:
        return sum(sample.value for metric in self.instruments.collect() for sample in metric.samples if "file" in metric.name)

    async def has(self, *names: str) -> None:
        async def holds() -> bool:
            return [record.name for record in self.bench.desk.list()] == list(names)

        await until(holds)

    async def is_broken(self, yes: bool = True) -> None:
        async def holds() -> bool:
            return (self.errors() > 0) is yes

        await until(holds)


@contextlib.asynccontextmanager
async def fed(path: Path, bench: Bench | None = None, **words: Any) -> AsyncIterator[Fed]:
    bench = Bench() if bench is None else bench
    if not bench.desk.opened:
        await bench.desk.open()
    made = Fed(path, bench, **words)
    await made.feeder.start()
    task = asyncio.ensure_future(made.feeder.run(asyncio.Event()))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(path: Path, *documents: object) -> None:
    path.write_text(json.dumps({"servingEndpoints": documents}))


async def test_what_a_file_says_is_served_and_followed(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path, document("one"), document("two"))
    async with fed(path) as it:
        await it.has("one", "two")
        assert it.bench.desk.get("one").owner == "file:endpoints.yaml"
        write(path, document("two", a=50, b=50), document("three"))
        await it.has("three", "two")
        assert it.bench.shares("two") == {"a": 50, "b": 50}
        write(path)
        await it.has()


async def test_a_folder_is_one_owner(tmp_path: Path) -> None:
    folder = tmp_path / "endpoints.d"
    folder.mkdir()
    (folder / "one.yaml").write_text(json.dumps(document("one")))
    (folder / "two.json").write_text(json.dumps([document("two")]))
    async with fed(folder) as it:
        await it.has("one", "two")
        (folder / "one.yaml").unlink()
        await it.has("two")
        (folder / "three.yml").write_text("name: three\nconfig: {served_entities: [{entity_name: model-Z}]}\n")
        with capture_logs() as logs:
            await it.is_broken()
        assert logs[-1]["problems"][0].startswith(
            "three.yml: line 2: config.served_entities[0].entity_name: got 'model-Z'; expected an entity that a pool serves"
        )
        assert [record.name for record in it.bench.desk.list()] == ["two"]


async def test_the_gateways_file_has_other_things_too(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("kind: Gateway\n")
    async with fed(path, in_gateway_file=True) as it:
        await it.has()
        path.write_text(f"kind: Gateway\nservingEndpoints: [{json.dumps(document('one'))}]\n")
        await it.has("one")
        path.write_text("kind: Gateway\n")
        await it.has()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("servingEndpoints: {}\n", "expected servingEndpoints with a list of endpoints"),
        ("", "there is nothing in it; to have no serving endpoints, write servingEndpoints: []"),
        ("a: [\n", "expected YAML or JSON"),
        ("- name: a b\n", "line 1: [0].name: got 'a b'; expected a name of 1 to 128 letters"),
        (
            "servingEndpoints:\n- name: one\n- name: two\n  config: 3\n",
            "line 4: servingEndpoints[1].config: got 3; expected an object",
        ),
        ("name: x\nconfig:\n  served_entities:\n  - entity_name: model-Z\n", "line 4: config.served_entities[0].entity_name"),
    ],
)
async def test_what_is_wrong_keeps_it_from_starting_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        async with fed(path):
            pass
    assert any(line.startswith(f"{path}: ") and said in line for line in raised.value.problems), raised.value.problems


async def test_what_goes_wrong_later_changes_nothing_and_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path, document("one"))
    async with fed(path) as it:
        with capture_logs() as logs:
            write(path, document("one"), document("two", a=1))
            await it.is_broken()
            for _ in range(20):
                await soon(0)
        assert [entry["event"] for entry in logs].count("watched file is broken, its last good content stays") == 1
        await it.has("one")
        write(path, document("one"))
        await it.is_broken(False)


async def test_a_file_that_was_refused_and_is_mended_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path)

    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    async with fed(path) as it:
        it.feeder._sleep = forever
        write(path, document("one", a=1))
        await it.is_broken()
        write(path, document("one"))
        await it.has("one")
        await it.is_broken(False)


async def test_a_name_that_somebody_else_has_is_taken_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path)
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Create(document("one")), "ann")
    async with fed(path, bench) as it:
        write(path, document("one"))
        await it.is_broken()
        assert bench.desk.get("one").owner == "api"
        await bench.desk.apply(Delete("one"), "ann")
        await it.is_broken(False)
        assert bench.desk.get("one").owner == "file:endpoints.yaml"


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path, document("one"))
    store = Shaky()
    bench = Bench(store, sleep=soon)
    await bench.desk.open()
    store.go()
    async with fed(path, bench) as it:
        await it.has()
        store.back()
        await it.has("one")


async def test_what_a_feeder_left_behind_can_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    write(path, document("one"))
    bench = Bench()
    async with fed(path, bench):
        pass
    await bench.desk.apply(Delete("one", whoever=True), "ann")
    assert bench.table.get("one") is None
