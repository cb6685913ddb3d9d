"""Producers that have to ask somebody: the choice waits, to a deadline, and is made with the endpoints that are there then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint
from extproc.protocol import StreamLimits
from extproc.scheduling import Cycle
from extproc.scheduling.cycle import Awaited
from extproc.scheduling.plugins.base import PRODUCER, SCORER, Kit, Need, PluginType
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment, request
from tests.fakes.messages import answers
from tests.fakes.waiting import FakeCarrier
from tests.stages.running import explained

BODY = b'{"model":"m"}'
BOTH = "plugins: [{type: by-word}, {type: asks}, {type: asks-more}]"
ONE = "plugins: [{type: by-word}, {type: asks}]"


class Asks:
    """Asks the test who is to be picked."""

    def __init__(self, name: str, *, raises: bool = False, at_once: str = "") -> None:
        self.name = name
        self.raises = raises
        self.at_once = at_once
        self.waits: list[Callable[[object], None]] = []
        self.cancelled = 0
        self.made = 0

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        self.made += 1
        return Awaited(self._begin, self._fact, fallback="10.0.0.1:8000", timeout_s=0.25)

    def _begin(self, resolve: Callable[[object], None]) -> Callable[[], None]:
        if self.raises:
            raise OSError("nobody is there")
        self.waits.append(resolve)
        if self.at_once:
            resolve(self.at_once)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    def _fact(self, outcome: object, candidates: Candidates) -> object:
        return [float(endpoint.key == outcome) for endpoint in candidates.endpoints]


class ByWord:
    """All points to whom those say."""

    per_snapshot = False

    def __init__(self, sources: list[str]) -> None:
        self.sources = sources

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        columns: list[Any] = [cycle.facts[source] for source in self.sources]
        return [sum(values) / len(columns) for values in zip(*columns, strict=True)]


class World:
    def __init__(self, deployment: Deployment, *, both: bool = False, **does: Any) -> None:
        self.asks, self.more = Asks("asks", **does), Asks("asks-more")
        needs = (Need("word"), Need("more")) if both else (Need("word"),)

        def scorer(parameters: NoParameters, kit: Kit) -> ByWord:
            return ByWord([source for source in kit.sources if source is not None])

        rows = (
            PluginType("asks", PRODUCER, "", NoParameters, lambda parameters, kit: self.asks, provides="word"),
            PluginType("asks-more", PRODUCER, "", NoParameters, lambda parameters, kit: self.more, provides="more"),
            PluginType("by-word", SCORER, "", NoParameters, scorer, needs=lambda parameters: needs),
        )
        self.deployment = deployment
        self.store = deployment.add_pool("p", 3, config=BOTH if both else ONE, types={row.name: row for row in rows})
        self.picker = deployment.picker()
        self.session = Session(deployment.director(self.picker), Encoder(), StreamLimits())
        self.carrier = FakeCarrier(self.session)

    def send(self) -> list[Any]:
        return [*self.session.receive(messages.request_headers()), *self.session.receive(messages.request_body(BODY, end=True))]

    @property
    def destination(self) -> str:
        """As the proxy was told behind the wait."""
        first = answers([joined(each) for each in self.carrier.answers])[0]
        headers = messages.set_headers(first.request_headers.response.header_mutation)
        return headers["x-gateway-destination-endpoint"].decode()


@pytest.fixture
def world(deployment: Deployment) -> World:
    return World(deployment)


def test_the_choice_waits_and_goes_by_the_answer(world: World) -> None:
    assert world.send() == []
    assert world.session.is_waiting
    (timer,) = world.carrier.timers
    assert timer.delay_s == 0.25
    assert [view.in_flight for view in world.store.views()] == [0, 0, 0]
    world.asks.waits[0]("10.0.0.3:8000")
    assert world.destination == "10.0.0.3:8000"
    assert [view.in_flight for view in world.store.views()] == [0, 0, 1]
    assert (world.asks.made, world.asks.cancelled, timer.cancelled) == (1, 0, True)
    world.session.closed()
    assert [view.in_flight for view in world.store.views()] == [0, 0, 0]


def test_an_answer_that_is_there_at_once_needs_no_wait(deployment: Deployment) -> None:
    world = World(deployment, at_once="10.0.0.2:8000")
    world.carrier.answers = world.send()
    assert not world.session.is_waiting
    assert world.destination == "10.0.0.2:8000"


def test_at_the_deadline_the_fallback_counts(world: World) -> None:
    world.send()
    world.carrier.expire()
    assert world.destination == "10.0.0.1:8000"
    assert world.asks.cancelled == 1
    world.asks.waits[0]("10.0.0.3:8000")  # too late: nothing happens
    assert len(world.carrier.answers) == 2


@pytest.mark.parametrize("raises", [True, False], ids=["begin", "outcome"])
def test_a_producer_that_fails_is_done_without(deployment: Deployment, raises: bool) -> None:
    world = World(deployment, raises=raises)
    world.carrier.answers = world.send()
    if not raises:
        world.asks.waits[0](OSError("nobody is there"))
    assert world.destination == "10.0.0.1:8000"


def test_a_client_that_leaves_cancels_it(world: World) -> None:
    world.send()
    world.session.closed()
    assert world.asks.cancelled == 1
    world.asks.waits[0]("10.0.0.3:8000")
    assert world.carrier.answers == []
    assert [view.in_flight for view in world.store.views()] == [0, 0, 0]


def test_endpoints_that_came_and_went_meanwhile_are_seen(world: World) -> None:
    world.send()
    world.store.replace_endpoints([Endpoint("10.0.0.9", 8000), *endpoints(1)])
    world.asks.waits[0]("10.0.0.9:8000")
    assert world.destination == "10.0.0.9:8000"


def test_two_are_waited_for_one_after_the_other_and_each_once(deployment: Deployment) -> None:
    world = World(deployment, both=True)
    world.send()
    assert (len(world.asks.waits), len(world.more.waits)) == (1, 0)
    world.asks.waits[0]("10.0.0.3:8000")
    assert (len(world.asks.waits), len(world.more.waits)) == (1, 1)
    assert world.carrier.answers == []
    world.more.waits[0]("10.0.0.3:8000")
    assert world.destination == "10.0.0.3:8000"
    assert (world.asks.made, world.more.made) == (1, 1)


def test_an_explanation_waits_for_nobody(world: World) -> None:
    told = explained(world.picker, request())
    assert told["picked"] == ["10.0.0.1:8000"]
    assert world.asks.waits == []


def test_who_does_not_wait_gets_the_fallback(world: World) -> None:
    pool = world.deployment.pools["p"]
    scheduled = pool.scheduler.schedule(Cycle(request()), world.store.candidates())
    assert scheduled.run.endpoint == "10.0.0.1:8000"


def test_a_wait_has_an_end() -> None:
    with pytest.raises(ValueError, match="timeout_s is 0; expected more than 0"):
        Awaited(lambda resolve: lambda: None, lambda outcome, candidates: outcome, timeout_s=0)
