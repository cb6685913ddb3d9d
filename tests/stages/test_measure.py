"""What becomes of requests goes into the measures of the entity that they were sent to, and feedback on them too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from extproc.domain import BodyPath, Decision, RequestHead
from extproc.errors import NoEndpoints
from extproc.measures import Measures, Totals
from extproc.observability.measures import FeedbackMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.protocol import Answered, Decide, Finished
from extproc.stages import HearFeedback, MeasureEntities
from extproc.stages.draft import Assigned, Draft
from extproc.traffic import EndpointSpec, EntitySpec, Price
from tests.fakes.deployment import Deployment
from tests.stages.running import counts

SPEC = EndpointSpec("chat", (EntitySpec("a", "m"),), (100,))
SSE = {"content-type": b"text/event-stream"}
FIRST = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n'
LAST = (
    b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
)
PREFIX = """
kind: EndpointPickerConfig
plugins: [{type: prefix-cache-scorer}, {type: max-score-picker}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: prefix-cache-scorer}]}]
"""


class Measured:
    """A gateway of one endpoint, with measures."""

    def __init__(self, *, responses: bool = False, config: str = "", members: int = 1, price: Price | None = None) -> None:
        self.deployment = deployment = Deployment()
        self.store = deployment.add_pool("p", members, config=config)
        self.measures = Measures(deployment.clock, remembered=100)
        metrics = ResponseMetrics(deployment.instruments) if responses else None
        find, limit, serve = deployment.serving(SPEC._replace(entities=(EntitySpec("a", "m", price=price),)), p=["m"])
        self.director = deployment.director(
            find,
            limit,
            HearFeedback(self.measures, FeedbackMetrics(deployment.instruments)),
            serve,
            deployment.picker(None, responses=metrics),
            MeasureEntities(self.measures, clock=deployment.clock),
        )

    def decide(self, *, seen: bool = True, body: bytes = b'{"messages":[]}', **headers: bytes) -> Decision:
        values = {":method": b"POST", ":path": b"/serving-endpoints/chat/invocations"}
        values |= {name.replace("_", "-"): value for name, value in headers.items()}
        decision = self.director.decide(Decide(RequestHead(values), body, True, seen))
        assert isinstance(decision, Decision)
        return decision

    def wait(self, seconds: float) -> None:
        self.deployment.clock.advance(seconds)

    def end(self, decision: Decision, status: int = 200, complete: bool = True) -> None:
        self.director.finished(Finished(decision, status, complete), "")

    def answer(self, decision: Decision, pieces: list[bytes], headers: Mapping[str, bytes] = SSE) -> None:
        """After half a second its headers, then every second a piece."""
        self.wait(0.5)
        self.director.answered(Answered(decision, 200, ""))
        reader = decision.reader
        if reader is not None:
            reader.headers(200, headers, BodyPath.FREE)
        for piece in pieces:
            self.wait(1.0)
            if reader is not None:
                reader.body(piece, piece is pieces[-1])
        self.end(decision)

    @property
    def totals(self) -> Totals:
        totals = self.measures.total("chat", "a")
        assert totals is not None
        return totals


@pytest.mark.parametrize("responses", [False, True], ids=["nobody else reads", "the picker reads too"])
def test_a_stream_that_passes_by(responses: bool) -> None:
    measured = Measured(responses=responses)
    measured.answer(measured.decide(), [FIRST, FIRST, LAST])
    totals = measured.totals
    assert (totals.requests, totals.errors) == (1, 0)
    for timing, seconds in ((totals.headers_s, 0.5), (totals.ttft_s, 1.5), (totals.tpot_s, 0.5), (totals.e2e_s, 3.5)):
        assert timing.n == 1
        assert timing.mean_s == pytest.approx(seconds)
    assert (totals.input_tokens, totals.output_tokens, totals.cached_tokens, totals.usage) == (7, 5, 4, 1)
    assert totals.finish_reasons == {"length": 1}
    assert totals.queue_at_pick == (1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("price", "pieces", "cost"),
    [
        (Price(1.0, 10.0, 0.001), [FIRST, LAST], 0.001 + 7e-6 + 5e-5),
        (Price(per_request=0.25), [FIRST], 0.25),
        (Price(input_per_million=3.0), [FIRST], None),
        (Price(), [FIRST, LAST], 0.0),
    ],
    ids=["by tokens", "by request", "tokens that nobody stated", "free"],
)
def test_what_a_request_costs(price: Price, pieces: list[bytes], cost: float | None) -> None:
    measured = Measured(price=price)
    measured.answer(measured.decide(), pieces)
    assert measured.totals.priced == (cost is not None)
    assert measured.totals.cost == pytest.approx(cost or 0.0)


def test_what_fails_costs_nothing() -> None:
    measured = Measured(price=Price(per_request=1.0))
    measured.end(measured.decide(), 500)
    assert (measured.totals.priced, measured.totals.cost) == (0, 0.0)


def test_a_document_has_no_first_token() -> None:
    measured = Measured()
    document = b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":9}}'
    measured.answer(measured.decide(), [document], {"content-type": b"application/json"})
    totals = measured.totals
    assert (totals.ttft_s.n, totals.tpot_s.n, totals.e2e_s.n) == (0, 0, 1)
    assert (totals.output_tokens, totals.finish_reasons) == (9, {"stop": 1})


def test_where_bodies_do_not_come_by_nothing_is_made_up() -> None:
    """Headers, end and status; that the end was not seen is no failure there."""
    measured = Measured()
    decision = measured.decide(seen=False)
    assert decision.reader is None
    measured.wait(0.5)
    measured.director.answered(Answered(decision, 200, ""))
    measured.wait(2)
    measured.end(decision, complete=False)
    totals = measured.totals
    assert (totals.requests, totals.errors, totals.usage, totals.finish_reasons) == (1, 0, 0, {})
    assert (totals.headers_s.n, totals.ttft_s.n, totals.tpot_s.n, totals.e2e_s.mean_s) == (1, 0, 0, 2.5)


@pytest.mark.parametrize(
    ("status", "complete", "kinds", "rejected"),
    [
        (200, False, {"cut": 1}, 0),
        (0, False, {"unanswered": 1}, 0),
        (429, True, {"429": 1}, 0),
        (503, True, {"5xx": 1}, 0),
        (504, True, {"timeout": 1}, 0),
        (404, True, {}, 1),
    ],
)
def test_failures_by_kind(status: int, complete: bool, kinds: dict[str, int], rejected: int) -> None:
    measured = Measured()
    measured.end(measured.decide(), status, complete)
    totals = measured.totals
    assert (totals.errors_by_kind, totals.rejected, totals.e2e_s.n) == (kinds, rejected, 0)
    assert totals.errors == sum(kinds.values())


def test_an_entity_that_has_nobody_to_serve_it_failed() -> None:
    measured = Measured()
    measured.store.replace_endpoints([])
    with pytest.raises(NoEndpoints):
        measured.decide()
    assert (measured.totals.errors_by_kind, measured.totals.e2e_s.n) == ({"5xx": 1}, 0)


def test_what_is_refused_before_an_entity_is_chosen_is_nobodys() -> None:
    measured = Measured()
    head = RequestHead({":method": b"POST", ":path": b"/v1/chat/completions"})
    measured.director.decide(Decide(head, b'{"model":"m"}', True, True))
    assert measured.totals.requests == 0, "it is sent, and has not ended"
    assert list(measured.measures.known()) == [("chat", "a", "")]


def test_how_much_of_the_prompt_was_there_is_measured() -> None:
    measured = Measured(config=PREFIX)
    body = b'{"messages":[{"role":"user","content":"%s"}]}' % (b"word " * 400)
    for _ in range(2):
        measured.end(measured.decide(body=body))
    n, mean, _ = measured.totals.hit_fraction
    assert n == 2
    assert 0.4 < mean <= 0.5, "nothing of the first, nearly all of the second"


def test_arms_have_measures_of_their_own() -> None:
    measured = Measured()
    decision = measured.decide()
    draft = decision.ticket
    assert isinstance(draft, Draft)
    draft.assigned = Assigned("", (("tone", "warm"), ("length", "short")))
    draft.cells = ()
    measured.end(decision)
    assert list(measured.measures.known("chat")) == [
        ("chat", "a", ""),
        ("chat", "a", "length/short"),
        ("chat", "a", "tone/warm"),
    ]
    for key in measured.measures.known():
        totals = measured.measures.total(*key)
        assert totals is not None
        assert totals.requests == 1


def test_an_entity_that_left_meanwhile_does_not_come_back() -> None:
    measured = Measured()
    decision = measured.decide()
    measured.measures.keep(set())
    measured.end(decision)
    assert len(measured.measures) == 0


def test_feedback_by_the_next_request() -> None:
    measured = Measured()
    measured.end(measured.decide(x_request_id=b"one"))
    measured.end(measured.decide(x_request_id=b"two"))
    decision = measured.decide(x_extproc_feedback=b"one;good, two;score=0.1, three;bad, nonsense")
    assert "x-extproc-feedback" in decision.remove_headers
    measured.end(decision)
    measured.end(measured.decide(x_extproc_feedback=b"one;bad"))
    totals = measured.totals
    assert (totals.feedback_good, totals.feedback_bad, totals.requests) == (1, 1, 4)
    assert counts(measured.deployment, "extproc_feedback_total") == {
        'extproc_feedback_total{verdict="counted"}': 2,
        'extproc_feedback_total{verdict="rated before"}': 1,
        'extproc_feedback_total{verdict="unknown"}': 1,
        'extproc_feedback_total{verdict="unread"}': 1,
    }
