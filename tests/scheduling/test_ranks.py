"""Handlers that run one profile: for the ranks of a pod, and by a header."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.candidates import Candidates
from extproc.domain import Endpoint, InferenceRequest
from extproc.errors import RequestError
from extproc.scheduling import Cycle, Scheduled
from tests.fakes.candidates import REQUEST, candidates
from tests.fakes.events import head
from tests.fakes.plugins import problems_of, scheduler_of


def given(*endpoints: Endpoint) -> Candidates:
    zeros = [0.0] * len(endpoints)
    return Candidates(endpoints, zeros, list(zeros), list(zeros), list(zeros), stamp=object())


class TestDataParallel:
    ONE = "plugins: [{type: data-parallel-profile-handler}, {type: random-picker, parameters: {maxNumOfEndpoints: 3}}]"

    def test_the_pod_is_the_destination_and_a_header_names_the_rank(self) -> None:
        made = scheduler_of(self.ONE).schedule(Cycle(REQUEST), given(Endpoint("10.0.0.1", 8001)))
        assert made.destination == "10.0.0.1:8000"
        assert made.set_headers == (("x-data-parallel-host-port", "10.0.0.1:8001"),)
        assert made.run.endpoint == "10.0.0.1:8001", "which counts as in flight"

    def test_ranks_of_one_pod_are_one_destination(self) -> None:
        ranks = given(Endpoint("2001:db8::1", 8001), Endpoint("2001:db8::1", 8002), Endpoint("2001:db8::1", 8003))
        made = scheduler_of(self.ONE).schedule(Cycle(REQUEST), ranks)
        assert made.destination == "[2001:db8::1]:8000"

    def test_of_a_request_in_stages(self) -> None:
        text = "plugins: [{type: disagg-profile-handler, parameters: {primaryPort: 9000}}, {type: max-score-picker}]\n"
        text += "schedulingProfiles: [{name: decode, plugins: [{pluginRef: max-score-picker}]}]"
        made = scheduler_of(text).schedule(Cycle(REQUEST), given(Endpoint("10.0.0.1", 8001)))
        assert (made.destination, made.set_headers) == ("10.0.0.1:9000", (("x-data-parallel-host-port", "10.0.0.1:8001"),))

    def test_takes_one_profile(self) -> None:
        text = "plugins: [{type: data-parallel-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]"
        assert problems_of(text) == [
            "plugins[0].parameters.primaryPort: data-parallel-profile-handler takes exactly one profile (got a, b)"
        ]

    def test_a_port_that_is_none(self) -> None:
        (problem,) = problems_of("plugins: [{type: data-parallel-profile-handler, parameters: {primaryPort: 70000}}]")
        assert problem.startswith("plugins[0].parameters.primaryPort: ")


class TestHeaderProfile:
    TWO = "plugins: [{type: header-profile-handler}]\nschedulingProfiles: [{name: prefill}, {name: decode}]"

    def run(self, text: str, **headers: Any) -> Scheduled:
        asked = InferenceRequest(head(**headers), "/v1/completions", "m")
        return scheduler_of(text).schedule(Cycle(asked), candidates(2))

    @pytest.mark.parametrize(("value", "profile"), [("prefill", "prefill"), (" decode ", "decode"), ("", "decode")])
    def test_by_name(self, value: str, profile: str) -> None:
        made = self.run(self.TWO, epp_profile=value)
        assert (made.primary, list(made.runs)) == (profile, [profile])

    def test_without_the_header_the_default(self) -> None:
        assert self.run(self.TWO).primary == "decode"

    def test_of_another_name_is_400_and_repeats_nothing_of_it(self) -> None:
        with pytest.raises(RequestError) as caught:
            self.run(self.TWO, epp_profile="<script>")
        assert caught.value.status == 400
        assert caught.value.message == "header epp-profile: no such profile; there are prefill, decode"

    def test_a_header_and_a_default_of_ones_own(self) -> None:
        handler = "{type: header-profile-handler, parameters: {headerName: X-Phase, defaultProfile: prefill}}"
        text = f"plugins: [{handler}]\nschedulingProfiles: [{{name: prefill}}, {{name: decode}}]"
        assert self.run(text).primary == "prefill"
        assert self.run(text, x_phase="decode").primary == "decode"

    def test_one_profile_is_run_whatever_the_header_says(self) -> None:
        text = "plugins: [{type: header-profile-handler}]\nschedulingProfiles: [{name: x}]"
        assert self.run(text, epp_profile="y").primary == "x"

    def test_a_default_that_is_not_there(self) -> None:
        text = "plugins: [{type: header-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]"
        assert problems_of(text) == ["plugins[0].parameters.defaultProfile: no profile is called 'decode' (there are: a, b)"]
