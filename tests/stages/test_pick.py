"""The stage that picks an endpoint."""

from __future__ import annotations

import orjson
import pytest

from extproc.domain import Endpoint, InferenceRequest, Load
from extproc.errors import ExtProcError, MissingModel, NoEndpoints
from extproc.settings.picker import DEFAULT_WEIGHTS
from extproc.stages import Draft
from extproc.stages.explained import considered_shape
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.stages.running import counts, end, explained, run

DESTINATION = "x-gateway-destination-endpoint"
A, B = (endpoint.key for endpoint in endpoints(2))


class TestPickEndpoint:
    def test_the_destination_is_header_and_metadata(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p")
        store.page_read(A, Load(waiting=9, running=9, kv_usage=0.9))
        draft, reply = run(deployment.picker(), request())
        assert reply is None
        assert draft.set_headers == draft.metadata == ((DESTINATION, B),)
        assert draft.remove_headers == ()

    def test_fallbacks_follow_behind_commas(self, deployment: Deployment) -> None:
        store = deployment.add_pool(
            "p",
            3,
            config="plugins: [{type: queue-scorer}, {type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}]",
        )
        store.page_read(A, Load(waiting=5))
        store.page_read(B, Load(waiting=1))
        draft, _ = run(deployment.picker(), request())
        assert draft.set_headers == ((DESTINATION, f"10.0.0.3:8000,{B}"),)
        (record,) = deployment.log.latest()
        assert record.fallbacks == (B,)
        assert store.describe()[1].in_flight == 0, "a fallback is not in flight"

    def test_ipv6_has_brackets(self, deployment: Deployment) -> None:
        deployment.add_pool("p", [Endpoint("2001:db8::1", 8000)])
        assert run(deployment.picker(), request())[0].set_headers == ((DESTINATION, "[2001:db8::1]:8000"),)

    def test_what_only_the_picker_may_say_is_removed(self, deployment: Deployment) -> None:
        """Headers that name hosts for a model server's side-car to connect to are a request forgery in a client's hands."""
        deployment.add_pool("p")
        spoofed = head(
            x_gateway_destination_endpoint="6.6.6.6:80",
            x_prefiller_host_port="6.6.6.6:80",
            x_encoder_hosts_ports="6.6.6.6:80",
            x_data_parallel_host_port="6.6.6.6:80",
            x_kv_cache_source_host_port="6.6.6.6:80",
            x_other="stays",
        )
        draft, _ = run(deployment.picker(), request(head=spoofed))
        assert set(draft.remove_headers) == {
            "x-prefiller-host-port",
            "x-encoder-hosts-ports",
            "x-data-parallel-host-port",
            "x-kv-cache-source-host-port",
        }
        assert dict(draft.set_headers)[DESTINATION] in (A, B), "and the destination is overwritten"

    def test_the_routes_pool_comes_before_the_default(self, deployment: Deployment) -> None:
        deployment.add_pool("p")
        deployment.add_pool("q", [Endpoint("10.9.9.9", 1)])
        draft = Draft(0.0)
        draft.pool = "q"
        run(deployment.picker(), request(), draft)
        assert draft.set_headers == ((DESTINATION, "10.9.9.9:1"),)

    def test_counted_in_flight_before_the_next_is_decided(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p")
        picker = deployment.picker()
        drafts = [run(picker, request())[0] for _ in range(4)]
        assert [view.in_flight for view in store.describe()] == [2, 2]
        for draft in drafts:
            end(picker, draft, 200)
        assert [view.in_flight for view in store.describe()] == [0, 0]

    def test_the_subset_binds(self, deployment: Deployment) -> None:
        deployment.add_pool("p")
        for subset in ((B,), ("10.0.0.2",)):
            draft, _ = run(deployment.picker(), request(head=head(subset=subset)))
            assert draft.set_headers == ((DESTINATION, B),)

    def test_unless_it_is_told_not_to(self, deployment: Deployment) -> None:
        """--disable-endpoint-subset-filter."""
        deployment.add_pool("p")
        for subset in ((), ("10.9.9.9",)):
            draft, _ = run(deployment.picker(ignore_subset=True), request(head=head(subset=subset)))
            assert draft.destination in (A, B)

    def test_scores_as_metadata(self, deployment: Deployment) -> None:
        """--emit-endpoint-scores: every candidate's points; the destination stays as it is."""
        store = deployment.add_pool("p")
        store.page_started(A)
        store.page_read(A, Load(waiting=5, running=1, kv_usage=0.5))
        draft, _ = run(deployment.picker(emit_scores=True), request())
        assert draft.metadata[0] == (DESTINATION, B)
        name, points = draft.metadata[1]
        assert name == "x-gateway-destination-endpoint-scores"
        assert isinstance(points, tuple)
        assert dict(points) == {A: 2.05, B: 3.55}, "none in flight at either; and A was the first in turn"
        assert run(deployment.picker(), request())[0].metadata[1:] == ()

    @pytest.mark.parametrize(
        ("subset", "said"),
        [
            (("10.9.9.9",), "pool 'p' has no endpoint in the subset that the proxy allows (10.9.9.9)"),
            ((), "pool 'p' has no endpoint in the subset that the proxy allows (nothing)"),
        ],
    )
    def test_nothing_in_the_subset_is_503(self, deployment: Deployment, subset: tuple[str, ...], said: str) -> None:
        deployment.add_pool("p")
        with pytest.raises(NoEndpoints) as caught:
            run(deployment.picker(), request(head=head(subset=subset)))
        assert caught.value.message == said

    def test_an_empty_pool_is_503(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 0)
        with pytest.raises(NoEndpoints, match="pool 'p' has no endpoints"):
            run(deployment.picker(), request())
        both = 'model_name="m",target_model_name="m"'
        assert counts(deployment, "inference") == {
            f'inference_objective_request_error_total{{error_code="no_endpoints",{both}}}': 1,
            'inference_extension_scheduler_attempts_total{namespace="",pod_name="",port="",'
            'status="failure",target_model_name="m"}': 1,
        }

    def test_a_pool_of_which_nothing_is_known_still_picks_and_says_so(self, deployment: Deployment) -> None:
        deployment.add_pool("p", idle=False)
        assert run(deployment.picker(), request())[0].set_headers
        assert counts(deployment, "extproc_picks") == {'extproc_picks_without_load_total{name="p"}': 1}

    def test_counts(self, deployment: Deployment) -> None:
        deployment.add_pool("p", [Endpoint("10.0.0.1", 8000, name="pod-1", namespace="prod")])
        picker = deployment.picker()
        draft, _ = run(picker, request(body_bytes=300), Draft(deployment.clock()))
        both = 'model_name="m",target_model_name="m"'
        picked = {
            'inference_objective_request_total{model_name="m",priority="0",target_model_name="m"}': 1,
            f"inference_objective_request_sizes_count{{{both}}}": 1,
            "inference_extension_scheduler_e2e_duration_seconds_count": 1,
            'inference_extension_scheduler_attempts_total{namespace="prod",pod_name="pod-1",port="8000",'
            'status="success",target_model_name="m"}': 1,
        }
        assert counts(deployment, "inference") == {
            **picked,
            'inference_objective_running_requests{model_name="m"}': 1,
        }
        deployment.clock.advance(2)
        end(picker, draft, 200)
        assert counts(deployment, "inference") == {
            **picked,
            f"inference_objective_request_duration_seconds_count{{{both}}}": 1,
        }
        assert deployment.picker_metrics.model("m").duration.sum == 2

    @pytest.mark.parametrize(("status", "number"), [(200, 0), (0, 0), (304, 0), (404, 1), (429, 1), (503, 1)])
    def test_errors_of_the_model_server_are_counted(self, deployment: Deployment, status: int, number: int) -> None:
        deployment.add_pool("p")
        picker = deployment.picker()
        draft, _ = run(picker, request())
        end(picker, draft, status)
        assert sum(counts(deployment, "inference_objective_request_error").values()) == number

    def test_every_decision_is_on_record(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", 1)
        store.page_read(A, Load(waiting=3, running=2, kv_usage=0.25))
        picker = deployment.picker()
        for _ in range(2):
            run(picker, request(head=head(x_request_id="r-1")), Draft(deployment.clock() - 0.5))
        record, before = deployment.log.latest(request_id="r-1")
        assert (record.model, record.pool, record.endpoint.key) == ("m", "p", A)
        assert (record.load.running, record.load.kv_usage, record.candidates, record.fallbacks) == (2, 0.25, 1, ())
        assert (before.waiting, before.in_flight) == (3, 0), "as it was before this request"
        assert (record.waiting, record.in_flight) == (4, 1)
        assert (record.at_s, record.took_s) == (deployment.clock(), 0.5)

    def test_candidates_are_kept_where_somebody_may_ask(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", 3)
        store.page_read(A, Load(waiting=3, running=2, kv_usage=0.25))
        store.page_failed("10.0.0.3:8000", "refused", down=True)
        deployment.log.keeps_candidates = True
        deployment.clock.advance(1.5)
        picker = deployment.picker()
        draft, _ = run(picker, request())
        now = explained(picker, request())
        end(picker, draft, 200)
        (record,) = deployment.log.latest()
        assert record.considered is not None
        store.page_read(A, Load(waiting=0, running=0, kv_usage=0.0))
        told = considered_shape(record.considered)
        assert told["picked"] == [B]
        rows = {row["endpoint"]: row for row in told["candidates"]}
        assert rows[A]["signals"] == {"waiting": 3, "running": 2, "kv_usage": 0.25, "in_flight": 0}
        assert (rows[A]["age_s"], rows[A]["points"].keys()) == (1.5, rows[B]["points"].keys())
        assert rows[A]["total"] == pytest.approx(sum(rows[A]["points"][name] * each for name, each in told["weights"].items()))
        assert (told["runner_up"], told["candidates_in_all"]) == (A, 2)
        assert told.keys() == now.keys() - {"pool", "fail_open"}
        assert record.outcome.took_s > 0
        orjson.dumps(told)

    def test_nothing_of_the_others_is_kept_where_nobody_asks(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 3)
        picker = deployment.picker()
        draft, _ = run(picker, request())
        end(picker, draft, 200)
        (record,) = deployment.log.latest()
        assert (record.considered, record.outcome.answer) == (None, None)
        assert record.outcome.took_s == 0

    def test_explain_shows_every_candidate_and_does_nothing(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", 3)
        store.page_read(A, Load(waiting=2, running=1, kv_usage=0.5))
        store.page_failed("10.0.0.3:8000", "refused", down=True)
        told = explained(deployment.picker(), request())
        assert (told["pool"], told["profile"], told["fail_open"]) == ("p", "default", False)
        assert told["picked"] == [B]
        assert told["weights"] == DEFAULT_WEIGHTS
        assert told["left_out"] == ["10.0.0.3:8000"]
        assert [row["endpoint"] for row in told["candidates"]] == [B, A]
        assert told["candidates"][1] == {
            "endpoint": A,
            "name": A,
            "signals": {"waiting": 2, "running": 1, "kv_usage": 0.5, "in_flight": 0},
            "age_s": 0.0,
            "points": {
                "queue-scorer": 0,
                "kv-cache-utilization-scorer": 0.5,
                "prefix-cache-scorer": 0.0,
                "active-request-scorer": 1.0,
                "no-hit-lru-scorer": 1.0,
            },
            "total": 2.05,
            "trial": False,
        }
        assert (told["runner_up"], told["behind"]) == (A, pytest.approx(told["candidates"][0]["total"] - 2.05))
        assert told["flip"] == (
            f"{A} would have won with 2 fewer waiting requests (it had 2), or a prefix hit ≥ 0.57 (it had 0); "
            "if no-hit-lru-scorer had judged as before"
        )
        assert [view.in_flight for view in store.describe()] == [0, 0, 0]
        assert len(deployment.log) == 0
        assert counts(deployment, "inference") == {}
        orjson.dumps(told)

    @pytest.mark.parametrize(
        "what", [request(head=head(subset=())), request(None, head=head("/v1/completions"))], ids=["subset", "model"]
    )
    def test_explain_refuses_as_run_would_and_counts_nothing(self, deployment: Deployment, what: InferenceRequest) -> None:
        deployment.add_pool("p")
        picker = deployment.picker(model_required=True)
        with pytest.raises(ExtProcError) as caught:
            explained(picker, what)
        assert counts(deployment, "inference") == {}
        with pytest.raises(type(caught.value), match=caught.value.message.replace("(", r"\(").replace(")", r"\)")):
            run(picker, what)


class TestModelRequired:
    @pytest.mark.parametrize(
        ("what", "passes"),
        [
            (request("m"), True),
            (request(None), False),
            (request(None, empty_model=True), False),
            (request(None, body_bytes=0), True),
            (request(None, unread="content-encoding gzip"), True),
            (request(None, head=head("/v1/models")), True),
            (request(None, head=head("/tokenize")), True),
        ],
    )
    def test_where_the_api_refuses_a_body_without_one(
        self, deployment: Deployment, what: InferenceRequest, passes: bool
    ) -> None:
        deployment.add_pool("p")
        picker = deployment.picker(model_required=True)
        if passes:
            assert run(picker, what)[0].set_headers
        else:
            with pytest.raises(MissingModel, match="model not found in request body"):
                run(picker, what)
            error = 'error_code="model_required",model_name="",target_model_name=""'
            assert counts(deployment, "inference") == {f"inference_objective_request_error_total{{{error}}}": 1}

    def test_not_asked_for_is_not_needed(self, deployment: Deployment) -> None:
        deployment.add_pool("p")
        draft, _ = run(deployment.picker(), request(None))
        assert draft.set_headers
        assert 'inference_objective_request_total{model_name="",priority="0",target_model_name=""}' in counts(deployment, "inf")
