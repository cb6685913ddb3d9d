"""Against a fake API server over real connections; pauses are the test's."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.kubernetes import reflector as module
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.reflector import Reflector, Resource, identify
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import POOLS, config_map, pod, pool
from tests.kubernetes.mirror import Mirror, Notes

PODS = Resource("pods", namespace="default")


class Reflected:
    """A fake server, a reflector at work, and what it told."""

    def __init__(self, fake: FakeKube, client: KubeClient, resource: Resource) -> None:
        self.fake = fake
        self.mirror = Mirror()
        self.notes = Notes()
        self.pauses: list[float] = []
        self.reflector = Reflector(client, resource, self.mirror, self.notes, sleep=self._sleep, draw=lambda: 1.0)
        self.task = asyncio.create_task(self.reflector.run())

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition() and not self.task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        if self.task.done():
            self.task.result()

    async def same(self) -> None:
        """Wait until what was told is what the server has."""
        await self.until(lambda: self.mirror.objects == self.fake.objects.get(self.reflector.resource.name, {}))

    async def watching(self) -> None:
        await self.until(lambda: self.fake.watching(self.reflector.resource.name) > 0)


@contextlib.asynccontextmanager
async def reflected(directory: Path, resource: Resource = PODS, fake: FakeKube | None = None) -> AsyncIterator[Reflected]:
    fake = fake or FakeKube()
    await fake.start()
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(fake.kubeconfig())
    client = await KubeClient.connect(str(kubeconfig))
    it = Reflected(fake, client, resource)
    try:
        yield it
    finally:
        it.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await it.task
        await client.close()
        await fake.kill()


async def test_nothing_there_is_told_too(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()

        assert it.reflector.synced
        assert len(it.mirror.changes) == 1
        assert it.notes.heard[:1] == ["listed start"]


async def test_objects_come_change_and_go(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        it.fake.put("pods", pod("a"))
        await it.watching()
        it.fake.put("pods", pod("b"))
        await it.same()
        it.fake.put("pods", pod("a", ready=False))
        it.fake.delete("pods", "b")
        await it.same()

        assert it.mirror.names == {"a"}
        assert not it.pauses


async def test_a_list_comes_in_pages_and_as_one_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 3)
    fake = FakeKube()
    for number in range(10):
        fake.put("pods", pod(f"p{number}"))
    async with reflected(tmp_path, fake=fake) as it:
        await it.watching()

        lists = [query for _, _, query in fake.requests if "watch" not in query]
        assert [("continue" in query, query["limit"]) for query in lists] == [(False, "3")] + [(True, "3")] * 3
        assert it.mirror.sizes == [10]


async def test_pages_that_expire_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 1)
    fake = FakeKube()
    fake.put("pods", pod("a"))
    fake.put("pods", pod("b"))
    once = [fake.expire]
    original = fake._list

    def listing(place: object, query: object) -> object:
        found = original(place, query)  # type: ignore[arg-type]
        if once:
            once.pop()()
        return found

    monkeypatch.setattr(fake, "_list", listing)
    async with reflected(tmp_path, fake=fake) as it:
        await it.watching()

        assert it.mirror.sizes == [2]
        assert not it.pauses


async def test_a_cut_watch_goes_on_from_where_it_was(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()
        it.fake.put("pods", pod("a"))
        await it.same()
        it.fake.cut()
        it.fake.put("pods", pod("b"))
        it.fake.delete("pods", "a")
        await it.same()

        assert it.notes.heard.count("listed start") == 1
        assert "watch cut" in it.notes.heard
        assert not any(note.startswith("listed expired") for note in it.notes.heard)


@pytest.mark.parametrize("as_event", [True, False])
async def test_an_expired_version_lists_again_without_a_gap(tmp_path: Path, as_event: bool) -> None:
    async with reflected(tmp_path) as it:
        it.fake.expire_as_event = as_event
        for name in "abc":
            it.fake.put("pods", pod(name))
        await it.watching()
        await it.same()
        it.mirror.changes.clear()
        it.mirror.sizes.clear()
        it.fake.cut()
        it.fake.delete("pods", "a")
        it.fake.put("pods", pod("d"))
        it.fake.expire()
        await it.same()

        assert "listed expired" in it.notes.heard
        assert it.mirror.sizes == [3]  # one step, never fewer
        assert {name for _, name in it.mirror.changes[0].put} == {"d"}  # b and c are as they were


async def test_bookmarks_move_the_version(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()
        it.fake.put(POOLS, pool())  # moves the server's version, not the pods'
        it.fake.bookmark()
        await it.until(lambda: "1 BOOKMARK" in it.notes.heard)
        it.fake.cut()
        await it.until(lambda: it.notes.heard.count("watching") == 2)

        assert it.fake.requests[-1][2]["resourceVersion"] == str(it.fake.version)


async def test_the_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        it.fake.put("pods", pod("a"))
        it.fake.put("pods", pod("b"))
        await it.watching()
        await it.same()
        await it.fake.kill()
        await it.until(lambda: it.notes.heard.count("watch unreachable") > 2)
        assert it.mirror.names == {"a", "b"}
        it.fake.delete("pods", "a")
        await it.fake.start()
        await it.same()

        assert it.mirror.sizes == [2, 1]


async def test_pauses_grow_and_begin_anew(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()
        it.fake.failures["pods"] = 500
        it.fake.cut()
        await it.until(lambda: len(it.pauses) >= 7)
        assert it.pauses[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
        it.fake.failures.clear()
        await it.watching()
        it.fake.put("pods", pod("a"))
        await it.same()
        it.pauses.clear()
        it.fake.cut()
        await it.until(lambda: bool(it.pauses))

        assert it.pauses[0] == 0.2


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_no_right(tmp_path: Path, verb: str) -> None:
    fake = FakeKube()
    fake.forbidden.add((verb, "pods"))
    async with reflected(tmp_path, fake=fake) as it:
        await it.until(lambda: it.notes.heard.count(f"{verb} 403") > 8)
        assert it.reflector.settled
        assert max(it.pauses) == 15.0
        fake.forbidden.clear()
        fake.put("pods", pod("a"))
        await it.same()

        assert it.reflector.refusal is None or it.reflector.synced


async def test_a_crd_that_is_installed_later(tmp_path: Path) -> None:
    fake = FakeKube()
    fake.missing.add(POOLS)
    async with reflected(tmp_path, Resource("inferencepools", "inference.networking.k8s.io"), fake) as it:
        await it.until(lambda: "list 404" in it.notes.heard)
        fake.missing.clear()
        fake.put(POOLS, pool())
        await it.same()

        assert "listed missing" in it.notes.heard


async def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_loop(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        for _ in range(3):
            await it.watching()
            before = len(it.pauses)
            for watch in list(it.fake._watches):
                watch.end()
            await it.until(lambda before=before: len(it.pauses) > before)  # type: ignore[misc]

        assert it.pauses == [0.2, 0.4, 0.8]


async def test_events_that_mean_nothing(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()
        for event in ({}, {"type": "ADDED"}, {"type": 3, "object": {}}, {"type": "ADDED", "object": {"metadata": {}}}):
            it.fake.send("pods", event)
        it.fake.send("pods", {"type": "NEW", "object": pod("x")})
        it.fake.send("pods", {"type": "DELETED", "object": pod("unknown")})
        it.fake.put("pods", pod("a"))
        await it.same()

        assert it.mirror.names == {"a"}


async def test_what_is_selected(tmp_path: Path) -> None:
    label = "inference.networking.k8s.io/bbr-managed"
    fake = FakeKube()
    fake.put("configmaps", config_map("a", "base", "[]"))
    async with reflected(tmp_path, Resource("configmaps", labels=f"{label}=true"), fake) as it:
        await it.watching()
        unlabelled = config_map("a", "base", "[]", label="other")
        fake.put("configmaps", unlabelled)
        fake.put("configmaps", config_map("b", "base", "[]", namespace="elsewhere"))
        await it.until(lambda: set(it.mirror.objects) == {("elsewhere", "b")})


async def test_a_burst_is_few_changes(tmp_path: Path) -> None:
    async with reflected(tmp_path) as it:
        await it.watching()
        for number in range(200):
            it.fake.put("pods", pod(f"p{number}"))
        await it.same()

        assert len(it.mirror.changes) <= 3  # the empty list, and what came in one read


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
async def test_whatever_happens_it_ends_equal(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    async with reflected(tmp_path_factory.mktemp("random")) as it:
        for _ in range(40):
            name = f"p{chance.randrange(8)}"
            match chance.randrange(8):
                case 0 | 1 | 2:
                    it.fake.put("pods", pod(name, ready=chance.random() < 0.5))
                case 3 if ("default", name) in it.fake.objects.get("pods", {}):
                    it.fake.delete("pods", name)
                case 4:
                    it.fake.cut()
                case 5:
                    it.fake.expire_as_event = chance.random() < 0.5
                    it.fake.cut()
                    it.fake.expire()
                case 6:
                    it.fake.bookmark()
                case 7 if chance.random() < 0.3:
                    await it.fake.kill()
                    await asyncio.sleep(0.002)
                    await it.fake.start()
                case _:
                    await asyncio.sleep(chance.random() * 0.004)
        await it.same()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["metadata", "name", "namespace", "resourceVersion"]), inner)
        ),
    )
)
def test_any_json_is_an_object_or_none(value: object) -> None:
    found = identify(value)

    assert found is None or found[0][1]
