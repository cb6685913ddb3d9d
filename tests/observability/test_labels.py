"""Which models' names stand on the page, whatever clients invent."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from extproc.observability.instruments import Instruments
from extproc.observability.labels import MAX_MODELS, ModelNames
from extproc.observability.metrics import RouterMetrics
from extproc.observability.picker import PickerMetrics, RewriteMetrics
from extproc.observability.responses import ResponseMetrics
from tests.fakes.page import counted

TOTAL = "inference_objective_request_total"


class Page:
    """A picker's metrics, and requests that end as told."""

    def __init__(self, most: int = MAX_MODELS, *configured: str, only: bool = False) -> None:
        self.instruments = Instruments()
        self.names = self.instruments.once("models", lambda: ModelNames(most))
        self.names.configured.append(configured.__contains__)
        self.names.only_configured = only
        self.picker = PickerMetrics(self.instruments)
        self.router = RouterMetrics(self.instruments)
        self.responses = ResponseMetrics(self.instruments)

    def request(self, model: str, status: int = 200, target: str | None = None) -> None:
        bound = self.picker.model(model, target)
        bound.started(10)
        self.responses.model(model, target).itl.observe(0.1)
        self.picker.picked(target or model, "10.0.0.1:80", "pod", "ns", 80)
        if status >= 400:
            self.picker.error(model, "ModelServerError", target)
        bound.ended(status, 0.1)

    def totals(self, label: str = "model_name") -> dict[str, float]:
        """Requests by the label's value."""
        found: dict[str, float] = {}
        for line, value in counted(self.instruments, TOTAL).items():
            name = line.split(f'{label}="')[1].split('"')[0]
            found[name] = found.get(name, 0) + value
        return found

    def lines(self) -> list[str]:
        registry = CollectorRegistry()
        registry.register(self.instruments)
        return generate_latest(registry).decode().splitlines()


def test_a_configured_name_is_itself_however_many_others_came() -> None:
    page = Page(MAX_MODELS, "llama")
    for number in range(1300):
        page.request(f"junk-{number}", 404)
    page.request("llama")
    page.request("llama", 404)
    assert page.totals() == {"other": 1300, "llama": 2}


def test_names_answered_with_404_take_no_places_and_no_lines() -> None:
    page = Page(2)
    page.request("first", 404)
    before = len(page.lines())
    for number in range(500):
        page.request(f"junk-{number}", 404)
    page.request("a")
    page.request("b")
    page.request("c")
    assert page.totals() == {"other": 502, "a": 1, "b": 1}
    assert not [line for line in page.lines() if "junk" in line]
    of_two_more = len(page.lines()) - before
    assert of_two_more < 2 * 560


def test_by_default_a_page_has_a_few_thousand_lines_whatever_was_served() -> None:
    page = Page()
    for number in range(1300):
        bound = page.picker.model(f"served-{number}")
        bound.started(10)
        bound.ended(200, 0.1)
    assert page.totals()["other"] == 1300 - MAX_MODELS
    assert len(page.lines()) < 8000
    page.instruments.names = "inference"
    assert len(page.lines()) < 5000


def test_what_is_folded_is_not_lost() -> None:
    """Counters, histograms and gauges of all families go to `other`; no sum changes."""
    page = Page(5)
    for number in range(20):
        page.request(f"junk-{number}", 404, target=f"served-by-{number}")
    shown = counted(page.instruments, "inference")
    both = 'model_name="other",target_model_name="other"'
    assert shown[f'{TOTAL}{{model_name="other",priority="0",target_model_name="other"}}'] == 20
    assert shown[f'inference_objective_request_error_total{{error_code="ModelServerError",{both}}}'] == 20
    assert shown[f"inference_objective_request_duration_seconds_count{{{both}}}"] == 20
    assert shown[f"inference_objective_request_sizes_count{{{both}}}"] == 20
    attempts = {line: value for line, value in shown.items() if "attempts" in line}
    assert list(attempts.values()) == [20]
    assert not [line for line in counted(page.instruments) if "junk" in line or "served-by" in line]
    standard = 'fairness_id="default-flow",model_name="other",priority="0",target_model_name="other"'
    assert counted(page.instruments, "llm_d")[f"llm_d_epp_request_streaming_itl_seconds_count{{{standard}}}"] == 20


