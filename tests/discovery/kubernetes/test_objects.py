"""InferenceObjectives and InferenceModelRewrites on a fake API server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from extproc.discovery.kubernetes.objects import TrafficObjects
from extproc.discovery.kubernetes.traffic import PoolRef
from extproc.traffic import PoolTables
from tests.discovery.kubernetes.at_work import AtWork, at_work, running
from tests.fakes.chance import target_of
from tests.fakes.kube import FakeKube

GROUP = "inference.networking.k8s.io"
NEW = "llm-d.ai"
OLD = "inference.networking.x-k8s.io"


def objective(name: str, priority: Any = 0, *, pool: Any = "vllm", group: str = NEW, **ref: Any) -> dict[str, Any]:
    spec = {"priority": priority, "poolRef": {"group": GROUP, "kind": "InferencePool", "name": pool, **ref}}
    return {"apiVersion": f"{group}/v1alpha2", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def rewrite(name: str, *rules: tuple[list[str], list[Any]], pool: str = "vllm") -> dict[str, Any]:
    """Rules as (models, targets), a target being a model or a model and its weight."""
    spec = {
        "poolRef": {"name": pool},
        "rules": [
            {
                "matches": [{"model": {"type": "Exact", "value": model}} for model in models],
                "targets": [
                    {"modelRewrite": each} if isinstance(each, str) else {"modelRewrite": each[0], "weight": each[1]}
                    for each in targets
                ],
            }
            for models, targets in rules
        ],
    }
    return {"apiVersion": f"{NEW}/v1alpha2", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


class Watched:
    def __init__(self, it: AtWork) -> None:
        self.it = it
        self.fake = it.fake
        self.tables = PoolTables()
        self.objects = TrafficObjects(
            {PoolRef(GROUP, "vllm"): self.tables}, it.contact, it.errors, namespace="default", reflector=it.reflector
        )

    def objective(self, name: str, priority: Any = 0, *, group: str = NEW, **more: Any) -> None:
        self.fake.put(f"inferenceobjectives.{group}", objective(name, priority, group=group, **more))

    def rewrite(self, name: str, *rules: tuple[list[str], list[Any]], pool: str = "vllm") -> None:
        self.fake.put(f"inferencemodelrewrites.{NEW}", rewrite(name, *rules, pool=pool))

    async def priorities(self, **wanted: int) -> None:
        await self.it.until(
            lambda: all(self.tables.objectives.live.value.priority_of(name) == priority for name, priority in wanted.items())
        )

    async def targets(self, **wanted: str | None) -> None:
        table = self.tables.rewrites.live
        await self.it.until(lambda: all(target_of(table.value, model, lambda: 0.5) == to for model, to in wanted.items()))


@contextlib.asynccontextmanager
async def watched(directory: Path, fake: FakeKube | None = None) -> AsyncIterator[Watched]:
    async with at_work(directory, fake) as it:
        found = Watched(it)
        async with running(found.objects.run(it.client)):
            yield found


async def test_objectives_come_change_and_go(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        it.objective("high", 10)
        it.objective("low", -1)
        it.objective("unset", None)
        await it.priorities(high=10, low=-1, unset=0)
        it.objective("high", 5)
        it.fake.delete(f"inferenceobjectives.{NEW}", "low")
        await it.priorities(high=5, low=0)


async def test_objects_of_another_pool_are_ignored_and_said_once(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        with capture_logs() as logs:
            it.objective("theirs", 7, pool="other")
            it.fake.put(f"inferenceobjectives.{NEW}", objective("elsewhere", 7) | {"spec": foreign()})
            it.objective("mine", 3)
            await it.priorities(mine=3, theirs=0, elsewhere=0)
            it.objective("theirs", 8, pool="other")
            it.objective("mine", 4)
            await it.priorities(mine=4)

        said = [entry["name"] for entry in logs if entry["event"] == "object is for another pool, ignored"]
        assert sorted(said) == ["elsewhere", "theirs"]


def foreign() -> dict[str, Any]:
    """A pool of our pool's name in another group."""
    return {"priority": 7, "poolRef": {"group": OLD, "kind": "InferencePool", "name": "vllm"}}


