"""Flags as Go's flag packages take them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.cli.go_style import go_style, newer_spelling

KNOWN = {"v": False, "grpc-port": False, "streaming": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-v=3"], ["--v=3"]),
        (["-v3"], ["--v=3"]),
        (["-v", "3"], ["--v", "3"]),
        (["-streaming"], ["--streaming"]),
        (["-streaming", "-v", "3"], ["--streaming", "--v", "3"]),
        (["--grpc-port", "-v"], ["--grpc-port", "-v"]),
        (["--grpc-port=-v", "-v"], ["--grpc-port=-v", "--v"]),
        (["-h"], ["-h"]),
        (["---v"], ["---v"]),
        (["-", "--", "x"], ["-", "--", "x"]),
        (["--unknown", "-v=1"], ["--unknown", "--v=1"]),
    ],
)
def test_one_dash(given: list[str], expected: list[str]) -> None:
    assert go_style(given, KNOWN) == (expected, [])


def test_the_spelling_before_v1() -> None:
    arguments, (warning,) = go_style(["-grpcPort=1"], KNOWN)
    assert arguments == ["--grpc-port=1"]
    assert warning == "--grpcPort still works: flags have dashes since v1.0; use --grpc-port"
    assert newer_spelling("modelServerMetricsHttpsInsecureSkipVerify") == "model-server-metrics-https-insecure-skip-verify"


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-v", "--v=1", "-streaming", "-grpcPort", "--grpc-port"]), max_size=8))
def test_nothing_is_lost_and_what_is_done_stays(arguments: list[str]) -> None:
    once, _ = go_style(arguments, KNOWN)
    assert len(once) == len(arguments)
    assert go_style(once, KNOWN) == (once, [])
