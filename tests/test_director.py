"""The use case: a request becomes a decision, and the decision is accounted for until the request ends."""

from __future__ import annotations

import gzip

import orjson
import pytest

from extproc.director import Director, Suspended
from extproc.domain import NO_MUTATION, Decision, HeaderMutation, InferenceRequest, Load, Reply, RequestHead
from extproc.errors import BodyTooLarge, ExtProcError, InvalidBody, InvalidModel, MissingModel, NoEndpoints, UnknownModel
from extproc.protocol import Answered, Decide, Finished
from extproc.request import ParseOptions
from extproc.stages import ENOUGH, NO_HOOKS, Draft, Ending, Hooks, Pending, Step
from extproc.traffic import AdapterMap
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment
from tests.fakes.events import head
from tests.fakes.page import counted
from tests.fakes.waiting import WaitingStage

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
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        assert decision._replace(ticket=None) == Decision(
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
        passed = director.decide(ask(b"{"))
        assert isinstance(passed, Decision)
        assert passed._replace(ticket=None) == Decision()
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


class Listening:
    """A stage that notes what it hears, and may refuse, answer or fail."""

    def __init__(self, *, outcome: Step | Exception = None, fails: str = "") -> None:
        self.heard: list[str] = []
        self._outcome = outcome
        self._fails = fails
        self.hooks = Hooks(self._committed, self._answered, self._served_elsewhere, self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _note(self, what: str) -> None:
        self.heard.append(what)
        if self._fails and what.startswith(self._fails):
            raise ZeroDivisionError

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        self._note(f"committed {request.model}")

    def _answered(self, draft: Draft, status: int) -> None:
        self._note(f"answered {status}")

    def _served_elsewhere(self, draft: Draft, served: str) -> None:
        self._note(f"served by {served}")

    def _ended(self, draft: Draft, ending: Ending) -> None:
        by = type(ending.by).__name__ if ending.by is not None else ""
        words = (str(ending.status), ending.served, ending.error.code if ending.error else "", by)
        self._note("ended " + " ".join(word for word in words if word))


class TestHooks:
    def test_every_stage_hears_of_a_request_to_its_end(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1)
        first, last = Listening(), Listening()
        director = deployment.director(first, deployment.picker(), last)
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        director.answered(Answered(decision, 200, "10.9.9.9:80"))
        director.finished(Finished(decision, 200, True), "10.9.9.9:80")
        whole = ["committed lora", "served by 10.9.9.9:80", "answered 200", "ended 200 10.9.9.9:80"]
        assert first.heard == last.heard == whole

    def test_who_is_picked_answers_as_a_rule(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1)
        stage = Listening()
        director = deployment.director(stage, deployment.picker())
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        for served in ("", ONE):
            director.answered(Answered(decision, 503, served))
        assert stage.heard[1:] == ["answered 503"] * 2

    @pytest.mark.parametrize(
        ("outcome", "heard"),
        [
            (UnknownModel("none"), "ended 404 model_not_found Listening"),
            (Reply(201, b""), "ended 201 Listening"),
            (ZeroDivisionError(), "ended 500 Listening"),
        ],
    )
    def test_a_request_that_is_not_passed_on_ends_at_once(
        self, deployment: Deployment, outcome: Reply | Exception, heard: str
    ) -> None:
        store = deployment.add_pool("p", 1)
        before, after = Listening(), Listening()
        director = deployment.director(before, deployment.picker(), Listening(outcome=outcome), after)
        if isinstance(outcome, Exception):
            with pytest.raises(type(outcome)):
                director.decide(ask())
        else:
            assert director.decide(ask()) is outcome
        assert before.heard == after.heard == [heard]
        assert store.describe()[0].in_flight == 0, "nothing is booked before the decision goes out"
        assert len(deployment.log) == 0

    def test_a_stage_that_fails_to_commit_fails_the_request_and_what_is_booked_is_given_back(
        self, deployment: Deployment
    ) -> None:
        store = deployment.add_pool("p", 1)
        stage = Listening(fails="committed")
        with pytest.raises(ZeroDivisionError):
            deployment.director(deployment.picker(), stage).decide(ask())
        assert stage.heard == ["committed lora", "ended 500"]
        assert store.describe()[0].in_flight == 0

    @pytest.mark.parametrize("fails", ["answered", "served", "ended"])
    def test_a_stage_that_fails_later_costs_the_others_nothing(self, deployment: Deployment, fails: str) -> None:
        store = deployment.add_pool("p", 1)
        director = deployment.director(Listening(fails=fails), deployment.picker())
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        director.answered(Answered(decision, 200, "10.9.9.9:80"))
        director.finished(Finished(decision, 200, True), "")
        assert store.describe()[0].in_flight == 0

    @pytest.mark.parametrize("fails", ["answered", "served"])
    def test_what_one_stage_fails_to_hear_the_next_one_hears(self, deployment: Deployment, fails: str) -> None:
        deployment.add_pool("p", 1)
        last = Listening()
        director = deployment.director(Listening(fails=fails), deployment.picker(), last)
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        director.answered(Answered(decision, 200, "10.9.9.9:80"))
        assert last.heard == ["committed lora", "served by 10.9.9.9:80", "answered 200"]

    def test_a_director_without_metrics_accounts_for_nothing(self, deployment: Deployment) -> None:
        """To replay, to try, to explain."""
        store = deployment.add_pool("p", 1)
        stage = Listening()
        director = Director([stage, deployment.headers(), deployment.picker()])
        for _ in range(3):
            decision = director.decide(ask())
            assert isinstance(decision, Decision)
            assert decision.destination == ONE
            director.answered(Answered(decision, 200, ""))
            director.finished(Finished(decision, 200, True), "")
        with pytest.raises(InvalidBody):
            director.decide(ask(b"{"))
        director.refused(InvalidBody("x"))
        assert stage.heard == []
        assert (store.describe()[0].picks, len(deployment.log), counted(deployment.instruments)) == (0, 0, {})

    def test_what_a_request_no_longer_needs_is_let_go(self, deployment: Deployment) -> None:
        """An answer may take an hour; its request's body must not stay that long."""
        deployment.add_pool("p", 1)
        decision = deployment.director(deployment.picker()).decide(ask())
        assert isinstance(decision, Decision)
        assert isinstance(decision.ticket, Draft)
        assert (decision.ticket.body, decision.ticket.choice) == (None, None)


class TestResponseHeaders:
    def test_belong_to_the_decision(self, deployment: Deployment) -> None:
        class Receipt:
            hooks = NO_HOOKS

            def decide(self, request: InferenceRequest, draft: Draft) -> Step:
                draft.set_response_headers += (("served-model-name", request.model or ""),)
                draft.append_response_headers += (("set-cookie", "a=1"),)
                draft.remove_response_headers += ("server",)
                return None

        decision = deployment.director(Receipt()).decide(ask())
        assert isinstance(decision, Decision)
        assert decision.response == HeaderMutation(("server",), (("served-model-name", "lora"),), (("set-cookie", "a=1"),))
        plain = deployment.director().decide(ask())
        assert isinstance(plain, Decision)
        assert plain.response is NO_MUTATION


class TestWaiting:
    def test_is_explained_and_not_begun(self, deployment: Deployment) -> None:
        stage = WaitingStage()
        told = deployment.director(stage, deployment.headers()).explain(HEAD, BODY)
        assert told["WaitingStage"] == {"waits_for": "the test", "timeout_s": 3600}
        assert stage.begun == 0
        assert "ModelHeaders" not in told

    def test_is_explained_behind_a_wait_whose_outcome_is_known(self, deployment: Deployment) -> None:
        stage = WaitingStage()
        told = deployment.director(stage, deployment.headers()).explain(HEAD, BODY, {"the test": "known"})
        assert "WaitingStage" not in told
        assert "ModelHeaders" in told
        assert stage.begun == 0

    def test_goes_on_behind_the_stage_that_waited(self, deployment: Deployment) -> None:
        stage = WaitingStage()
        director = deployment.director(deployment.headers(), stage)
        suspended = director.decide(ask())
        assert isinstance(suspended, Suspended)
        decision = director.resume(suspended, "it")
        assert isinstance(decision, Decision)
        assert [name for name, _ in decision.set_headers][-1] == "x-waited-for"
        assert deployment.router_metrics.success.value == 1

    @pytest.mark.parametrize("body", [BODY, b"", b"no JSON"])
    @pytest.mark.parametrize("may_be_long", [True, False])
    def test_lets_go_of_the_parsed_body_when_it_may_be_long(
        self, deployment: Deployment, body: bytes, may_be_long: bool
    ) -> None:
        seen: list[object] = []

        class Looks:
            hooks = NO_HOOKS

            def decide(self, request: InferenceRequest, draft: Draft) -> Step:
                seen.append((request.payload, request.model))
                return None

        director = deployment.director(
            Looks(), WaitingStage(may_be_long=may_be_long), Looks(), options=ParseOptions(invalid_json_passes=True)
        )
        suspended = director.decide(ask(body))
        assert isinstance(suspended, Suspended)
        assert suspended.is_light is (may_be_long and body is BODY)
        assert (suspended.request.payload is None) is (may_be_long or body is not BODY)
        director.resume(suspended, "it")
        assert seen[0] == seen[1]

    def test_needs_some_time(self) -> None:
        with pytest.raises(ValueError, match="timeout_s is 0; expected more than 0"):
            Pending("x", lambda resolve: lambda: None, lambda outcome: None, timeout_s=0)


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


class Says:
    """A stage with one thing to say, behind which nobody or somebody is left."""

    def __init__(self, step: Step | ExtProcError, *, falls_back: bool = False) -> None:
        self.hooks = NO_HOOKS
        self._step = step
        self._falls_back = falls_back

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        draft.falls_back = self._falls_back
        if isinstance(self._step, ExtProcError):
            raise self._step
        return self._step


class TestEnough:
    def test_the_stages_behind_are_not_asked_and_hear_of_it(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1)
        heard: list[str] = []
        last = Says(MissingModel("not asked"))
        last.hooks = Hooks(committed=lambda request, draft: heard.append("committed"))
        director = deployment.director(deployment.headers(), Says(ENOUGH), deployment.picker("p"), last)
        decision = director.decide(ask())
        assert isinstance(decision, Decision)
        assert (decision.destination, decision.metadata) == ("", ())
        assert dict(decision.set_headers)["X-Gateway-Model-Name"] == "lora"
        director.answered(Answered(decision, 200, ""))
        director.finished(Finished(decision, 200, True), "")
        assert heard == ["committed"]
        assert len(deployment.log) == 0

    def test_explained(self, deployment: Deployment) -> None:
        director = deployment.director(Says(ENOUGH), Says(MissingModel("not asked")))
        assert "error" not in director.explain(HEAD, BODY)


class TestFallsBack:
    NEXT = ("x-extproc-next-entity", "1")

    @pytest.mark.parametrize("falls_back", [True, False])
    def test_a_decision_says_so(self, deployment: Deployment, falls_back: bool) -> None:
        decision = deployment.director(Says(None, falls_back=falls_back)).decide(ask())
        assert isinstance(decision, Decision)
        assert decision.falls_back == falls_back
        assert (("x-extproc-falls-back", "1") in decision.metadata) == falls_back

    @pytest.mark.parametrize(("status", "next_"), [(200, False), (404, False), (429, True), (503, True)])
    def test_a_reply_of_a_stage(self, deployment: Deployment, status: int, next_: bool) -> None:
        for falls_back in (True, False):
            reply = deployment.director(Says(Reply(status, b""), falls_back=falls_back)).decide(ask())
            assert isinstance(reply, Reply)
            assert (self.NEXT in reply.headers) == (next_ and falls_back)

    @pytest.mark.parametrize(("error", "next_"), [(NoEndpoints("none"), True), (UnknownModel("none"), False)])
    def test_an_error(self, deployment: Deployment, error: ExtProcError, next_: bool) -> None:
        for falls_back in (True, False):
            with pytest.raises(ExtProcError) as raised:
                deployment.director(Says(error, falls_back=falls_back)).decide(ask())
            assert raised.value.falls_back == (next_ and falls_back)