async def test_the_old_group_counts_only_alone(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.missing.add(f"inferenceobjectives.{NEW}")
    async with watched(tmp_path, fake) as it:
        it.objective("a", 1, group=OLD)
        await it.priorities(a=1)
        fake.missing.clear()
        it.objective("b", 2)
        await it.priorities(a=0, b=2)


async def test_without_crds_everything_else_works(tmp_path: Path) -> None:
    fake = FakeKube()
    for group in (NEW, OLD):
        fake.missing.add(f"inferenceobjectives.{group}")
        fake.missing.add(f"inferencemodelrewrites.{group}")
    with capture_logs() as logs:
        async with watched(tmp_path, fake) as it:
            await it.it.until(lambda: len(it.it.metric("extproc_kubernetes_errors_total")) == 4)

    assert {entry["log_level"] for entry in logs} == {"info"}
    assert len(logs) == 4
    assert logs[0]["problem"].startswith("CRD inference")


async def test_with_upstreams_rights_the_new_group_is_a_warning_once_and_seen_when_the_right_comes(tmp_path: Path) -> None:
    """Upstream's Role has only the old group's kinds."""
    fake = FakeKube()
    for plural in ("inferenceobjectives", "inferencemodelrewrites"):
        fake.forbidden.add(("list", f"{plural}.{NEW}"))
    with capture_logs() as logs:
        async with watched(tmp_path, fake) as it:
            it.objective("a", 1, group=OLD)
            await it.priorities(a=1)
            await it.it.until(lambda: min(it.it.metric("extproc_kubernetes_errors_total").values(), default=0) >= 5)
            said = [(entry["log_level"], entry["effect"]) for entry in logs if "effect" in entry]
            assert sorted(said) == [  # whichever list is refused first
                ("warning", f"priorities by InferenceObjective of {NEW} are off; those of {OLD} count"),
                ("warning", f"rewrites by InferenceModelRewrite of {NEW} are off; those of {OLD} count"),
            ]
            fake.forbidden.clear()
            it.objective("a", 2)
            await it.priorities(a=2)
            await it.it.until(lambda: len(logs) == 4)

    assert [entry["event"] for entry in logs[2:]] == ["Kubernetes resource is watched"] * 2


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (objective("o", "high"), "spec.priority: expected a whole number of 32 bits (got 'high')"),
        (objective("o", 2**31), f"spec.priority: expected a whole number of 32 bits (got {2**31})"),
        (objective("o", 1, pool=""), "spec.poolRef.name: expected a pool's name (got '')"),
        (objective("o", 1, kind="Service"), "spec.poolRef.kind: expected InferencePool (got 'Service')"),
    ],
)
async def test_an_objective_that_is_wrong_keeps_its_last_state(tmp_path: Path, broken: dict[str, Any], problem: str) -> None:
    async with watched(tmp_path) as it:
        it.objective("o", 9)
        await it.priorities(o=9)
        it.fake.put(f"inferenceobjectives.{NEW}", broken)
        await it.it.until(lambda: it.it.errors.of("InferenceObjective", ("default", "o")) == problem)
        await it.priorities(o=9)
        it.fake.delete(f"inferenceobjectives.{NEW}", "o")
        await it.priorities(o=0)

        assert not len(it.it.errors)


async def test_rewrites_map_and_split(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        it.rewrite("r", (["a", "b"], ["x"]), (["c"], [("y", 90), ("z", 10)]))
        await it.targets(a="x", b="x", c="y", d=None)
        it.rewrite("later", ([], ["all"]), (["a"], ["other"]))  # exact before generic, the older object first
        await it.targets(a="x", d="all")
        it.fake.delete(f"inferencemodelrewrites.{NEW}", "r")
        await it.targets(a="other", b="all")
        it.rewrite("theirs", (["q"], ["x"]), pool="other")
        it.rewrite("later", (["w"], ["x"]))
        await it.targets(w="x", q=None)


async def test_a_rewrite_that_is_wrong_says_everything(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        it.rewrite("r", (["a"], ["x"]))
        await it.targets(a="x")
        it.rewrite("r", (["a"], [("x", 0)]), (["b"], []))
        wanted = "spec.rules[0].targets[0].weight: expected 1 to 1000000 (got 0); spec.rules[1].targets: expected at least one"
        await it.it.until(lambda: it.it.errors.of("InferenceModelRewrite", ("default", "r")) == wanted)
        await it.targets(a="x")


async def test_a_loop_is_walked_once_and_said(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        with capture_logs() as logs:
            it.rewrite("r", (["a"], ["b"]), (["b"], ["a"]))
            await it.targets(a="b", b="a")

        loops = [(entry["model"], entry["to"]) for entry in logs if entry["event"].startswith("a rewrite leads")]
        assert loops == [("a", "b"), ("b", "a")]
