"""The use case: a request becomes a decision, and the decision is accounted for until the request ends."""

from __future__ import annotations

import gzip

import orjson
import pytest

from extproc.domain import Decision, Load, Reply, RequestHead
from extproc.errors import BodyTooLarge, ExtProcError, InvalidBody, InvalidModel, MissingModel, NoEndpoints, UnknownModel
from extproc.protocol import Decide, Finished
from extproc.request import ParseOptions
from extproc.traffic import AdapterMap
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment
from tests.fakes.events import head
from tests.fakes.page import counted

BODY = b'{"model":"lora","messages":[]}'
HEAD = head(content_type="application/json", x_request_id="r-1")
ONE = endpoints(1)[0].key


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def ask(body: bytes | None = BODY, of: RequestHead = HEAD, *, complete: bool = True) -> Decide:
    return Decide(of, body, complete)


class TestDeployments:
    def test_bbr(self, deployment: Deployment) -> None:
        director = deployment.director(deployment.headers(AdapterMap({"base": ["lora"]})))
        assert director.decide(ask()) == Decision(
            set_headers=(("X-Gateway-Model-Name", "lora"), ("X-Gateway-Base-Model-Name", "base"))
        )

    def test_epp(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1)
        decision = deployment.director(deployment.picker()).decide(ask())
        assert isinstance(decision, Decision)
        assert decision.set_headers == decision.metadata == (("x-gateway-destination-endpoint", ONE),)
        assert decision.ticket is not None

    def test_gateway(self, deployment: Deployment) -> None:
        deployment.add_pool("llama", 1)
        deployment.add_pool("phi", 2)
        director = deployment.director(
            deployment.headers(), deployment.routes(llama=["lora"], phi=["phi"]), deployment.picker(None)
        )
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        assert dict(decision.set_headers) == {
            "X-Gateway-Model-Name": "lora",
            "X-Gateway-Base-Model-Name": "",
            "x-gateway-destination-endpoint": ONE,
        }
        assert decision.metadata == (("x-gateway-destination-endpoint", ONE),)

    def test_a_stage_may_answer_itself(self, deployment: Deployment) -> None:
        deployment.add_pool("p")
        director = deployment.director(deployment.headers(), deployment.routes(p=["a"]), deployment.picker(None))
        reply = director.decide(ask(b"", RequestHead({":method": b"GET", ":path": b"/v1/models"})))
        assert isinstance(reply, Reply)
        assert len(deployment.log) == 0


class TestErrors:
    def test_what_inflates_too_far(self, deployment: Deployment) -> None:
        director = deployment.director(deployment.headers(), options=ParseOptions(max_inflated_bytes=10))
        with pytest.raises(BodyTooLarge):
            director.decide(ask(gzip.compress(BODY), head(content_encoding="gzip")))
        assert counted(deployment.instruments, "bbr") == {"bbr_model_not_parsed_total": 1}

    @pytest.mark.parametrize(("body", "error"), [(b"{", InvalidBody), (b"[]", InvalidBody), (b'{"model":1}', InvalidModel)])
    def test_what_can_not_be_read(self, deployment: Deployment, body: bytes, error: type[ExtProcError]) -> None:
        with pytest.raises(error):
            deployment.director(deployment.headers()).decide(ask(body))
        assert counted(deployment.instruments, "bbr") == {"bbr_model_not_parsed_total": 1}

    def test_options_are_those_of_the_parser(self, deployment: Deployment) -> None:
        lenient = ParseOptions(invalid_json_passes=True, text_of_other_types=True)
        director = deployment.director(deployment.headers(), options=lenient)
        assert director.decide(ask(b"{")) == Decision()
        decision = director.decide(ask(b'{"model":1}'))
        assert isinstance(decision, Decision)
        assert dict(decision.set_headers)["X-Gateway-Model-Name"] == "1"

    def test_of_the_stages_pass_through(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 0)
        director = deployment.director(deployment.routes(p=["a"], q=["b"]), deployment.picker())
        with pytest.raises(UnknownModel):
            director.decide(ask())
        with pytest.raises(MissingModel):
            director.decide(ask(b"{}"))
        with pytest.raises(NoEndpoints):
            director.decide(ask(b'{"model":"a"}'))

    def test_are_counted_by_code_when_they_were_answered(self, deployment: Deployment) -> None:
        director = deployment.director()
        director.refused(NoEndpoints("none"))
        director.refused(NoEndpoints("none"))
        director.refused(UnknownModel("x"))
        assert counted(deployment.instruments, "extproc_request_errors") == {
            'extproc_request_errors_total{code="no_endpoints"}': 2,
            'extproc_request_errors_total{code="model_not_found"}': 1,
        }


