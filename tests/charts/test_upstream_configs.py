"""The picker configs that upstream's charts bring along, of each version: all of them load, and pick.

tests/k8s/test_upstream_configs.py has them from the charts themselves, and from a process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from extproc.app.checking.picker import check_picker
from extproc.app.pool_parts import ELSEWHERE_TYPES
from extproc.scheduling import Cycle, build_scheduler
from extproc.settings.picker import picker_config
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock
from tests.scheduling.test_public_configs import REQUEST, pool

CONFIGS: Final[dict[str, dict[str, Any]]] = yaml.safe_load((Path(__file__).parent / "upstream-configs.yaml").read_text())
EVERY = pytest.mark.parametrize("name", CONFIGS)


@EVERY
def test_it_has_no_problem(name: str) -> None:
    found = check_picker(CONFIGS[name])
    assert found.problems == []
    assert found.described is not None
    assert found.described["left_out"] == {}


@EVERY
def test_it_picks(name: str) -> None:
    config, _ = picker_config(CONFIGS[name])
    blueprint = build_scheduler(config, elsewhere=ELSEWHERE_TYPES)
    scheduler = blueprint.pool(seeded(), FakeClock()).scheduler
    everyone = pool()
    picked = []
    for _ in range(3):
        cycle = Cycle(REQUEST)
        scheduled = scheduler.schedule(cycle, everyone)
        scheduler.picked(cycle, scheduled)
        scheduler.answered(cycle, 200)
        scheduler.ended(cycle, 200, scheduled.run.endpoint)
        picked.append(scheduled.run.endpoint)
    assert set(picked) <= {each.key for each in everyone.endpoints}
    if "prefix-cache-scorer" in [entry["pluginRef"] for entry in CONFIGS[name]["schedulingProfiles"][0]["plugins"]]:
        assert len(set(picked)) == 1, "equal prompts stay together"
