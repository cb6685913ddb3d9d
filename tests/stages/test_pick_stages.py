"""Requests in stages, as the picker books, tells and explains them; and destinations that are not the pick."""

from __future__ import annotations

import pytest

from extproc.domain import BodyPath, Endpoint
from extproc.observability.responses import ResponseMetrics
from extproc.response import AnswerReader
from extproc.stages import Draft
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment, request
from tests.fakes.events import head
from tests.stages.running import end, explained, run

A, B = (endpoint.key for endpoint in endpoints(2))
PREFILLER = "x-prefiller-host-port"

PD = """
plugins:
- {type: always-disagg-pd-decider}
- {type: disagg-profile-handler, parameters: {deciders: {prefill: always-disagg-pd-decider}}}
- {type: label-selector-filter, name: d, parameters: {matchLabels: {role: decode}}}
- {type: label-selector-filter, name: p, parameters: {matchLabels: {role: prefill}}}
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: d}]}
- {name: prefill, plugins: [{pluginRef: p}]}
"""


def members(*roles: str) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{number + 1}", 8000, labels={"role": role}) for number, role in enumerate(roles)]


class TestPrefillElsewhere:
    def test_both_are_in_flight_and_prefill_until_the_answer_begins(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", members("decode", "prefill"), config=PD)
        picker = deployment.picker()
        draft, _ = run(picker, request())
        assert draft.set_headers == (("x-gateway-destination-endpoint", A), (PREFILLER, B))
        assert [view.in_flight for view in store.views()] == [1, 1]
        assert picker.hooks.answered is not None
        picker.hooks.answered(draft, 200)
        assert [view.in_flight for view in store.views()] == [1, 0]
        end(picker, draft, 200)
        assert [view.in_flight for view in store.views()] == [0, 0]

    @pytest.mark.parametrize("roles", [("decode", "prefill"), ("decode", "other")])
    def test_a_clients_own_headers_are_removed_whether_the_stage_runs_or_not(
        self, deployment: Deployment, roles: tuple[str, str]
    ) -> None:
        deployment.add_pool("p", members(*roles), config=PD)
        spoofed = head(x_prefiller_host_port="6.6.6.6:80", x_encoder_hosts_ports="6.6.6.6:80")
        draft, _ = run(deployment.picker(), request(head=spoofed))
        assert set(draft.remove_headers) == {PREFILLER, "x-encoder-hosts-ports"}
        assert dict(draft.set_headers).get(PREFILLER) == (B if "prefill" in roles else None)

    def test_explain_says_who_and_which_stage_was_left_out(self, deployment: Deployment) -> None:
        deployment.add_pool("p", members("decode", "other"), config=PD)
        told = explained(deployment.picker(), request())
        assert (told["profile"], told["picked"]) == ("decode", [A])
        assert told["omitted"] == {"prefill": "profile 'prefill': p leaves no endpoint"}
        assert [(each["profile"], each["picked"]) for each in told["profiles"]] == [("prefill", [])]


class TestDataParallel:
    CONFIG = "plugins: [{type: data-parallel-profile-handler, parameters: {primaryPort: 8000}}]"

    def test_the_destination_is_the_pods_port_and_who_answers_there_is_the_rank(self, deployment: Deployment) -> None:
        store = deployment.add_pool("p", [Endpoint("10.0.0.1", 8001)], config=self.CONFIG)
        picker = deployment.picker()
        draft, _ = run(picker, request())
        assert draft.set_headers == (
            ("x-gateway-destination-endpoint", "10.0.0.1:8000"),
            ("x-data-parallel-host-port", "10.0.0.1:8001"),
        )
        assert draft.metadata == (("x-gateway-destination-endpoint", "10.0.0.1:8000"),)
        assert draft.destination == "10.0.0.1:8000", "so that 'served by' it is no other endpoint"
        assert [view.in_flight for view in store.views()] == [1]
        end(picker, draft, 200)
        assert [view.in_flight for view in store.views()] == [0]


class TestWhatIsMeasured:
    CONFIG = """
plugins:
- {type: predicted-latency-producer, parameters: {streamingMode: true}}
- {type: latency-scorer}
"""
    STREAM = (
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":11}}\n\n',
    )

    def learned(self, deployment: Deployment, *, seen: bool, kind: bytes = b"text/event-stream") -> dict[str, object]:
        deployment.add_pool("p", 1, config=self.CONFIG)
        picker = deployment.picker(responses=ResponseMetrics(deployment.instruments, always=True) if seen else None)
        draft, _ = run(picker, request(payload={"stream": True, "prompt": "x"}), Draft(deployment.clock()))
        deployment.clock.advance(1.0)
        assert draft.reads_answer
        reader = AnswerReader(draft.measurement, first=draft.first)
        reader.headers(200, {"content-type": kind}, BodyPath.FREE if seen else BodyPath.UNSEEN)
        assert picker.hooks.answered is not None
        picker.hooks.answered(draft, 200)
        for piece in self.STREAM if seen else ():
            deployment.clock.advance(1.0)
            reader.body(piece, False)
        end(picker, draft, 200)
        told: dict[str, object] = deployment.pools["p"].scheduler.dump()["predicted-latency-producer"]
        return told

    def test_bodies_say_when_the_first_token_came_and_how_long_each_took(self, deployment: Deployment) -> None:
        told = self.learned(deployment, seen=True)
        assert (told["ttft_samples"], told["tpot_samples"]) == (1, 1)
        assert told["tpot_s"] == {A: pytest.approx(0.1)}

    @pytest.mark.parametrize(("kind", "samples"), [(b"text/event-stream", 0), (b"application/json", 1)])
    def test_headers_say_so_of_answers_that_are_no_streams(self, deployment: Deployment, kind: bytes, samples: int) -> None:
        told = self.learned(deployment, seen=False, kind=kind)
        assert (told["ttft_samples"], told["tpot_samples"]) == (samples, 0)


class TestTokensInFlight:
    def test_are_done_with_the_first_piece_that_passes_by(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1, config="plugins: [{type: token-load-scorer}]")
        picker = deployment.picker()
        draft, _ = run(picker, request(payload={"stream": True, "prompt": "x" * 400}))
        producer = deployment.pools["p"].scheduler
        told = [producer.dump()["inflight-load-producer"]["endpoints"][A]["tokens"]]
        reader = AnswerReader(draft.measurement, first=draft.first)
        reader.headers(200, {"content-type": b"text/event-stream"}, BodyPath.FREE)
        assert picker.hooks.answered is not None
        picker.hooks.answered(draft, 200)
        for piece in (b"", b"data: {}\n\n"):
            told.append(producer.dump()["inflight-load-producer"]["endpoints"][A]["tokens"])
            reader.body(piece, False)
        told.append(producer.dump()["inflight-load-producer"]["endpoints"][A]["tokens"])
        assert told == [100, 100, 100, 0]
        end(picker, draft, 200)

    def test_are_counted_by_what_answers_say_of_earlier_prompts(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1, config="plugins: [{type: token-load-scorer}]")
        picker = deployment.picker(responses=ResponseMetrics(deployment.instruments))
        draft, _ = run(picker, request(payload={"prompt": "x" * 4000}))
        reader = AnswerReader(draft.measurement, first=draft.first)
        reader.headers(200, {"content-type": b"application/json"}, BodyPath.FREE)
        reader.body(b'{"usage": {"prompt_tokens": 3000, "completion_tokens": 1}}', True)
        end(picker, draft, 200)
        told = deployment.pools["p"].scheduler.dump()["token-producer"]
        assert told["bytes_per_token"]["m"] == {"value": 2.0, "prompts": 1}, "(4 × 1,000 + 4,000) / (1,000 + 3,000)"

    def test_who_does_not_count_them_does_not_read_answers(self, deployment: Deployment) -> None:
        deployment.add_pool("p", 1)
        assert not run(deployment.picker(), request())[0].reads_answer
