"""ConfigMaps of serving endpoints on a fake API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from extproc.app import build
from extproc.app.endpoints import ServingEndpoints
from extproc.app.endpoints.configmaps import LABEL, EndpointConfigMaps
from extproc.control.changes import Create, Declare, Delete
from extproc.kubernetes.api import Json
from extproc.settings.commands import GatewaySettings
from tests.app.running import part
from tests.app.running import running as service_running
from tests.app.test_edited_files import GATEWAY, HERE
from tests.control.desks import Bench, document
from tests.control.stores import Shaky
from tests.discovery.kubernetes.at_work import AtWork, at_work, running
from tests.fakes.kube import FakeKube

KIND = "configmaps"


def config_map(name: str, *documents: object, label: str = LABEL, namespace: str = "default", text: str = "") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {label.removesuffix("=true"): "true"}},
        "data": {"endpoints.yaml": text or json.dumps({"servingEndpoints": documents})},
    }


async def soon(_: float) -> None:
    await asyncio.sleep(0.005)


class Fed:
    """A desk and the ConfigMaps that feed it."""

    def __init__(self, it: AtWork, bench: Bench) -> None:
        self.it = it
        self.fake = it.fake
        self.bench = bench
        self.maps = EndpointConfigMaps(
            bench.desk, it.contact, it.errors, namespace="default", reflector=it.reflector, sleep=soon
        )

    async def has(self, **owners: str) -> None:
        """Wait until these endpoints are there, of these ConfigMaps."""
        wanted = {name: f"configmap:default/{owner}" for name, owner in owners.items()}
        await self.it.until(lambda: {record.name: record.owner for record in self.bench.desk.list()} == wanted)

    async def says(self, name: str, problem: str) -> None:
        await self.it.until(lambda: problem in (self.it.errors.of("ConfigMap", ("default", name)) or ""))

    async def is_well(self) -> None:
        await self.it.until(lambda: not len(self.it.errors))


@contextlib.asynccontextmanager
async def fed(directory: Path, bench: Bench | None = None, fake: FakeKube | None = None) -> AsyncIterator[Fed]:
    bench = Bench() if bench is None else bench
    if not bench.desk.opened:
        await bench.desk.open()
    async with at_work(directory, fake) as it:
        made = Fed(it, bench)
        assert made.maps.unready() is not None
        async with running(made.maps.run(it.client)):
            await it.until(lambda: made.maps.unready() is None)
            yield made


async def test_config_maps_come_change_and_go(tmp_path: Path) -> None:
    async with fed(tmp_path) as it:
        it.fake.put(KIND, config_map("m", document("one"), document("two")))
        it.fake.put(KIND, config_map("n", document("three")))
        it.fake.put(KIND, config_map("unlabelled", document("none"), label="other"))
        it.fake.put(KIND, config_map("elsewhere", document("none"), namespace="other"))
        await it.has(one="m", two="m", three="n")
        it.fake.put(KIND, config_map("m", document("two", a=50, b=50)))
        await it.has(two="m", three="n")
        assert it.bench.shares("two") == {"a": 50, "b": 50}
        it.fake.delete(KIND, "n")
        await it.has(two="m")


async def test_what_is_wrong_leaves_what_it_said_and_the_others(tmp_path: Path) -> None:
    async with fed(tmp_path) as it:
        it.fake.put(KIND, config_map("m", document("one")))
        await it.has(one="m")
        it.fake.put(KIND, config_map("m", text="servingEndpoints: ["))
        await it.says("m", "data.endpoints.yaml: line ")
        it.fake.put(KIND, config_map("n", document("two")))
        await it.has(one="m", two="n")
        it.fake.put(KIND, config_map("m", document("one", a=1)))
        await it.says("m", "data.endpoints.yaml: line 1: servingEndpoints[0].config.traffic_config.routes: got 1 = 1; expected")
        await it.has(one="m", two="n")
        it.fake.put(KIND, config_map("m", document("new")))
        await it.has(new="m", two="n")
        await it.is_well()


async def test_one_that_is_refused_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    async with fed(tmp_path) as it:
        it.maps._sleep = forever
        it.fake.put(KIND, config_map("m", document("one", a=1)))
        await it.says("m", "expected shares that add up to 100")
        it.fake.put(KIND, config_map("n", document("two")))
        await it.has(two="n")


async def test_of_two_with_one_name_the_second_waits_for_the_first_to_let_go(tmp_path: Path) -> None:
    async with fed(tmp_path) as it:
        it.fake.put(KIND, config_map("m", document("one")))
        await it.has(one="m")
        it.fake.put(KIND, config_map("n", document("one")))
        await it.says("n", "the endpoint 'one' is declared by configmap:default/n and belongs to configmap:default/m")
        it.fake.delete(KIND, "m")
        await it.has(one="n")
        await it.is_well()


async def test_what_went_while_nobody_looked_is_noticed(tmp_path: Path) -> None:
    bench = Bench()
    await bench.desk.open()
    for owner in ("configmap:default/gone", "configmap:default/there"):
        await bench.desk.apply(Declare(owner, [document(owner.rpartition("/")[2])]), owner)
    fake = FakeKube()
    fake.put(KIND, config_map("there", document("there")))
    async with fed(tmp_path, bench, fake) as it:
        await it.has(there="there")


async def test_other_namespaces_and_owners_are_left_alone(tmp_path: Path) -> None:
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Declare("configmap:other/m", [document("theirs")]), "x")
    await bench.desk.apply(Create(document("apis")), "ann")
    async with fed(tmp_path, bench) as it:
        it.fake.put(KIND, config_map("m", document("one")))
        await it.it.until(lambda: len(bench.desk.list()) == 3)
        await bench.desk.apply(Delete("apis"), "ann")


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    store = Shaky()
    bench = Bench(store, sleep=soon)
    await bench.desk.open()
    async with fed(tmp_path, bench) as it:
        store.go()
        it.fake.put(KIND, config_map("m", document("one")))
        await it.it.until(lambda: bench.desk.lost)
        store.back()
        await it.has(one="m")


async def test_who_may_not_read_them_serves_without(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.forbidden.add(("*", KIND))
    async with fed(tmp_path, fake=fake) as it:
        await it.has()


@pytest.mark.parametrize("namespace", [None, "other"])
async def test_a_gateway_is_fed_by_config_maps(tmp_path: Path, namespace: str | None) -> None:
    fake = FakeKube()
    await fake.start()
    for where in ("default", "other"):
        one = {"name": where, "config": {"served_entities": [{"entity_name": "llama"}]}}
        fake.put(KIND, config_map("m", one, namespace=where))
    config = tmp_path / "gateway.yaml"
    config.write_text(GATEWAY.replace("adaptersFile: adapters.yaml\n", ""))
    (tmp_path / "kubeconfig").write_text(fake.kubeconfig())
    words: dict[str, Any] = {"kubeconfig": str(tmp_path / "kubeconfig"), "endpoint_configmaps_namespace": namespace}
    service = build(GatewaySettings(**HERE, config_file=str(config), endpoint_configmaps=True, **words))
    try:
        with capture_logs():
            async with service_running(service), asyncio.timeout(10):
                while service.unready() is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                names = [record.name for record in part(service, ServingEndpoints).desk.list()]
                assert names == [namespace or "default"]
    finally:
        await fake.kill()
