"""Public `EndpointPickerConfig`s of upstream's repositories and of others: each loads and picks, or a table says why not.

They are data beside the repository, and not copied into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from extproc.app.pool_parts import ELSEWHERE_TYPES
from extproc.candidates import Candidates
from extproc.domain import InferenceRequest, Load, RequestHead
from extproc.scheduling import Blueprint, Cycle, build_scheduler
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import candidates
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock
from tests.fakes.public import public_configs

FILES: Final = public_configs()

_TEMPLATE: Final = "a template: `...` stands for what it leaves out"
REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    "112e91fbf4": ("plugins[0]: input should be", _TEMPLATE),
    "74e672400d": ("plugins[0]: input should be", _TEMPLATE),
    "f0b7544db1": ("plugins[0]: input should be", _TEMPLATE),
    "f789a456da": ("plugins[0]: input should be", _TEMPLATE),
    "ff25ec1d05": ("plugins[0]: input should be", _TEMPLATE),
    "ff1882dd7a": ("maxConcurrency: input should be a valid integer", "a template: `<N_active + B>` is to be filled in"),
    "510de31a09": ("schedulingProfiles[0].-pluginRef: unknown key", "a blank is missing: `-pluginRef`"),
    "557ef49b6b": ("schedulingProfiles[0].-pluginRef: unknown key", "a blank is missing: `-pluginRef`"),
}
"""By file: what is said, and what is wrong with it."""

LABELS: Final[Mapping[str, str]] = {
    "leaderworkerset.sigs.k8s.io/worker-index": "0",
    "disaggregatedset.x-k8s.io/name": "my-set",
    "disaggregatedset.x-k8s.io/revision": "a",
    "disaggregatedset.x-k8s.io/slice": "s",
    "inference-role": "both",
}
ROLES: Final = ("decode", "prefill", "encode", "both")
HEADERS: Final = {"test-epp-endpoint-selection": b"10.0.0.1:8000", "x-session-token": b""}
PAYLOAD: Final[Mapping[str, object]] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Once upon a time there was a prompt of some length. " * 20}],
}
REQUEST: Final = InferenceRequest(RequestHead(HEADERS), "/v1/chat/completions", "m", 1000, PAYLOAD)


def pool() -> Candidates:
    """Endpoints of every role, all known."""
    labels = [
        {**LABELS, "llm-d.ai/role": role, "role": role, "disaggregatedset.x-k8s.io/role": role} for role in ROLES for _ in "ab"
    ]
    loads = [Load(waiting=i % 3, running=i, kv_usage=i / 10, running_loras=(), waiting_loras=(), max_loras=4) for i in range(8)]
    return candidates(
        waiting=[float(load.waiting or 0) for load in loads],
        running=[float(load.running or 0) for load in loads],
        kv_usage=[load.kv_usage or 0.0 for load in loads],
        labels=labels,
        loads=loads,
    )


def blueprint_of(path: Path) -> Blueprint:
    config, _ = load_picker_config(path.read_text())
    return build_scheduler(config, elsewhere=ELSEWHERE_TYPES)


@pytest.mark.skipif(not FILES, reason="the public configs are not beside the repository")
def test_there_are_all_of_them() -> None:
    assert len(FILES) == 84
    assert {*REFUSED} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_it_loads_and_picks_or_the_table_says_why_not(path: Path) -> None:
    if path.stem in REFUSED:
        with pytest.raises(SettingsError) as caught:
            blueprint_of(path)
        assert any(REFUSED[path.stem][0] in problem for problem in caught.value.problems), caught.value.problems
        return
    blueprint = blueprint_of(path)
    assert not [warning for warning in blueprint.warnings if "left out" in warning]
    scheduler = blueprint.pool(seeded(), FakeClock()).scheduler
    everyone = pool()
    for number in range(3):
        cycle = Cycle(REQUEST._replace(payload={**PAYLOAD, "user": str(number)}))
        scheduled = scheduler.schedule(cycle, everyone)
        assert scheduled.run.endpoint in {each.key for each in everyone.endpoints}
        told: list[Any] = scheduler.explain(cycle, everyone)
        assert [each.profile for each in told] == [each.name for each in blueprint.profiles]
        scheduler.picked(cycle, scheduled)
        scheduler.answered(cycle, 200)
        scheduler.ended(cycle, 200, scheduled.run.endpoint)
    assert isinstance(scheduler.dump(), dict)
