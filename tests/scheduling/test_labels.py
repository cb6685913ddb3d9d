"""Whom filters by labels keep, and what a header that goes with a label is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from pydantic import ValidationError

from extproc.errors import NoEndpoints
from extproc.scheduling import build_scheduler
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import asking, candidates, choose, cycle
from tests.fakes.chance import seeded
from tests.fakes.plugins import make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])
ROLES = ["decode", "prefill", "encode", "prefill-decode", "both", "encode-prefill", "encode-prefill-decode", "encode-decode"]
POOL = [*({"llm-d.ai/role": role} for role in ROLES), {}]


def kept(kind: str, parameters: Mapping[str, object] | None, labels: Sequence[Mapping[str, str]]) -> list[int]:
    positions = make(kind, parameters).keep(cycle(), candidates(labels=labels))
    return list(range(len(labels))) if positions is None else list(positions)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("decode-filter", {"decode", "prefill-decode", "both", "encode-prefill-decode", ""}),
        ("prefill-filter", {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}),
        ("encode-filter", {"encode", "encode-prefill", "encode-prefill-decode"}),
    ],
)
def test_roles(kind: str, expected: set[str]) -> None:
    assert {[*ROLES, ""][position] for position in kept(kind, None, POOL)} == expected


def test_label_selector_filter() -> None:
    labels = [{"worker-index": "0"}, {"worker-index": "1"}, {}]
    assert kept("label-selector-filter", {"matchLabels": {"worker-index": "0"}}, labels) == [0]
    absent = {"matchExpressions": [{"key": "worker-index", "operator": "DoesNotExist"}]}
    assert kept("label-selector-filter", absent, labels) == [2]
    assert kept("label-selector-filter", None, labels) == [0, 1, 2]


def test_by_label() -> None:
    labels = [{"role": "a"}, {"role": "b"}, {}]
    assert kept("by-label", {"label": "role", "validValues": ["b"]}, labels) == [1]
    assert kept("by-label", {"label": "role", "validValues": ["b"], "allowsNoLabel": True}, labels) == [1, 2]
    assert kept("by-label", {"label": "role", "allowsNoLabel": True}, labels) == [2]
    with pytest.raises(ValidationError, match="no endpoint would be left"):
        make("by-label", {"label": "role"})


OLDER = """
kind: EndpointPickerConfig
plugins:
- {type: by-label, parameters: {label: role, validValues: [decode]}}
- {type: by-label-selector, parameters: {matchLabels: {gpu: h100}}}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: by-label}, {pluginRef: by-label-selector}]}
"""


def test_older_types_work_with_one_warning_each() -> None:
    blueprint = build_scheduler(load_picker_config(OLDER)[0])
    assert list(blueprint.warnings) == [
        "plugins[1].type: by-label-selector is an older name, use label-selector-filter",
        "plugins[0]: by-label: by-label is an older type, use label-selector-filter",
    ]
    scheduler = blueprint.scheduler(seeded())
    pool = candidates(labels=[{"role": "decode", "gpu": "a100"}, {"role": "decode", "gpu": "h100"}, {"gpu": "h100"}])
    assert choose(scheduler, pool).positions == (0,)
    assert scheduler.explain(cycle(), pool)[0].filters == {"by-label": 2, "by-label-selector": 1}


def test_who_keeps_nobody_is_503() -> None:
    scheduler = build_scheduler(load_picker_config(OLDER)[0]).scheduler(seeded())
    with pytest.raises(NoEndpoints, match="by-label leaves no endpoint"):
        choose(scheduler, candidates(labels=[{"gpu": "h100"}]))


@both_kinds
def test_header_label_affinity_scorer(arrays: bool) -> None:
    scorer = make("header-label-affinity-scorer", {"headerName": "X-Disagg-Slice", "labelKey": "slice"})
    pool = candidates(labels=[{"slice": "a"}, {"slice": "b"}, {}], arrays=arrays)
    assert list(scorer.score(asking({"x-disagg-slice": "b"}), pool)) == [0, 1, 0]
    assert list(scorer.score(asking({"x-disagg-slice": "c"}), pool)) == [0, 0, 0]
    assert list(scorer.score(asking(), pool)) == [0, 0, 0]
    assert isinstance(scorer.score(asking({"x-disagg-slice": "b"}), pool), list) is not arrays