def test_a_name_that_was_served_keeps_its_place() -> None:
    page = Page(1)
    page.request("m")
    page.request("m", 404)
    page.request("n")
    assert page.totals() == {"m": 2, "other": 1}


@pytest.mark.parametrize("status", [0, 401, 403, 429, 500, 503])
def test_other_failures_say_nothing_of_the_name_until_its_place_is_needed(status: int) -> None:
    page = Page(1)
    page.request("m", status)
    assert page.totals() == {"m": 1}
    page.request("n")
    assert page.totals() == {"other": 1, "n": 1}


def test_a_request_on_its_way_holds_its_place() -> None:
    page = Page(1)
    slow = page.picker.model("slow")
    slow.started(10)
    page.request("n")
    assert page.totals() == {"slow": 1, "other": 1}
    slow.ended(404, 0.1)
    assert page.totals() == {"other": 2}
    assert counted(page.instruments, "inference_objective_running") == {}


def test_two_requests_of_a_name_and_the_first_ends_with_404() -> None:
    page = Page(1)
    first, second = page.picker.model("m"), page.picker.model("m")
    first.started(10)
    second.started(10)
    first.ended(404, 0.1)
    second.ended(200, 0.1)
    page.request("m")
    assert page.totals() == {"m": 3}


def test_the_one_that_serves_has_a_place_too_and_costs_the_client_s_name_none() -> None:
    page = Page(1)
    page.request("alias", target="base")
    assert page.totals() == {"other": 1}
    assert page.totals("target_model_name") == {"base": 1}
    page = Page(2)
    page.request("alias", target="base")
    assert page.totals() == {"alias": 1}
    assert page.totals("target_model_name") == {"base": 1}


def test_a_name_that_becomes_configured_stays_itself() -> None:
    page = Page(1)
    page.request("m", 500)
    page.names.configured.append(lambda name: name == "m")
    page.request("m", 404)
    page.request("n")
    page.request("m")
    assert page.totals() == {"m": 3, "n": 1}


def test_where_every_name_is_configured_others_get_no_place() -> None:
    page = Page(10, "m", only=True)
    page.router.model("junk").value += 1
    page.router.model("m").value += 1
    page.picker.error("junk", "model_not_found")
    assert counted(page.instruments, "bbr_model") == {
        'bbr_model_requests_total{model="other"}': 1,
        'bbr_model_requests_total{model="m"}': 1,
    }
    assert not [line for line in page.lines() if "junk" in line]


def test_a_router_keeps_names_that_come_again() -> None:
    page = Page(5)
    for number in range(100):
        page.router.model("m").value += 1
        page.router.model(f"junk-{number}").value += 1
    shown = counted(page.instruments, "bbr_model")
    assert shown['bbr_model_requests_total{model="m"}'] == 100
    assert len(shown) == 6
    assert sum(shown.values()) == 200


def test_rewrites() -> None:
    page = Page(2, "alias", "base")
    metrics = RewriteMetrics(page.instruments)
    for number in range(10):
        metrics.decided("ns/r", f"junk-{number}", "base")
    metrics.decided("ns/r", "alias", "base")
    shown = counted(page.instruments, "inference_extension_model_rewrite")
    assert sum(shown.values()) == 11
    assert len(shown) <= 4
    assert (
        'inference_extension_model_rewrite_decisions_total{model_name="alias",model_rewrite_name="r",target_model="base"}'
        in shown
    )


def test_what_was_never_picked_for_gives_way() -> None:
    page = Page(2)
    for number in range(10):
        page.picker.attempt_failed(f"junk-{number}")
        page.picker.error(f"junk-{number}", "no_endpoints")
    assert (
        counted(page.instruments, "inference_objective_request_error")[
            'inference_objective_request_error_total{error_code="no_endpoints",model_name="junk-9",target_model_name="junk-9"}'
        ]
        == 1
    )
    page.request("a")
    page.request("b")
    assert not [line for line in page.lines() if "junk" in line]


def test_endpoints_that_left_are_forgotten_when_there_are_many() -> None:
    page = Page(10, "m")
    page.picker.is_there = lambda key: int(key.rpartition(":")[2]) >= 2900
    for number in range(3000):
        page.picker.picked("m", f"10.0.0.1:{number}", f"pod-{number}", "ns", number)
    shown = counted(page.instruments, "inference_extension_scheduler_attempts")
    assert len(shown) <= 1001
    assert len([line for line in shown if 'port="29' in line]) == 100
