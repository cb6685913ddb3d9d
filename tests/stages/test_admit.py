"""Requests that may be shed."""

from __future__ import annotations

import pytest

from extproc.domain import Load, RequestHead
from extproc.errors import NoEndpoints, Saturated
from extproc.protocol import Decide
from extproc.traffic import ObjectiveTable
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.fakes.page import counted
from tests.stages.running import explained, run

SHED = "extproc_requests_shed_total"
FULL = Load(waiting=5, running=1, kv_usage=0.1)
ROOM = Load(waiting=0, running=1, kv_usage=0.1)


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("p")
    made.traffic["p"].objectives.replace(ObjectiveTable({"batch": -10, "chat": 5}))
    return made


def fill(deployment: Deployment, *loads: Load) -> None:
    store = deployment.pools["p"].store
    for endpoint, load in zip(endpoints(2), loads, strict=True):
        store.page_started(endpoint.key)
        store.page_read(endpoint.key, load)


def priority(deployment: Deployment, asked: RequestHead) -> int:
    draft, step = run(deployment.admission(), request(head=asked))
    assert step is None
    return draft.priority


BATCH = head(x_llm_d_inference_objective="batch")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (head(), 0),
        (head(x_llm_d_inference_objective="chat"), 5),
        (head(x_gateway_inference_objective="chat"), 5),
        (head(x_llm_d_inference_objective="chat", x_gateway_inference_objective="batch"), 5),
        (head(x_llm_d_inference_objective="unknown"), 0),
        (head(x_llm_d_inference_objective="\xff"), 0),
        (BATCH, -10),
    ],
)
def test_the_objective_gives_the_priority(deployment: Deployment, asked: RequestHead, expected: int) -> None:
    assert priority(deployment, asked) == expected


class TestShedding:
    def test_what_may_be_shed_is_while_the_pool_is_full(self, deployment: Deployment) -> None:
        fill(deployment, FULL, FULL)
        with pytest.raises(Saturated, match="system saturated, sheddable request dropped") as caught:
            priority(deployment, BATCH)
        assert (caught.value.status, caught.value.code) == (429, "pool_saturated")
        assert caught.value.dropped_reason == "rejected-saturated"
        assert counted(deployment.instruments, SHED) == {f'{SHED}{{name="p",priority="-10"}}': 1}
        (error,) = counted(deployment.instruments, "inference_objective_request_error_total")
        assert 'error_code="pool_saturated"' in error

    @pytest.mark.parametrize("objective", ["chat", "unknown"])
    def test_nothing_else_is(self, deployment: Deployment, objective: str) -> None:
        fill(deployment, FULL, FULL)
        priority(deployment, head(x_llm_d_inference_objective=objective))
        assert counted(deployment.instruments, SHED) == {}

    def test_nothing_is_while_there_is_room(self, deployment: Deployment) -> None:
        fill(deployment, FULL, ROOM)
        assert priority(deployment, BATCH) == -10

    def test_a_burst_that_the_pages_do_not_show_yet_is_not_called_full(self, deployment: Deployment) -> None:
        """The store projects it as waiting, to compare endpoints; an engine may start it at once."""
        for _ in range(50):
            store = deployment.pools["p"].store
            store.picked(store.candidates().endpoints[0])
        assert priority(deployment, BATCH) == -10

    def test_pages_that_are_stale_count_as_full(self, deployment: Deployment) -> None:
        deployment.clock.advance(0.3)
        with pytest.raises(Saturated):
            priority(deployment, BATCH)

    def test_an_endpoint_that_is_down_does_not_count_while_another_is_up(self, deployment: Deployment) -> None:
        fill(deployment, FULL, ROOM)
        deployment.pools["p"].store.page_failed(endpoints(2)[0].key, "refused", down=True)
        assert priority(deployment, BATCH) == -10

    def test_a_pool_without_endpoints_sheds_nothing(self, deployment: Deployment) -> None:
        """It is 503 for every priority, which a client tells from 429: trying again soon does not help."""
        deployment.pools["p"].store.replace_endpoints([])
        director = deployment.director(deployment.admission(), deployment.picker())
        for asked in (BATCH, head()):
            with pytest.raises(NoEndpoints, match="pool 'p' has no endpoints"):
                director.decide(Decide(asked, b'{"model": "m"}'))
        assert counted(deployment.instruments, SHED) == {}

    def test_a_subset_without_endpoints_sheds_nothing(self, deployment: Deployment) -> None:
        assert priority(deployment, BATCH._replace(subset=("203.0.113.9:80",))) == -10

    @pytest.mark.parametrize(("subset", "shed"), [(0, True), (1, False)])
    def test_only_endpoints_that_the_proxy_allows_count(self, deployment: Deployment, subset: int, shed: bool) -> None:
        fill(deployment, FULL, ROOM)
        asked = BATCH._replace(subset=(endpoints(2)[subset].key,))
        if not shed:
            assert priority(deployment, asked) == -10
            return
        with pytest.raises(Saturated):
            priority(deployment, asked)

    def test_the_subset_may_be_ignored(self, deployment: Deployment) -> None:
        fill(deployment, FULL, ROOM)
        asked = request(head=BATCH._replace(subset=(endpoints(2)[0].key,)))
        assert run(deployment.admission(ignore_subset=True), asked)[1] is None

    def test_what_is_known_is_kept_for_a_moment(self, deployment: Deployment) -> None:
        stage = deployment.admission()
        asked = request(head=BATCH)
        deployment.clock.advance(0.01)
        assert run(stage, asked)[1] is None
        fill(deployment, FULL, FULL)
        assert run(stage, asked)[1] is None
        deployment.clock.advance(0.011)
        with pytest.raises(Saturated):
            run(stage, asked)

    def test_the_gauge_is_asked_when_someone_looks(self, deployment: Deployment) -> None:
        deployment.admission()
        gauge = "inference_extension_flow_control_pool_saturation"
        fill(deployment, FULL, ROOM)
        assert counted(deployment.instruments, gauge) == {f'{gauge}{{inference_pool="p"}}': 0.5625}


class TestExplain:
    def test_tells_the_saturation(self, deployment: Deployment) -> None:
        fill(deployment, ROOM, ROOM)
        told = explained(deployment.admission(), request(head=BATCH))
        assert told == {"objective": "batch", "priority": -10, "saturation": 0.125}

    def test_and_what_would_be_shed(self, deployment: Deployment) -> None:
        fill(deployment, FULL, FULL)
        with pytest.raises(Saturated):
            explained(deployment.admission(), request(head=BATCH))
        assert counted(deployment.instruments, SHED) == {}
