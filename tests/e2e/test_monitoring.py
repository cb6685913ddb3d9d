"""Both entities watched in real time, through a real Envoy: while users ask, the API and Prometheus' page follow both, and tell
within seconds that one of them has become slower, and that it fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints, call, until
from tests.e2e.test_rollouts import asked

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(120)]

WINDOW_S = 5
SLOW_S = 0.4
BOTH = ("current", "challenger")


@pytest.fixture
def at(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Iterator[Behind]:
    """A gateway that measures second by second, and users who ask both entities."""
    with behind(envoy_binary, endpoints, tmp_path, "--measures-window", "2m") as made:
        made.api("POST", "", {"name": "chat", "config": own(current=50, challenger=50)})
        with asked(made):
            yield made
    for name in endpoints.children:
        call(endpoints.url(name), "/sim/faults", method="DELETE")


def now(at: Behind) -> dict[str, dict[str, Any]]:
    """Of the last seconds, by entity."""
    return {row["served_entity"]: row for row in at.api("GET", f"/chat/measures?window={WINDOW_S}s")["measures"]}


def counted(at: Behind) -> dict[str, float]:
    """As Prometheus reads it, from the gateway's own port."""
    page = call(at.stack.pages["gateway"], "/metrics").body.decode()
    found = re.findall(r"^extproc_entity_requests_total\{(.*)\} (\S+)$", page, re.M)
    return {name: float(value) for labels, value in found for name in BOTH if f'served_entity="{name}"' in labels}


def becomes(endpoints: Endpoints, fault: str) -> None:
    for name in endpoints.children:
        if name.startswith("phi4"):
            assert call(endpoints.url(name), "/sim/faults", {"fault": fault}).status == 200


def test_both_are_followed_while_users_ask(at: Behind) -> None:
    endpoints = at.endpoints
    until(lambda: all(now(at)[name]["ttft_s"]["n"] > 10 for name in BOTH), within_s=30, what="both are measured")
    before = counted(at)
    until(lambda: all(counted(at)[name] > before[name] for name in BOTH), what="both go on, as Prometheus sees it")
    assert max(now(at)[name]["ttft_s"]["p50"] for name in BOTH) < SLOW_S

    becomes(endpoints, f"slow={SLOW_S * 1000:.0f}ms")
    until(lambda: now(at)["challenger"]["ttft_s"]["p50"] >= SLOW_S, within_s=20, what="the slower one is seen")
    assert now(at)["current"]["ttft_s"]["p50"] < SLOW_S, "and the other one is as it was"

    becomes(endpoints, "500")
    until(lambda: now(at)["challenger"]["errors_by_kind"].get("5xx", 0) > 3, within_s=20, what="the failing one is seen")
    assert now(at)["current"]["errors"] == 0
    assert now(at)["challenger"]["error_rate"] > 0

    becomes(endpoints, "slow=1ms")
    until(lambda: now(at)["challenger"]["errors"] == 0, within_s=30, what="and that it is well again")
