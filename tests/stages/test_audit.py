"""Rows of decisions: each request once, however it ends."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extproc.audit.waiting import Waiting
from extproc.domain import RequestHead
from extproc.errors import ExtProcError, NoEndpoints
from extproc.response import Measurement
from extproc.stages import AuditDecisions, Draft, Ending, Stage
from extproc.stages.audit import _best_but
from extproc.stages.draft import Assigned
from extproc.traffic import Catalog, EndpointSpec, EntitySpec, ServingEndpoint
from extproc.traffic.regions import Placed
from tests.fakes.clock import FakeClock
from tests.fakes.deployment import Deployment, request
from tests.stages.running import run

WALL_S = 1_790_000_000.5


class Sink:
    """What was handed over, and is kept."""

    def __init__(self) -> None:
        self.waiting = Waiting(2**20)
        self._kept: list[str] = []

    @property
    def lines(self) -> list[str]:
        self.waiting.gather()
        texts, count = self.waiting.take(2**20)
        self._kept += [f"{line}\n" for text in texts for line in text.removesuffix("\n").split("\n")]
        assert "".join(texts).count("\n") == count
        return self._kept

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.lines]


@pytest.fixture
def sink() -> Sink:
    return Sink()


def audit(sink: Sink, clock: FakeClock, **words: Any) -> AuditDecisions:
    began_s = clock()
    return AuditDecisions(sink.waiting, clock=clock, wall_clock=lambda: WALL_S + clock() - began_s, **words)


def head(request_id: str = "r-1", *, attempt: int | None = None, user: str = "") -> RequestHead:
    given = {":path": "/serving-endpoints/chat/invocations", ":method": "POST", "x-request-id": request_id, "x-user-id": user}
    return RequestHead({name: value.encode() for name, value in given.items()}, attempt=attempt)


def through(stages: list[Stage], what: Any, deployment: Deployment, status: int = 200) -> Draft:
    """What a director does with stages whose decision goes out, and the request's end."""
    draft = Draft(deployment.clock(), model=what.model)
    if what.head.attempt is not None:
        draft.attempt = what.head.attempt
    for stage in stages:
        if stage.decide(what, draft) is not None:
            break
    draft.committed = True
    for stage in stages:
        if stage.hooks.committed is not None:
            stage.hooks.committed(what, draft)
    draft.let_go()
    deployment.clock.advance(0.25)
    for stage in stages:
        if stage.hooks.ended is not None:
            stage.hooks.ended(draft, Ending(status, True))
    return draft


def chat(**words: Any) -> EndpointSpec:
    return EndpointSpec("chat", (EntitySpec("a", "m-a"), EntitySpec("b", "m-b")), (50, 50), **words)


def serving(deployment: Deployment, sink: Sink, spec: EndpointSpec) -> list[Stage]:
    deployment.add_pool("p", 2)
    find, _, serve = deployment.serving(spec, p=["m-a", "m-b"])
    return [audit(sink, deployment.clock), find, serve, deployment.picker()]


def test_a_decision_says_what_was_chosen_and_how_it_went(deployment: Deployment, sink: Sink) -> None:
    stages = serving(deployment, sink, chat(config_version=7))

    draft = through(stages, request("chat", head=head(user="ada")), deployment)

    (row,) = sink.rows
    assert draft.entity is not None
    assert draft.endpoint is not None
    assert row.pop("score") >= row.pop("second")
    assert row == {
        "at_ms": 1_790_000_000_500,
        "id": "r-1",
        "endpoint": "chat",
        "entity": draft.entity.name,
        "why": "sticky: header x-user-id",
        "version": 7,
        "pool": "p",
        "server": draft.destination,
        "status": 200,
        "ms": 250.0,
        "bucket": draft.endpoint.bucket_of(b"ada"),
    }
    assert "ada" not in sink.lines[0]


def test_an_answer_that_is_seen_says_its_times_and_tokens(deployment: Deployment, sink: Sink) -> None:
    stages = serving(deployment, sink, chat())
    what = request("chat", head=head())
    draft = Draft(deployment.clock())
    stages[0].decide(what, draft)
    draft.committed = True
    measured = draft.measurement = Measurement(draft.started_s, deployment.clock, lambda gap_s: None)
    measured.headers(200, {"content-type": b"text/event-stream"}, _free())
    deployment.clock.advance(0.5)
    measured.piece(b'data: {"usage":{"prompt_tokens":11,"completion_tokens":3}}\n\n')
    deployment.clock.advance(1.0)
    measured.end()

    assert stages[0].hooks.ended is not None
    stages[0].hooks.ended(draft, Ending(200, True))

    (row,) = sink.rows
    assert [row[key] for key in ("in_tokens", "out_tokens", "ttft_ms", "tpot_ms", "ms")] == [11, 3, 500.0, 500.0, 1500.0]


