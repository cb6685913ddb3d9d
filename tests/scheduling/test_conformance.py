"""The plugins of the inference extension's conformance tests: a header says who serves, and an answer says who did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Candidates
from extproc.domain import Endpoint
from extproc.errors import NoEndpoints
from extproc.scheduling import Scheduler, build_scheduler
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import asking, candidates
from tests.fakes.chance import seeded
from tests.fakes.fuzz import examples
from tests.fakes.plugins import make

HEADER = "test-epp-endpoint-selection"
CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: header-based-testing-filter
- type: destination-endpoint-served-verifier
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 9}}
schedulingProfiles:
- name: conformance-profile
  plugins: [{pluginRef: header-based-testing-filter}, {pluginRef: max-score-picker}]
"""
POOL = [
    Endpoint("10.0.0.1", 3000),
    Endpoint("10.0.0.1", 3002),
    Endpoint("10.0.0.2", 3000),
    Endpoint("fd00::1", 3000),
    Endpoint("fd00::1", 3002),
]


def scheduler() -> Scheduler:
    return build_scheduler(load_picker_config(CONFIG)[0]).scheduler(seeded())


def pool() -> Candidates:
    unknown = [float("nan")] * len(POOL)
    return Candidates(POOL, unknown, unknown, unknown, [0.0] * len(POOL), object())


def picked(header: str | None, *, body_bytes: int = 10) -> list[str]:
    """All who are named to the proxy, in order."""
    asked = asking({} if header is None else {HEADER: header}, body_bytes=body_bytes)
    run = scheduler().schedule(asked, pool()).run
    return [run.candidates.endpoints[position].key for position in run.pick.positions]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("10.0.0.2", ["10.0.0.2:3000"]),
        ("10.0.0.2:3000", ["10.0.0.2:3000"]),
        ("10.0.0.2:3000,10.0.0.1:3002", ["10.0.0.2:3000", "10.0.0.1:3002"]),
        ("10.0.0.1:3002 , 10.0.0.2", ["10.0.0.1:3002", "10.0.0.2:3000"]),
        ("10.0.0.1", ["10.0.0.1:3000", "10.0.0.1:3002"]),
        ("10.0.0.1:3002,10.0.0.1", ["10.0.0.1:3002", "10.0.0.1:3000"]),
        ("[fd00::1]:3002", ["[fd00::1]:3002"]),
        ("[fd00::1]", ["[fd00::1]:3000", "[fd00::1]:3002"]),
        ("fd00:0::1", ["[fd00::1]:3000", "[fd00::1]:3002"]),
        ("10.9.9.9,10.0.0.2", ["10.0.0.2:3000"]),
        (",, 10.0.0.2 ,", ["10.0.0.2:3000"]),
        (
            "10.0.0.2,[fd00::1]:3002,10.0.0.1:3002,10.0.0.1:3000,[fd00::1]:3000",
            ["10.0.0.2:3000", "[fd00::1]:3002", "10.0.0.1:3002", "10.0.0.1:3000", "[fd00::1]:3000"],
        ),
    ],
)
def test_the_header_says_who_in_its_order(header: str, expected: list[str]) -> None:
    assert picked(header) == expected


@pytest.mark.parametrize("header", [None, "", "  ", "10.0.0.2:9", "10.9.9.9", "name", "[fd00::1]3000", "10.0.0.2:x", "::::"])
def test_nobody_else_serves(header: str | None) -> None:
    with pytest.raises(NoEndpoints, match="header-based-testing-filter leaves no endpoint"):
        picked(header)


def test_a_request_without_a_body_may_go_anywhere() -> None:
    assert set(picked(None, body_bytes=0)) == {each.key for each in POOL}
    assert picked("10.0.0.2", body_bytes=0) == ["10.0.0.2:3000"]


@given(st.text(max_size=60))
@examples(200)
def test_any_header_names_each_at_most_once(header: str) -> None:
    everyone = pool()
    positions = make("header-based-testing-filter").keep(
        asking({HEADER: header.encode("latin-1", "replace").decode("latin-1")}), everyone
    )
    assert positions is not None
    assert len(set(positions)) == len(positions)


def test_arrays_have_points_too() -> None:
    everyone = candidates(100, arrays=True)
    points = make("header-based-testing-filter").score(asking({HEADER: "10.0.0.7:8000,10.0.0.3"}), everyone)
    assert {i: float(value) for i, value in enumerate(points) if value} == {6: 1.0, 2: 0.5}


def test_both_say_that_they_are_for_tests() -> None:
    warnings = build_scheduler(load_picker_config(CONFIG)[0]).warnings
    assert [each.split(": ")[1] for each in warnings] == [
        "header-based-testing-filter",
        "destination-endpoint-served-verifier",
    ]
    assert all("for tests" in each for each in warnings)


def test_the_answer_is_to_say_who_served() -> None:
    scheduled = scheduler().schedule(asking({HEADER: "10.0.0.2"}), pool())
    assert scheduled.served_header == "x-conformance-test-served-endpoint"
