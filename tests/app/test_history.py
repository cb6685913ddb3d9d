"""The history of pools is sampled where the API's port is open, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.app.build import build
from extproc.app.history import PoolHistory
from extproc.pool.history import AT_ONCE
from extproc.settings.commands import GatewaySettings
from tests.api.standing import Standing, endpoint
from tests.fakes.clock import FakeClock

CONFIG = """
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools: [{name: own, endpoints: {static: ["127.0.0.1:8000"]}}]
routes: [{models: [m], pool: own}]
"""


@pytest.mark.parametrize(("port", "there"), [(0, 0), (9080, 1)])
def test_it_is_there_with_the_api(tmp_path: Path, port: int, there: int) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    service = build(GatewaySettings(config_file=str(tmp_path / "gateway.yaml"), api_port=port))
    assert len([each for each in service.components if isinstance(each, PoolHistory)]) == there


async def test_a_sample_has_every_pool_and_its_prefix_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = Standing()
    standing.pool("own", 3 * AT_ONCE)
    standing.pool("other", 1)
    monkeypatch.setattr("extproc.app.history.PAUSE_S", 0.0)
    clock = FakeClock()
    reuse = {endpoint(0).key: [0, 0]}
    history = PoolHistory(
        standing.stores, lambda pool: reuse if pool == "own" else {}, clock=clock, wall_clock=lambda: 1000.0 + clock()
    )
    await history.sample()
    reuse[endpoint(0).key] = [100, 50]
    clock.advance(10)
    await history.sample()
    kept = history.history
    assert len(kept) == 3 * AT_ONCE + 1
    track = kept.track("own", endpoint(0).key)
    assert track is not None
    assert track.hits == 0.5
    assert kept.track("other", endpoint(0).key) is not None