def test_an_answer_that_is_not_seen_says_none(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    draft, _ = run(stage, request("m", head=head()))
    draft.measurement = Measurement(draft.started_s, deployment.clock, lambda gap_s: None)

    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending(200, True))

    assert {"ttft_ms", "tpot_ms", "in_tokens", "out_tokens"}.isdisjoint(sink.rows[0])


def _free() -> Any:
    from extproc.domain import BodyPath

    return BodyPath.FREE


def test_a_refusal_says_why(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    draft, _ = run(stage, request("m", head=head()))
    draft.committed = False

    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending(503, error=NoEndpoints("none")))

    (row,) = sink.rows
    assert (row["status"], row["error"], row["model"]) == (503, NoEndpoints("none").code, "m")
    assert "cut" not in row


def test_who_leaves_while_it_waits_is_in_it_without_a_status(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    draft, _ = run(stage, request("m", head=head()))
    draft.committed = False

    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending())

    assert "status" not in sink.rows[0]


def test_an_answer_that_was_cut_says_so(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    draft, _ = run(stage, request("m", head=head()))

    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending(200, False, "10.0.0.9:80"))

    assert (sink.rows[0]["cut"], sink.rows[0]["server"]) == (1, "10.0.0.9:80")


def test_what_is_handed_over_to_its_attempts_is_there_once_for_each_of_them(deployment: Deployment, sink: Sink) -> None:
    stages = serving(deployment, sink, chat(fallback=True))

    through(stages, request("chat", head=head(attempt=0, user="ada")), deployment)
    through(stages, request("chat", head=head(attempt=1, user="ada")), deployment, 503)
    through(stages, request("chat", head=head(attempt=2, user="ada")), deployment)

    rows = sink.rows
    assert [(row["attempt"], row["status"]) for row in rows] == [(1, 503), (2, 200)]
    assert {row["entity"] for row in rows} == {"a", "b"}
    assert rows[1]["why"] == "fallback"


def test_where_the_proxy_makes_no_attempts_none_is_said(deployment: Deployment, sink: Sink) -> None:
    stages: list[Stage] = [audit(sink, deployment.clock)]

    through(stages, request("m", head=head(attempt=0)), deployment)
    through(stages, request("m", head=head()), deployment)

    assert [row.get("attempt") for row in sink.rows] == [None, None]


def test_a_share_of_the_requests_and_all_attempts_at_each(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock, sample=0.25)
    for number in range(4000):
        for attempt in (1, 2):
            through([stage], request("m", head=head(f"request {number}", attempt=attempt)), deployment)

    rows = sink.rows
    by_attempt = [{row["id"] for row in rows if row["attempt"] == attempt} for attempt in (1, 2)]
    assert by_attempt[0] == by_attempt[1]
    assert 850 < len(by_attempt[0]) < 1150


@pytest.mark.parametrize(("sample", "rows"), [(0.0, 0), (1.0, 100)])
def test_none_or_all(deployment: Deployment, sink: Sink, sample: float, rows: int) -> None:
    stage = audit(sink, deployment.clock, sample=sample)
    for number in range(100):
        through([stage], request("m", head=head(str(number))), deployment)

    assert len(sink.rows) == rows


def test_an_explanation_leaves_no_row(deployment: Deployment, sink: Sink) -> None:
    director = deployment.director(audit(sink, deployment.clock))

    director.explain(head(), b'{"model": "m"}')

    assert sink.lines == []


def test_the_director_ends_each_request_in_one_row(deployment: Deployment, sink: Sink) -> None:
    from extproc.protocol import Decide

    deployment.add_pool("p", 0)
    director = deployment.director(audit(sink, deployment.clock), deployment.picker())

    with pytest.raises(ExtProcError):
        director.decide(Decide(head(), b'{"model": "m"}', True))

    (row,) = sink.rows
    assert row["status"] == 503


@pytest.mark.parametrize("kind", ["list", "array"])
@pytest.mark.parametrize(("totals", "position", "best"), [([3, 1], 0, 1), ([3, 1], 1, 3), ([1, 2, 3], 2, 2), ([2, 2], 0, 2)])
def test_the_best_of_the_others(kind: str, totals: list[int], position: int, best: float) -> None:
    import numpy as np

    column: Any = [float(each) for each in totals] if kind == "list" else np.array(totals, dtype=float)

    assert _best_but(column, position) == best


