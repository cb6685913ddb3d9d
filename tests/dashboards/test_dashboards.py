"""Each panel shows something: a real Prometheus that scrapes a gateway in use has finite values for each of its queries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboards.prometheus import Prometheus, scraping
from tests.dashboards.queries import queries, variables
from tests.dashboards.traffic import BROKEN, all_parts, asked, faults, prepare
from tests.e2e.behind import behind
from tests.e2e.parts import Endpoints, until

EMPTY = {
    "inference_extension_scheduler_attempts_total": "of failures: who finds no endpoint waits, with flow control",
    "extproc_scrape_signals_missing_total": "simulated pages have all signals: tests/scraping has some that have not",
    "extproc_responses_unread_total": "simulated answers can be read: tests/response has some that can't",
    "extproc_region_spills_total": "there is one region: tests/e2e/test_regions.py has several",
    "extproc_requests_shed_total": "flow control is on, where requests wait and are not shed: tests/stages/test_admit.py",
    "extproc_stream_resets_total": "Envoy breaks no rule of HTTP/2: a peer of tests/transport does",
    "extproc_registry_moves_total": "the registry is away, which another panel shows: tests/registry",
    "extproc_registry_held": "as of extproc_registry_moves_total",
}
"""Metrics without series here, of panels that say so (`noValue`), and why."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def prometheus(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Iterator[Prometheus]:
    """Of a gateway that does everything that dashboards show."""
    routes = [{"models": [name], "pool": name} for name in BROKEN]
    flags = ("--measures-window", "2m", "--audit-dir", str(tmp_path / "audit"), "--database-url", f"sqlite:///{tmp_path}/s.db")
    with (
        behind(envoy_binary, endpoints, tmp_path, *flags, more=all_parts(endpoints), routes=routes) as at,
        scraping(at.stack.pages["gateway"], tmp_path) as made,
    ):
        prepare(at)
        with faults(endpoints), asked(at):
            yield made


def test_every_panel_has_values(prometheus: Prometheus) -> None:
    waiting = queries()
    said: dict[str, str] = {}
    looked_at = 0.0

    def all_have() -> bool:
        nonlocal looked_at
        last, looked_at = looked_at, prometheus.read_at_s()
        if last == looked_at:
            return False
        for each in list(waiting):
            found = prometheus.ask(each.asked)
            values = [value for _, value in found]
            if any(math.isfinite(value) for value in values) or (each.metric in EMPTY and each.rare and not found):
                waiting.remove(each)  # a single series may be 0/0: nobody has asked that entity for a while
            assert not any(math.isinf(value) for value in values), each
            said[each.expr] = f"{each.dashboard}, {each.panel!r}: {found or 'nothing'}: {each.asked}"
        return not waiting

    try:
        until(all_have, within_s=120)
    except AssertionError:
        pytest.fail("\n".join([*[said.get(each.expr, each.panel) for each in waiting], prometheus.trouble()]))
    assert [said for said in variables() if not prometheus.values(*said)] == []
