"""kill -9 of a gateway while its API is written to, through Envoy: what was acknowledged is there after the restart."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.behind import API, Behind, behind, own, split
from tests.e2e.parts import Endpoints, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

WRITERS, ENOUGH = 50, 60


def written(at: Behind, writer: int, killed: threading.Event, acknowledged: dict[str, int]) -> None:
    """Change the split again and again until the gateway is gone."""
    turn = 0
    while not killed.is_set():
        turn += 1
        reason, share = f"{writer}-{turn}", (writer + turn) % 101
        change = {"traffic_config": split(current=share, challenger=100 - share), "reason": reason}
        try:
            got = at.call("PUT", f"{API}/chat/config", change)
            if got.status == 200:
                acknowledged[reason] = json.loads(got.body)["config"]["config_version"]
        except (OSError, http.client.HTTPException):
            return


def test_nothing_acknowledged_is_lost(envoy_binary: Path, session_endpoints: Endpoints, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    with behind(envoy_binary, session_endpoints, tmp_path, "--database-url", url) as at:
        at.api("POST", "", {"name": "chat", "config": own(current=50, challenger=50)})
        acknowledged: dict[str, int] = {}
        killed = threading.Event()
        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(written, at, number, killed, acknowledged) for number in range(WRITERS)]
            until(lambda: len(acknowledged) >= ENOUGH, what="changes are acknowledged")
            at.stack.servers["gateway"].kill()
            killed.set()
            for each in writers:
                each.result()
        at.restart()
        there = at.history()
        assert acknowledged.items() <= there.items()
        config = at.api("GET", "/chat")["config"]
        assert config["config_version"] == max(there.values())
        assert sum(route["traffic_percentage"] for route in config["traffic_config"]["routes"]) == 100
        assert at.ask().status == 200
