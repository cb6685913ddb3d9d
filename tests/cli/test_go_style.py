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
        (["-path=/h", "-x", "-hv"], ["--path=/h", "-x", "--hv"]),
    ],
)
def test_one_dash(given: list[str], expected: list[str]) -> None:
    assert go_style(given, KNOWN) == (expected, [])


def test_the_spelling_before_v1() -> None:
    arguments, (warning,) = go_style(["-grpcPort=1"], KNOWN)
    assert arguments == ["--grpc-port=1"]
    assert warning == "--grpcPort still works: flags have dashes since v1.0; use --grpc-port"
    assert newer_spelling("modelServerMetricsHttpsInsecureSkipVerify") == "model-server-metrics-https-insecure-skip-verify"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([""], []),
        (["--streaming", "", "-v", "3"], ["--streaming", "--v", "3"]),
        (["--grpc-port", "", "--streaming"], ["--grpc-port", "", "--streaming"]),
        (["--grpc-port=", ""], ["--grpc-port="]),
        (["--streaming=false="], ["--streaming=false"]),
        (["--streaming=false=", ""], ["--streaming=false"]),
        (["--grpc-port=a="], ["--grpc-port=a="]),
    ],
)
def test_empty_arguments_and_odd_switches_of_charts(given: list[str], expected: list[str]) -> None:
    """`- "--{{ .name }}"`, `- "{{ .value }}"` with no value, and `--{{ key }}={{ value }}` with all of it in the key."""
    assert go_style(given, KNOWN) == (expected, [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--0", "map[name:v value:3]"], ["--v=3"]),
        (["--0=map[name:v value:3]"], ["--v=3"]),
        (["--0", "map[name:v value:3]", "--1", "map[name:streaming value:true]"], ["--v=3", "--streaming=true"]),
        (["--0", "map[name:streaming]"], ["--streaming"]),
        (["--0", "map[name:streaming value:]", "-v=1"], ["--streaming", "--v=1"]),
        (["--0", "map[name:nothing value:x y]"], ["--nothing=x y"]),
    ],
)
def test_a_list_of_flags_where_the_chart_takes_a_map(given: list[str], expected: list[str]) -> None:
    """Values of v1.0 and v1.1 in a chart from v1.2 on."""
    arguments, warnings = go_style(given, KNOWN)
    assert arguments == expected
    assert len(warnings) == sum("map[" in argument for argument in given)
    assert all("is a list of flags where the chart takes a map" in warning for warning in warnings)


def test_what_only_looks_like_such_a_list_stays() -> None:
    given = ["--0", "x", "--1", "--grpc-port", "map[name:v value:3]"]
    assert go_style(given, KNOWN) == (given, [])


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-v", "--v=1", "-streaming", "-grpcPort", "--grpc-port"]), max_size=8))
def test_nothing_is_lost_and_what_is_done_stays(arguments: list[str]) -> None:
    once, _ = go_style(arguments, KNOWN)
    assert sum(map(bool, once)) == sum(map(bool, arguments)), "but for empty ones"
    assert go_style(once, KNOWN) == (once, [])
