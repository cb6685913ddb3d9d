"""Metrics of answers: names and labels that dashboards know, and what is counted when."""

from __future__ import annotations

from unittest import mock

import pytest

from extproc.domain import BodyPath
from extproc.observability import responses
from extproc.observability.instruments import Instruments
from extproc.observability.responses import ResponseMetrics
from extproc.response import Measurement
from tests.fakes.clock import FakeClock
from tests.fakes.page import counted, read_page

BOTH = 'model_name="m",target_model_name="m"'
USAGE = b'{"usage":{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}'


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


def measured(kind: bytes, *pieces: bytes, status: int = 200, path: BodyPath = BodyPath.FREE) -> Measurement:
    """An answer whose pieces came one second apart."""
    clock = FakeClock(0.0)
    told = Measurement(0.0, clock, lambda gap_s: None)
    if told.headers(status, {"content-type": kind}, path):
        for piece in pieces:
            clock.advance(1)
            told.piece(piece)
        told.end()
    return told


def test_a_stream(instruments: Instruments) -> None:
    metrics = ResponseMetrics(instruments)
    metrics.ended("m", measured(b"text/event-stream", b"data: x\n\n", b"data: " + USAGE + b"\n\n"), 5.0)
    metrics.model("m").itl.observe(1.0)
    instruments.names = "inference"
    assert counted(instruments) == {
        f"inference_objective_response_sizes_count{{{BOTH}}}": 1,
        f"inference_objective_input_tokens_count{{{BOTH}}}": 1,
        f"inference_objective_output_tokens_count{{{BOTH}}}": 1,
        f"inference_objective_prompt_cached_tokens_count{{{BOTH}}}": 1,
        'inference_objective_request_ttft_seconds_count{model_name="m",streaming="true",target_model_name="m"}': 1,
        f"inference_objective_request_tpot_seconds_count{{{BOTH}}}": 1,
        f"inference_objective_normalized_time_per_output_token_seconds_count{{{BOTH}}}": 1,
    }
    instruments.names = "both"
    page = read_page(instruments)
    standard = 'fairness_id="default-flow",model_name="m",priority="0",target_model_name="m"'
    assert page[f"llm_d_epp_request_streaming_itl_seconds_count{{{standard}}}"] == 1
    assert page[f"inference_objective_request_tpot_seconds_sum{{{BOTH}}}"] == 1.0, "(5 - 1) / (5 - 1)"
    assert page[f"inference_objective_normalized_time_per_output_token_seconds_sum{{{BOTH}}}"] == 1.0, "5 / 5"
    assert page[f"inference_objective_prompt_cached_tokens_sum{{{BOTH}}}"] == 4


def test_a_document_has_no_time_between_tokens(instruments: Instruments) -> None:
    ResponseMetrics(instruments).ended("m", measured(b"application/json", USAGE), 2.0)
    found = counted(instruments)
    assert 'inference_objective_request_ttft_seconds_count{model_name="m",streaming="false",target_model_name="m"}' in found
    assert not any("_tpot" in name for name in found)


@pytest.mark.parametrize(
    "told",
    [
        measured(b"application/json", USAGE, status=500),
        measured(b"application/json", path=BodyPath.EMPTY),
        measured(b"text/event-stream"),
    ],
)
def test_errors_and_answers_without_body_are_not_measured(instruments: Instruments, told: Measurement) -> None:
    ResponseMetrics(instruments).ended("m", told, 2.0)
    assert counted(instruments) == {}


def test_bodies_that_are_not_sent_are_counted_and_said_once(instruments: Instruments) -> None:
    metrics = ResponseMetrics(instruments)
    with mock.patch.object(responses, "_log") as log:
        for _ in range(3):
            metrics.ended("m", measured(b"application/json", path=BodyPath.UNSEEN), 2.0)
    assert counted(instruments) == {'extproc_responses_unread_total{reason="body not sent"}': 3}
    (warning,) = log.warning.call_args_list
    assert "response_body_mode" in warning.args[0]