def test_words_that_are_remembered_are_told_apart(deployment: Deployment, sink: Sink) -> None:
    """Two requests of one entity that differ in one thing each, there and back."""
    stages = [audit(sink, deployment.clock)]
    made = ServingEndpoint(chat(config_version=3), Catalog())
    other = ServingEndpoint(chat(config_version=4), Catalog())
    plain: dict[str, Any] = {
        "endpoint": made,
        "entity": made.entities[0],
        "entity_reason": "draw",
        "assigned": Assigned(),
        "placed": None,
        "model": "chat",
        "target_model": None,
        "pool": "p",
        "destination": "10.0.0.1:80",
    }
    changes: list[dict[str, Any]] = [
        {"endpoint": other},
        {"entity": made.entities[1]},
        {"entity_reason": "sticky: header x-user-id"},
        {"assigned": Assigned("vip")},
        {"assigned": Assigned("", (("tone", "warm"),))},
        {"assigned": None},
        {"placed": Placed("p", "west", "north", "spill_empty", 1.0)},
        {"model": "m-a"},
        {"target_model": "m-x"},
        {"pool": "q"},
        {"destination": "10.0.0.2:80"},
    ]

    def row_of(**fields: Any) -> dict[str, Any]:
        draft = Draft(deployment.clock(), model="chat")
        stages[0].decide(request("chat", head=head()), draft)
        for name, value in (plain | fields).items():
            setattr(draft, name, value)
        draft.committed = True
        assert stages[0].hooks.ended is not None
        stages[0].hooks.ended(draft, Ending(200, True))
        return sink.rows[-1]

    first = row_of()
    assert first["version"] == 3
    told = [row_of(**change) for change in changes for _ in range(2)]
    assert told[::2] == told[1::2]
    assert all(row_of() == first for _ in range(2))
    differing = [{name for name in {*row, *first} if row.get(name) != first.get(name)} for row in told[::2]]
    assert differing == [
        {"version"},
        {"entity"},
        {"why"},
        {"rule"},
        {"arms"},
        set(),
        {"region", "spill", "spill_cost"},
        {"model"},
        {"target"},
        {"pool"},
        {"server"},
    ]


def test_the_time_is_the_walls_also_when_somebody_has_set_it(deployment: Deployment, sink: Sink) -> None:
    clock, off_s = deployment.clock, [0.0]
    stage = AuditDecisions(sink.waiting, clock=clock, wall_clock=lambda: WALL_S + clock() + off_s[0])
    began_s = clock()
    through([stage], request("m", head=head()), deployment)
    off_s[0] = 3600.0
    clock.advance(5.0)
    through([stage], request("m", head=head()), deployment)
    at_ms = [row["at_ms"] for row in sink.rows]
    assert at_ms[0] == int((WALL_S + began_s) * 1000)
    assert at_ms[1] - at_ms[0] == 3_605_250


def test_what_is_remembered_is_bounded(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    for number in range(10_000):
        draft = Draft(deployment.clock(), model=f"m-{number}")
        stage.decide(request("m", head=head()), draft)
        draft.destination = f"10.0.0.1:{number}"
        assert stage.hooks.ended is not None
        stage.hooks.ended(draft, Ending(200, True))
    assert len({(row["model"], row["server"]) for row in sink.rows}) == 10_000
    assert isinstance(stage, AuditDecisions)
    assert max(len(stage._said), len(stage._served), len(stage._decided)) <= 4096


def ended(stage: AuditDecisions, sink: Sink, deployment: Deployment, name: str, model: str = "m") -> None:
    draft = Draft(deployment.clock(), model=model)
    stage.decide(request(model, head=head(name)), draft)
    assert stage.hooks.ended is not None
    stage.hooks.ended(draft, Ending(200, True))


def test_rows_are_made_many_at_once_and_none_is_kept_back_for_long(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    ids = [f"r-{number}" for number in range(100)]
    handed_over = []
    for each in ids:
        ended(stage, sink, deployment, each)
        handed_over.append(sink.waiting.added)

    assert handed_over[0] == 0
    assert sorted(set(handed_over)) == [0, 32, 64, 96]
    assert [row["id"] for row in sink.rows] == ids
    assert sink.waiting.added == 100
    sink.waiting.gather()
    assert sink.waiting.added == 100


def test_rows_that_are_long_are_handed_over_a_few_at_a_time(deployment: Deployment, sink: Sink) -> None:
    """So that what may wait holds them, however little that is."""
    stage = audit(sink, deployment.clock)
    for number in range(32):
        ended(stage, sink, deployment, str(number), model=f"{number} " + "m" * 3000)

    texts, count = sink.waiting.take(2**20)
    assert max(map(len, texts)) < 20_000
    assert "".join(texts).count("\n") == count == sink.waiting.added == 32


def test_a_row_that_can_not_be_made_takes_no_other_with_it(deployment: Deployment, sink: Sink) -> None:
    stage = audit(sink, deployment.clock)
    for name, model in (("before", "m"), ("broken", "\ud800"), ("behind", "m")):
        ended(stage, sink, deployment, name, model)

    assert [row["id"] for row in sink.rows] == ["before", "behind"]
