"""Which model serves a request, and what changes for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extproc.domain import BodyPath, Decision, InferenceRequest, Splice, spliced
from extproc.errors import BodyNotSeen, InvalidModel, MissingModel, UnreadableBody
from extproc.protocol import Decide, Finished
from extproc.request import parse
from extproc.stages import Draft
from extproc.traffic import ModelRewrite, RewriteRule, RewriteTable, RewriteTarget
from tests.fakes.chance import Draws
from tests.fakes.deployment import Deployment
from tests.fakes.encoders import encode
from tests.fakes.events import head
from tests.fakes.page import counted
from tests.stages.running import explained
from tests.stages.running import run as run_stage

DECISIONS = "inference_extension_model_rewrite_decisions_total"
BODY = b'{"model":"m","messages":[]}'
NEW, OLD = "x_llm_d_model_name_rewrite", "x_gateway_model_name_rewrite"


def table(*rules: tuple[tuple[str, ...], dict[str, int | None]]) -> RewriteTable:
    made = [RewriteRule(models, tuple(RewriteTarget(*target) for target in targets.items())) for models, targets in rules]
    return RewriteTable([ModelRewrite("ns/r", 0.0, tuple(made))])


CANARY = table((("m",), {"stable": 90, "canary": 10}))
ALIAS = table((("m",), {"served": None}))
EVERY = table(((), {"served": None}))


@pytest.fixture
def deployment() -> Deployment:
    made = Deployment()
    made.add_pool("p")
    return made


def run(
    deployment: Deployment,
    rules: RewriteTable,
    body: bytes | None = BODY,
    headers: Mapping[str, str] = {},
    *,
    draws: tuple[float, ...] = (),
) -> tuple[Draft, InferenceRequest]:
    deployment.traffic["p"].rewrites.replace(rules)
    request_head = head(subset=None, **{"content_type": "application/json", **headers})
    request = parse(request_head, body)
    draft = Draft(0.0, body)
    draws_left = Draws(*draws)
    assert run_stage(deployment.rewriter(draw=draws_left), request, draft)[1] is None
    assert not draws_left.left
    return draft, request


def unchanged(draft: Draft) -> bool:
    return (draft.splices, draft.target_model, draft.restore_model, draft.set_headers, draft.remove_headers) == (
        ((), None, None, (), ())
    )


class TestTheModelThatServes:
    @pytest.mark.parametrize(("draw", "model"), [(0.0, "stable"), (0.89, "stable"), (0.9, "canary")])
    def test_is_drawn_by_the_rule(self, deployment: Deployment, draw: float, model: str) -> None:
        draft, _ = run(deployment, CANARY, draws=(draw,))
        assert draft.target_model == model
        assert spliced(BODY, draft.splices) == BODY.replace(b'"m"', b'"%s"' % model.encode())
        assert draft.restore_model == (model, "m")
        assert counted(deployment.instruments, DECISIONS) == {
            f'{DECISIONS}{{model_name="m",model_rewrite_name="r",target_model="{model}"}}': 1
        }

    @pytest.mark.parametrize("header", [NEW, OLD])
    def test_is_what_a_header_asks_for(self, deployment: Deployment, header: str) -> None:
        draft, _ = run(deployment, RewriteTable(), headers={header: "asked"})
        assert (draft.target_model, draft.restore_model) == ("asked", ("asked", "m"))
        assert draft.splices == (Splice(9, 12, b'"asked"'),)
        assert counted(deployment.instruments, DECISIONS) == {}, "no rule decided it"

    def test_the_newer_header_counts_first(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, RewriteTable(), headers={NEW: "new", "x_gateway_model_name_rewrite": "old"})
        assert draft.target_model == "new"

    def test_a_rule_for_the_clients_model_overrides_the_header(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, ALIAS, headers={NEW: "asked"})
        assert draft.target_model == "served"

    def test_the_header_is_no_name_that_a_rule_is_looked_up_by(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, table((("asked",), {"other": None})), headers={NEW: "asked"})
        assert draft.target_model == "asked"

    def test_rules_do_not_lead_to_each_other(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, table((("m",), {"n": None}), (("n",), {"m": None})))
        assert draft.target_model == "n"

    @pytest.mark.parametrize("rules", [RewriteTable(), table((("other",), {"served": None}))])
    def test_else_it_stays(self, deployment: Deployment, rules: RewriteTable) -> None:
        draft, _ = run(deployment, rules)
        assert unchanged(draft)
        assert counted(deployment.instruments, DECISIONS) == {}

    def test_a_share_that_stays_changes_nothing_and_is_counted(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, table((("m",), {"m": 1, "canary": 1})), draws=(0.2,))
        assert unchanged(draft)
        assert sum(counted(deployment.instruments, DECISIONS).values()) == 1

    def test_a_new_table_counts_at_once(self, deployment: Deployment) -> None:
        assert run(deployment, ALIAS)[0].target_model == "served"
        assert run(deployment, table((("m",), {"newer": None})))[0].target_model == "newer"

    def test_belongs_to_its_pool(self, deployment: Deployment) -> None:
        deployment.add_pool("q")
        deployment.traffic["p"].rewrites.replace(ALIAS)
        for pool, target in (("p", "served"), ("q", None)):
            draft = Draft(0.0, BODY)
            draft.pool = pool
            run_stage(deployment.rewriter(None), parse(head(content_type="application/json"), BODY), draft)
            assert draft.target_model == target


class TestRequestsWithoutAModel:
    def test_get_one_from_a_rule_for_every_model(self, deployment: Deployment) -> None:
        draft, _ = run(deployment, EVERY, b'{"messages":[]}')
        assert spliced(b'{"messages":[]}', draft.splices) == b'{"model":"served","messages":[]}'
        assert draft.restore_model is None, "there is no name that the client used"

    @pytest.mark.parametrize("body", [b"", b"null"])
    def test_stay_when_there_is_no_place_for_it(self, deployment: Deployment, body: bytes) -> None:
        draft, _ = run(deployment, EVERY, body)
        assert unchanged(draft)
        assert counted(deployment.instruments, DECISIONS) == {}


class TestWhatIsRefused:
    @pytest.mark.parametrize("rules", [ALIAS, EVERY])
    @pytest.mark.parametrize(
        ("body", "headers", "error"),
        [(None, {}, BodyNotSeen), (b"x", {"content_encoding": "rot13"}, UnreadableBody)],
    )
    def test_a_body_that_may_name_anything(
        self,
        deployment: Deployment,
        rules: RewriteTable,
        body: bytes | None,
        headers: dict[str, str],
        error: type[Exception],
    ) -> None:
        with pytest.raises(error):
            run(deployment, rules, body, headers)
        with pytest.raises(error):
            run(deployment, RewriteTable(), body, {NEW: "asked", **headers})

    def test_but_not_where_nothing_is_rewritten(self, deployment: Deployment) -> None:
        assert unchanged(run(deployment, RewriteTable(), None)[0])
        assert unchanged(run(deployment, RewriteTable(), b"x", {"content_encoding": "rot13"})[0])

    @pytest.mark.parametrize("value", ["\xff\xfe", "a\tb", "x" * 5000])
    def test_a_header_that_is_no_name(self, deployment: Deployment, value: str) -> None:
        with pytest.raises(InvalidModel, match="x-llm-d-model-name-rewrite: the model's name"):
            run(deployment, RewriteTable(), headers={NEW: value})


class TestExplain:
    def test_tells_the_shares_and_counts_nothing(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(CANARY)
        draft = Draft(0.0, BODY)
        told = explained(deployment.rewriter(draw=Draws(0.95)), parse(head(content_type="application/json"), BODY), draft)
        assert told == {"target_model": "canary", "rewrite": "ns/r", "targets": {"stable": 0.9, "canary": 0.1}}
        assert draft.target_model == "canary"
        assert counted(deployment.instruments, DECISIONS) == {}

    def test_without_a_rule(self, deployment: Deployment) -> None:
        told = explained(deployment.rewriter(), parse(head(content_type="application/json"), BODY), Draft(0.0, BODY))
        assert told == {"target_model": "m", "rewrite": None, "targets": {}}


class TestBehindIt:
    """The decision as a whole."""

    def decide(self, deployment: Deployment, body: bytes = BODY, *, gateway: bool = False, **headers: str) -> Decision:
        picking = (deployment.rewriter(draw=lambda: 0.0), deployment.admission(), deployment.picker(model_required=not gateway))
        stages = (deployment.headers(), deployment.routes(p=["m"]), *picking) if gateway else picking
        request_head = head(subset=None, **{"content_type": "application/json", **headers})
        decision = deployment.director(*stages).decide(Decide(request_head, body))
        assert isinstance(decision, Decision)
        return decision

    def test_routes_and_headers_go_by_the_clients_model(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        decision = self.decide(deployment, gateway=True, content_length=str(len(BODY)))
        assert dict(decision.set_headers)["X-Gateway-Model-Name"] == "m"
        assert decision.remove_headers == ("content-length",)
        assert spliced(BODY, decision.splices) == b'{"model":"served","messages":[]}'
        assert decision.reader is not None, "the client's name is put back"

    def test_an_answer_that_is_not_sent_to_us_is_counted(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        decision = self.decide(deployment)
        assert decision.reader is not None
        decision.reader.headers(200, {"content-type": b"application/json"}, BodyPath.UNSEEN)
        deployment.director(deployment.picker()).finished(Finished(decision, 200, True), "")
        name = "extproc_answers_not_restored_total"
        assert counted(deployment.instruments, name) == {f'{name}{{reason="body not sent"}}': 1}

    def test_metrics_and_the_log_tell_both_models(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        self.decide(deployment)
        (record,) = deployment.log.latest()
        assert (record.model, record.target_model) == ("m", "served")
        assert counted(deployment.instruments, "inference_objective_request_total") == {
            'inference_objective_request_total{model_name="m",priority="0",target_model_name="served"}': 1
        }
        (attempt,) = counted(deployment.instruments, "inference_extension_scheduler_attempts_total")
        assert 'target_model_name="served"' in attempt

    def test_an_epp_needs_no_name_when_a_rule_gives_one(self, deployment: Deployment) -> None:
        with pytest.raises(MissingModel):
            self.decide(deployment, b'{"messages":[]}')
        deployment.traffic["p"].rewrites.replace(EVERY)
        assert self.decide(deployment, b'{"messages":[]}').splices

    def test_what_clients_tell_the_picker_does_not_reach_the_model_server(self, deployment: Deployment) -> None:
        told = self.decide(
            deployment,
            x_llm_d_model_name_rewrite="asked",
            x_gateway_model_name_rewrite="asked",
            x_llm_d_inference_objective="o",
            x_gateway_inference_objective="o",
            x_llm_d_inference_fairness_id="f",
            x_gateway_inference_fairness_id="f",
            x_llm_d_slo_ttft_ms="100",
        )
        assert sorted(told.remove_headers) == [
            "x-gateway-inference-fairness-id",
            "x-gateway-inference-objective",
            "x-gateway-model-name-rewrite",
            "x-llm-d-inference-fairness-id",
            "x-llm-d-inference-objective",
            "x-llm-d-model-name-rewrite",
        ]

    def test_a_request_without_rewrites_is_not_touched(self, deployment: Deployment) -> None:
        decision = self.decide(deployment)
        assert (decision.splices, decision.reader) == ((), None)

    def test_nothing_is_in_flight_after_a_refusal(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        with pytest.raises(UnreadableBody):
            self.decide(deployment, b"x", content_encoding="rot13")
        assert all(view.in_flight == 0 for view in deployment.pools["p"].store.describe())

    def test_a_compressed_body_goes_on_plain(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        body = encode(BODY, "zstd")
        decision = self.decide(deployment, body, content_encoding="zstd")
        assert decision.remove_headers == ("content-encoding",)
        assert spliced(body, decision.splices) == b'{"model":"served","messages":[]}'

    def test_explained_as_a_whole(self, deployment: Deployment) -> None:
        deployment.traffic["p"].rewrites.replace(ALIAS)
        stages = (deployment.rewriter(), deployment.admission(), deployment.picker())
        told: dict[str, Any] = deployment.director(*stages).explain(head(content_type="application/json"), BODY)
        assert told["RewriteModel"]["target_model"] == "served"
        assert told["AdmitByPriority"] == {"objective": None, "priority": 0, "saturation": 0.0}
        assert told["PickEndpoint"]["pool"] == "p"
