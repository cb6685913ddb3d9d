"""Which requests are copied to a shadow, and that their answers are listened to."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extproc.control.deliveries import shadows_of
from extproc.domain import BodyPath, Decision, Endpoint, RequestHead
from extproc.protocol import Answered, Decide, Finished
from extproc.request import parse
from extproc.stages import Copy, CopyToShadows, Draft
from extproc.traffic import EndpointSpec, EntitySpec, MadeAt
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment, request
from tests.stages.running import explained, run

PATH = "/serving-endpoints/ep/invocations"
HEAD = RequestHead({":method": b"POST", ":path": PATH.encode(), "content-type": b"application/json", "x-request-id": b"id-1"})


class Copies:
    """A copier that takes everything, or nothing."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.offered: list[Copy] = []

    def offer(self, copy: Copy) -> bool:
        self.offered.append(copy)
        return self.takes


class Bench:
    """An endpoint with entities `now` and `next`, of which the second is the shadow of the first; and a director."""

    def __init__(self, *shadows: dict[str, Any], takes: bool = True, draws: Draws = Draws()) -> None:
        deployment = self.deployment = Deployment()
        deployment.add_pool("light", [Endpoint("10.0.0.1", 8000)])
        self.copies = Copies(takes=takes)
        specs = shadows_of({"shadows": shadows or ({"entity": "next", "percentage": 100},)})
        entities = (EntitySpec("now", "model-now"), EntitySpec("next", "model-next"), EntitySpec("other", "model-other"))
        spec = EndpointSpec("ep", entities, (100, 0, 0), shadows=specs)
        find, limit, serve = deployment.serving(spec, light=("model-now", "model-next", "model-other"))
        self.stage = CopyToShadows(self.copies, draws, deployment.clock)
        self.stages = find, limit, serve, deployment.rewriter(None), deployment.picker(None), self.stage
        self.director = deployment.director(*self.stages)

    def decide(
        self, body: Any = {"messages": []}, *, complete: bool = True, attempt: int | None = None, **headers: str
    ) -> Decision:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {":method": "POST", ":path": PATH, "content-type": "application/json", "x-request-id": "id-1"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = RequestHead({name: value.encode() for name, value in given.items() if value}, attempt=attempt)
        made = self.director.decide(Decide(head, data, complete))
        assert isinstance(made, Decision)
        return made

    @property
    def names(self) -> list[str]:
        return [copy.entity.name for copy in self.copies.offered]


def draft_of(decision: Decision) -> Draft:
    assert isinstance(decision.ticket, Draft)
    return decision.ticket


class TestWhoIsCopied:
    def test_a_request_that_goes_out(self) -> None:
        bench = Bench()
        bench.decide()
        (copy,) = bench.copies.offered
        assert (copy.endpoint.name, copy.entity.name, copy.live_entity) == ("ep", "next", "now")
        assert copy.body == b'{"messages":[]}'

    def test_by_the_requests_id_with_a_salt_of_its_own(self) -> None:
        half = [{"entity": "next", "percentage": 50}, {"entity": "other", "percentage": 50, "salt": "mine"}]
        bench = Bench(*half)
        for number in range(400):
            bench.decide(x_request_id=f"id-{number}")
        once = bench.names
        assert 150 < once.count("next") < 250
        assert 150 < once.count("other") < 250
        both = {copy.request.head.text("x-request-id") for copy in bench.copies.offered if copy.entity.name == "next"}
        others = {copy.request.head.text("x-request-id") for copy in bench.copies.offered if copy.entity.name == "other"}
        assert 60 < len(both & others) < 140

    def test_one_without_an_id_is_drawn(self) -> None:
        bench = Bench({"entity": "next", "percentage": 10}, draws=Draws(0.09, 0.1))
        bench.decide(x_request_id="")
        bench.decide(x_request_id="")
        assert bench.names == ["next"]

    def test_a_share_of_none(self) -> None:
        bench = Bench({"entity": "next", "percentage": 0})
        bench.decide()
        assert bench.names == []

    @pytest.mark.parametrize(
        "fields",
        [
            {":path": "/serving-endpoints/ep/served-models/next/invocations"},
            {":method": "PUT"},
            {"body": b""},
            {"attempt": 2},
            {"upgrade": "websocket", "connection": "upgrade"},
        ],
    )
    def test_not_copied(self, fields: dict[str, Any]) -> None:
        bench = Bench()
        bench.decide(**fields)
        assert bench.names == []

    def test_of_attempts_the_first(self) -> None:
        bench = Bench()
        bench.decide(attempt=1)
        assert bench.names == ["next"]

    def test_not_when_only_the_beginning_came(self) -> None:
        bench = Bench()
        fields: dict[str, Any] = {":path": "/v1/models/ep:predict"}
        bench.decide(complete=False, **fields)
        assert bench.names == []
        bench.decide(**fields)
        assert bench.names == ["next"]

    def test_not_about_an_answer_that_an_endpoint_keeps(self) -> None:
        bench = Bench()
        for made_at, names in ((MadeAt("light", "10.0.0.1:8000"), []), (None, ["next"])):
            draft = Draft(0.0, b"{}")
            draft.made_at = made_at
            for stage in bench.stages:
                run(stage, parse(HEAD, b"{}"), draft)
            assert bench.names == names

    def test_not_where_there_is_no_shadow(self) -> None:
        bench = Bench()
        draft, _ = run(bench.stage, request(), Draft(0.0, b"{}"))
        assert (draft.shadow, bench.names) == (None, [])

    def test_it_is_explained_and_not_done(self) -> None:
        bench = Bench()
        told = bench.director.explain(HEAD, b'{"messages": []}')
        assert told["CopyToShadows"] == {"shadows": ["next"]}
        assert bench.names == []
        assert explained(bench.stage, request()) == {}


class TestTheLiveAnswer:
    def test_is_listened_to(self) -> None:
        bench = Bench()
        decision = bench.decide()
        live = bench.copies.offered[0].live
        ends: list[float | None] = []
        live.listeners.append(lambda: ends.append(live.ended_s))
        reader = decision.reader
        assert reader is not None
        bench.director.answered(Answered(decision, 200, ""))
        reader.headers(200, {"content-type": b"application/json"}, BodyPath.FREE)
        assert reader.wants_body
        body = b'{"choices":[{"text":"hi"}],"model":"model-now"}'
        bench.deployment.clock.now_s += 1
        assert reader.body(b"", False) == b""
        assert b"model-now" not in reader.body(body, True)
        bench.deployment.clock.now_s += 1
        bench.director.finished(Finished(decision, 200, True), "")
        assert (live.seen, live.complete, live.status, live.size_bytes) == (True, True, 200, len(body))
        assert (live.first_s, live.ended_s, live.served) == (live.started_s + 1, live.started_s + 2, "10.0.0.1:8000")
        assert live.text is not None
        assert live.text.said().text == "hi"
        assert ends == [live.ended_s]

    @pytest.mark.parametrize(("path", "seen"), [(BodyPath.UNSEEN, False), (BodyPath.EMPTY, True)])
    def test_without_a_body(self, path: BodyPath, seen: bool) -> None:
        bench = Bench()
        decision = bench.decide()
        assert decision.reader is not None
        decision.reader.headers(200, {}, path)
        bench.director.finished(Finished(decision, 204, True), "10.0.0.2:1")
        live = bench.copies.offered[0].live
        assert (live.seen, live.text, live.status, live.served) == (seen, None, 204, "10.0.0.2:1")

    def test_one_ear_for_all_shadows(self) -> None:
        bench = Bench({"entity": "next", "percentage": 100}, {"entity": "other", "percentage": 100})
        decision = bench.decide()
        one, other = bench.copies.offered
        assert one.live is other.live
        assert draft_of(decision).shadow is one.live

    def test_is_let_go_of_when_nobody_took_the_copy(self) -> None:
        bench = Bench(takes=False)
        assert draft_of(bench.decide()).shadow is None
