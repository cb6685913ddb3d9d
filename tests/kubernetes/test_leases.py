"""The election with a fake API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.election import Timing
from extproc.kubernetes.leases import LeaseElection, LeaseName
from extproc.observability.instruments import Instruments
from tests.app.running import until
from tests.fakes.kube import FakeKube
from tests.fakes.kube_objects import LEASES
from tests.fakes.page import counted

NAME = LeaseName("models", "epp-models-p.llm-d.ai")
QUICK = Timing(lease_s=0.4, renew_deadline_s=0.3, retry_s=0.05, look_s=0.02)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


class Replica:
    def __init__(self, client: KubeClient, name: str, **kwargs: Any) -> None:
        self.instruments = Instruments()
        self.turns: list[bool] = []
        self.election = LeaseElection(
            client, NAME, name, self.instruments, timing=kwargs.pop("timing", QUICK), changed=self._changed, **kwargs
        )
        self.task: asyncio.Task[None] | None = None

    def _changed(self) -> None:
        self.turns.append(self.election.leading)

    def start(self) -> Replica:
        self.task = asyncio.create_task(self.election.run())
        return self

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def leads(self, wanted: bool = True) -> None:
        async def look() -> bool:
            return self.election.leading is wanted

        await until(look)


Make = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def make(fake: FakeKube, tmp_path: Path) -> AsyncIterator[Make]:
    """Replicas, each with a client of its own."""
    made: list[tuple[Replica, KubeClient]] = []
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig())

    async def make_one(name: str, **kwargs: Any) -> Replica:
        client = await KubeClient.connect(str(path))
        replica = Replica(client, name, **kwargs)
        made.append((replica, client))
        return replica

    yield make_one
    for replica, client in made:
        if replica.task is not None:
            await replica.stop()
        await client.close()


def holder(fake: FakeKube) -> str:
    return str(fake.get(LEASES, NAME.name, NAME.namespace)["spec"]["holderIdentity"])


async def test_one_leads_and_the_other_says_who(make: Make, fake: FakeKube) -> None:
    a, b = await make("a"), await make("b")
    assert a.election.unready() == "not the leader (leader is not elected yet)"
    await a.election.round()
    await b.election.round()
    assert (a.election.unready(), b.election.unready()) == (None, "not the leader (leader is a)")
    assert holder(fake) == "a"
    assert counted(a.instruments, "leader_election") == {f'leader_election_master_status{{name="{NAME.name}"}}': 1}
    assert counted(a.instruments, "extproc_leader_election_changes") == {
        'extproc_leader_election_changes_total{to="leader"}': 1,
    }
    assert counted(b.instruments, "leader_election") == {}


async def test_a_release_is_taken_at_the_next_look(make: Make, fake: FakeKube) -> None:
    slow = QUICK._replace(lease_s=60, renew_deadline_s=40)
    a = (await make("a", timing=slow)).start()
    await a.leads()
    b = (await make("b", timing=slow)).start()
    await a.stop()
    assert not a.election.leading
    assert holder(fake) in ("", "b")
    await b.leads()
    assert fake.get(LEASES, NAME.name, NAME.namespace)["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_dies_is_replaced_after_the_lease(make: Make, fake: FakeKube) -> None:
    a, b = await make("a"), await make("b")
    await a.election.round()
    b.start()
    await b.leads()
    assert holder(fake) == "b"
    assert a.election.leading, "it never heard of it"
    await a.election.round()
    assert a.turns == [True, False]


async def test_the_server_is_away_and_nobody_else_comes(make: Make, fake: FakeKube) -> None:
    a = (await make("a")).start()
    await a.leads()
    with structlog.testing.capture_logs() as logs:
        await fake.kill()

        async def out() -> bool:
            return counted(a.instruments, "extproc_leader_election_out") != {}

        await until(out)
        assert a.election.unready() is None
        await fake.start()

        async def back() -> bool:
            return counted(a.instruments, "extproc_leader_election_out") == {}

        await until(back)
    assert a.turns == [True]
    said = [line["event"] for line in logs if "lease" in line["event"]]
    assert said == ["the lease can't be read or written", "the lease can be read and written again"]


async def test_a_strict_leader_steps_down_and_comes_back(make: Make, fake: FakeKube) -> None:
    a = (await make("a", strict=True)).start()
    await a.leads()
    await fake.kill()
    await a.leads(False)
    assert "can't be read or written" in str(a.election.unready())
    await fake.start()
    await a.leads()
    assert a.turns == [True, False, True]


async def test_a_silent_server_is_as_one_that_is_away(make: Make, fake: FakeKube) -> None:
    a = (await make("a", strict=True)).start()
    await a.leads()
    fake.silent = True
    await a.leads(False)


async def test_without_rights_it_says_which(make: Make, fake: FakeKube) -> None:
    fake.forbidden.add(("*", LEASES))
    a = await make("a")
    await a.election.round()
    told = str(a.election.unready())
    assert "no right to get, create and update leases.coordination.k8s.io in namespace 'models'" in told
    assert 'cannot get resource "leases"' in told
    assert counted(a.instruments, "extproc_leader_election_errors") == {
        'extproc_leader_election_errors_total{reason="Forbidden"}': 1,
    }


async def test_an_event_is_made_and_not_needed(make: Make, fake: FakeKube) -> None:
    a = await make("a")
    await a.election.round()

    async def made() -> bool:
        return bool(fake.objects.get("events"))

    await until(made)
    (event,) = fake.objects["events"].values()
    assert (event["reason"], event["message"]) == ("LeaderElection", "a became leader")
    assert event["involvedObject"]["kind"] == "Lease"
    assert event["involvedObject"]["uid"] == fake.get(LEASES, NAME.name, NAME.namespace)["metadata"]["uid"]
    fake.forbidden.add(("*", "events"))
    b = await make("b")
    fake.delete(LEASES, NAME.name, NAME.namespace)
    await b.election.round()
    assert b.election.leading


async def test_it_lets_go_what_a_write_took_that_it_never_heard_of(make: Make, fake: FakeKube) -> None:
    """Stopped between the write and its answer."""
    a = await make("a", timing=Timing())
    asked = asyncio.Event()
    request = a.election._requests.request

    async def slow(method: str, path: str, **kwargs: Any) -> Any:
        answer = await request(method, path, **kwargs)
        if method == "POST" and path == NAME.collection:
            asked.set()
            await asyncio.Event().wait()
        return answer

    a.election._requests.request = slow  # type: ignore[method-assign]
    a.start()
    await asked.wait()
    assert holder(fake) == "a"
    await a.stop()
    assert holder(fake) == ""


async def test_a_release_of_an_older_version_is_done_again(make: Make, fake: FakeKube) -> None:
    a = await make("a", timing=Timing())
    a.start()
    await a.leads()
    lease = fake.get(LEASES, NAME.name, NAME.namespace)
    lease["metadata"]["labels"] = {"x": "y"}
    fake.put(LEASES, lease)
    await a.stop()
    assert holder(fake) == ""
    assert fake.get(LEASES, NAME.name, NAME.namespace)["metadata"]["labels"] == {"x": "y"}


async def test_what_the_server_has_to_do(make: Make, fake: FakeKube) -> None:
    """Looks come from its cache; a renewal is one write and no read."""
    a, b = await make("a"), await make("b")
    for _ in range(3):
        await a.election.round()
        await b.election.round()
    about = [(method, query) for method, path, query in fake.requests if path.startswith(NAME.collection)]
    cached = {"resourceVersion": "0"}
    assert about == [
        ("GET", cached),
        ("POST", {}),
        ("GET", cached),
        *(("PUT", {}), ("GET", cached)) * 2,
    ]
