"""ConfigMaps of adapters on a fake API server, and what several of them say together."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from extproc.app.adapters.configmaps import LABELS, AdapterConfigMaps
from extproc.kubernetes.reflector import Change
from extproc.traffic import AdapterMap
from tests.discovery.kubernetes.at_work import AtWork, at_work, running
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import config_map

KIND = "configmaps"


class Router:
    """Whose adapters they are."""

    def __init__(self, it: AtWork, namespace: str) -> None:
        self.it = it
        self.fake = it.fake
        self.adapters = AdapterMap()
        self.maps = AdapterConfigMaps(self.take, it.contact, it.errors, namespace=namespace, reflector=it.reflector)

    def take(self, adapters: AdapterMap) -> None:
        self.adapters = adapters

    async def says(self, **bases: str) -> None:
        """Wait until these names have these bases."""
        await self.it.until(lambda: all(self.adapters.base_of(name) == base for name, base in bases.items()))

    def problem(self, name: str) -> str:
        return self.it.errors.of("ConfigMap", ("default", name)) or ""


@contextlib.asynccontextmanager
async def routed(directory: Path, fake: FakeKube | None = None, namespace: str = "") -> AsyncIterator[Router]:
    async with at_work(directory, fake) as it:
        router = Router(it, namespace)
        async with running(router.maps.run(it.client)):
            await it.until(lambda: router.maps.unready() is None)
            yield router


@pytest.mark.parametrize("label", LABELS)
async def test_each_label_of_upstream(tmp_path: Path, label: str) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("m", " llama ", "- a\n- 1\n- ' '\n- b", label=label.removesuffix("=true")))
        await router.says(a="llama", b="llama", llama="llama", c="", **{"1": "llama"})
        router.fake.put(KIND, config_map("m", "llama", "[a, c]", label=label.removesuffix("=true")))
        await router.says(a="llama", b="", c="llama")
        router.fake.delete(KIND, "m")
        await router.says(a="", llama="")


async def test_a_lost_label_removes(tmp_path: Path) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("m", "llama", "[a]"))
        await router.says(a="llama")
        router.fake.put(KIND, config_map("m", "llama", "[a]", label="inference-gateway.k8s.io/managed"))
        router.fake.put(KIND, config_map("n", "phi", "[p]"))
        await router.says(p="phi", a="llama")  # another of the labels is as good; each has a watch of its own
        router.fake.put(KIND, config_map("m", "llama", "[a]", label="none"))
        await router.says(a="")


async def test_another_label_leaves_no_gap(tmp_path: Path) -> None:
    """The watch that loses a ConfigMap may hear of it before the one that gets it."""
    async with at_work(tmp_path) as it:
        router = Router(it, "")
        key, says = ("default", "m"), config_map("m", "llama", "[a]")
        for before, after in itertools.pairwise([*LABELS, LABELS[0]]):
            router.maps._changed(before, Change({key: says}, frozenset()))
            router.maps._changed(before, Change({}, frozenset({key})))
            assert router.adapters.base_of("a") == "llama"
            router.maps._changed(after, Change({key: says}, frozenset()))
        assert not router.maps._leaving
        router.maps._changed(LABELS[0], Change({}, frozenset({key})))
        await router.says(a="")


async def test_several_for_a_base_model(tmp_path: Path) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("m", "llama", "[a, b]"))
        router.fake.put(KIND, config_map("n", "llama", "[b, c]"))
        await router.says(a="llama", b="llama", c="llama")
        router.fake.delete(KIND, "m")
        await router.says(a="", b="llama", c="llama")
        router.fake.put(KIND, config_map("n", "phi", "[b]"))
        await router.says(b="phi", llama="")


async def test_bad_yaml_keeps_what_that_config_map_said(tmp_path: Path) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("m", "llama", "[a]"))
        router.fake.put(KIND, config_map("n", "phi", "[p]"))
        await router.says(a="llama", p="phi")
        with capture_logs() as logs:
            router.fake.put(KIND, config_map("m", "llama", "[a"))
            await router.it.until(lambda: router.problem("m"))
            router.fake.put(KIND, config_map("n", "phi", "[q]"))
            await router.says(a="llama", p="", q="phi")
            router.fake.put(KIND, config_map("m", "llama", "[b]"))
            await router.says(a="", b="llama")

        assert [entry["event"] for entry in logs if entry["event"] != "adapters changed"] == [
            "object is wrong, its last good state stays",
            "object is good again",
        ]
        assert logs[0]["problem"].startswith("data.adapters: not a YAML list: line 2, column 1: expected YAML or JSON")
        assert router.it.metric("extproc_kubernetes_object_errors") == {}


async def test_two_owners_of_an_adapter(tmp_path: Path) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("old", "llama", "[a]"))
        router.fake.put(KIND, config_map("young", "phi", "[a, b]"))
        await router.says(a="llama", b="phi")
        wanted = "adapter 'a' belongs to base model 'llama' by the older ConfigMap default/old"
        await router.it.until(lambda: router.problem("young") == wanted)
        router.fake.delete(KIND, "old")
        await router.says(a="phi")

        assert not len(router.it.errors)


async def test_a_base_model_is_no_adapter(tmp_path: Path) -> None:
    async with routed(tmp_path) as router:
        router.fake.put(KIND, config_map("m", "llama", "[phi, llama, a]"))
        router.fake.put(KIND, config_map("n", "phi", "[]"))
        await router.says(phi="phi", a="llama", llama="llama")

        assert router.problem("m") == "adapter 'phi' is a base model itself"


async def test_one_namespace(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.put(KIND, config_map("m", "llama", "[a]", namespace="elsewhere"))
    fake.put(KIND, config_map("n", "phi", "[p]"))
    async with routed(tmp_path, fake, "default") as router:
        await router.says(p="phi", a="")


async def test_no_right(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.forbidden.add(("list", KIND))
    async with routed(tmp_path, fake) as router:  # is ready all the same
        fake.forbidden.clear()
        fake.put(KIND, config_map("m", "llama", "[a]"))
        await router.says(a="llama")
