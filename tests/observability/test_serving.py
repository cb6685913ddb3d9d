"""What is counted of serving endpoints."""

from __future__ import annotations

from extproc.observability.instruments import Instruments
from extproc.observability.kept import Kept
from extproc.observability.serving import LimitMetrics, ServingMetrics
from tests.fakes.page import counted


def test_what_was_counted_of_entities_that_are_gone_is_forgotten() -> None:
    instruments = Instruments()
    metrics = ServingMetrics(instruments)
    for entity in ("old", "new"):
        metrics.decided("chat", entity, "draw")
        metrics.ended("chat", entity, 503)
    metrics.keep(Kept({("chat", "new")}))
    name = "extproc_serving_requests_total"
    assert counted(instruments, name) == {f'{name}{{reason="draw",served_entity="new",serving_endpoint="chat"}}': 1}
    assert len(counted(instruments, "extproc_serving_responses_total")) == 1
    metrics.decided("chat", "old", "draw")
    assert len(counted(instruments, name)) == 2, "one that is back counts from 0"


def test_a_status_that_is_none_has_its_place() -> None:
    instruments = Instruments()
    metrics = ServingMetrics(instruments)
    for status in (0, 99, 101, 200, 302, 404, 503, 999):
        metrics.ended("chat", "a", status)
    name = "extproc_serving_responses_total"
    codes = {key.split('"')[1]: value for key, value in counted(instruments, name).items()}
    assert codes == {"none": 3, "1xx": 1, "2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1}


def test_limits_of_endpoints_that_are_gone_are_forgotten() -> None:
    instruments = Instruments()
    metrics = LimitMetrics(instruments)
    for endpoint in ("old", "new"):
        metrics.refused(endpoint, "user", "calls")
        metrics.used(endpoint, "a", 3, 4)
    metrics.used("new", "b", 5, 6)
    metrics.keep(Kept({("new", "a")}))
    name = "extproc_serving_rate_limited_total"
    assert counted(instruments, name) == {f'{name}{{key="user",serving_endpoint="new",what="calls"}}': 1}
    assert sum(counted(instruments, "extproc_serving_tokens_total").values()) == 7


def test_exposures_of_arms_that_are_not_shown_are_forgotten() -> None:
    instruments = Instruments()
    metrics = ServingMetrics(instruments)
    for experiment in ("now", "ended"):
        metrics.exposed("chat", experiment, "x", "assigned")
    metrics.keep(Kept([("chat", "a")], [("chat", "now/x"), ("chat", "ended/x")], [("chat", "now/x")]))
    (left,) = counted(instruments, "extproc_experiment_exposures_total")
    assert 'experiment="now"' in left