class TestMetrics:
    def test_of_a_decision(self, deployment: Deployment) -> None:
        deployment.director(deployment.headers()).decide(ask())
        shown = counted(deployment.instruments)
        assert shown["extproc_decision_duration_seconds_count"] == 1
        assert shown["extproc_request_body_bytes_count"] == 1
        assert deployment.stream_metrics.body.sum == len(BODY)
        assert deployment.router_metrics.duration.counts[0] == 1

    @pytest.mark.parametrize(
        ("said", "counted_bytes"),
        [("9000", 9000), ("1", 14), ("", 14), ("-1", 14), ("9" * 30, 14), ("x", 14)],
    )
    def test_of_a_body_of_which_the_beginning_is_here(self, deployment: Deployment, said: str, counted_bytes: int) -> None:
        deployment.add_pool("p", 1)
        director = deployment.director(deployment.picker())
        director.decide(ask(b'{"model":"lor"', head(content_type="application/json", content_length=said), complete=False))
        assert deployment.stream_metrics.body.sum == counted_bytes
        sizes = counted(deployment.instruments, "inference_objective_request_sizes_count")
        assert list(sizes.values()) == [1]

    @pytest.mark.parametrize(
        ("question", "reason"),
        [
            (ask(None), "the proxy does not send the body"),
            (ask(b'{"messages":["', complete=False), "the proxy sends only the beginning of the body"),
            (ask(b"\x1f\x8b", head(content_encoding="compress")), "content-encoding"),
            (ask(b"\x1f\x8b", head(content_encoding="whatever a client says")), "content-encoding"),
            (ask(b"x", head(content_type="text/whatever")), "content-type"),
            (ask(b"{x", head(content_type="text/plain")), "not JSON"),
        ],
    )
    def test_of_bodies_that_were_not_read(self, deployment: Deployment, question: Decide, reason: str) -> None:
        """A label never holds a client's own words."""
        deployment.director(deployment.headers()).decide(question)
        assert counted(deployment.instruments, "extproc_request_body_unread") == {
            f'extproc_request_body_unread_total{{reason="{reason}"}}': 1
        }


class TestFinished:
    def test_gives_back_what_was_picked(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", 1)
        director = deployment.director(deployment.picker())
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        assert store.describe()[0].in_flight == 1
        director.finished(Finished(decision, 503, True), "")
        assert store.describe()[0].in_flight == 0
        errors = counted(deployment.instruments, "inference_objective_request_error")
        assert list(errors.values()) == [1]

    def test_without_a_picker_there_is_nothing_to_give_back(self, deployment: Deployment) -> None:
        director = deployment.director(deployment.headers())
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        director.finished(Finished(decision, 200, True), "10.0.0.1:80")


class TestExplain:
    def test_says_what_each_stage_would_do_and_changes_nothing(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", 2)
        store.page_read(ONE, Load(waiting=5, running=5, kv_usage=0.5))
        director = deployment.director(deployment.headers(), deployment.routes(p=["lora"]), deployment.picker(None))
        told = director.explain(HEAD, BODY)
        assert list(told) == [
            "request_id",
            "path",
            "model",
            "body_bytes",
            "ModelHeaders",
            "RouteToPool",
            "PickEndpoint",
        ]
        assert (told["request_id"], told["path"], told["model"]) == ("r-1", "/v1/chat/completions", "lora")
        assert told["body_bytes"] == len(BODY)
        assert told["RouteToPool"] == {"pool": "p"}
        best = told["PickEndpoint"]["candidates"][0]["endpoint"]
        orjson.dumps(told)
        assert all(view.in_flight == 0 for view in store.describe())
        assert counted(deployment.instruments) == {}
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        assert decision.metadata[0][1] == best != ONE

    @pytest.mark.parametrize(
        ("body", "status", "code", "stages"),
        [
            (b"{", 400, "invalid_body", 0),
            (b'{"model":1}', 400, "invalid_model", 0),
            (b'{"model":"x"}', 404, "model_not_found", 1),
            (b'{"model":"empty"}', 503, "no_endpoints", 2),
            (b"{}", 400, "model_required", 1),
        ],
    )
    def test_an_error_is_told_not_raised(
        self, deployment: Deployment, body: bytes, status: int, code: str, stages: int
    ) -> None:
        deployment.add_pool("p")
        deployment.add_pool("q", 0)
        director = deployment.director(deployment.headers(), deployment.routes(p=["a"], q=["empty"]), deployment.picker(None))
        told = director.explain(HEAD, body)
        assert (told["error"]["status"], told["error"]["code"]) == (status, code)
        assert len(told.keys() & {"ModelHeaders", "RouteToPool", "PickEndpoint"}) == stages
        assert counted(deployment.instruments) == {}

    def test_a_stage_that_answers_ends_it(self, deployment: Deployment) -> None:
        deployment.add_pool("p")
        director = deployment.director(deployment.headers(), deployment.routes(p=["a"]), deployment.picker(None))
        told = director.explain(RequestHead({":method": b"GET", ":path": b"/v1/models"}), b"")
        assert told["RouteToPool"] == {"answered": 200}
        assert "PickEndpoint" not in told

    def test_why_a_body_was_not_read(self, deployment: Deployment) -> None:
        told = deployment.director(deployment.headers()).explain(head(content_encoding="compress"), b"x")
        assert told["unread"] == "content-encoding compress"
