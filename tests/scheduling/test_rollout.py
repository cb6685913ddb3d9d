"""One revision for all stages of a request: who may serve, how often, and what the client is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.errors import NoEndpoints
from extproc.scheduling import Scheduler, build_scheduler
from extproc.scheduling.plugins.parameters_labels import RolloutParameters
from extproc.scheduling.plugins.rollout import Gate
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import asking, candidates, endpoints
from tests.fakes.chance import seeded
from tests.fakes.fuzz import examples

REVISION, ROLE, SET = "disaggregatedset.x-k8s.io/revision", "disaggregatedset.x-k8s.io/role", "disaggregatedset.x-k8s.io/name"
CONFIG = """
kind: EndpointPickerConfig
plugins:
- type: disaggregatedset-rollout-screener
  name: screener
  parameters:
    scope: {labelSelector: "disaggregatedset.x-k8s.io/name=my-set"}
    headerSelectors:
    - {name: revision, headerName: X-Disagg-Revision, labelKey: disaggregatedset.x-k8s.io/revision, mode: strict}
    - {name: slice, headerName: x-disagg-slice, labelKey: slice, mode: prefer}
    revisionGating: GATING
- {type: decode-filter}
- {type: random-picker}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: decode-filter}, {pluginRef: random-picker}]}
"""
MAX_ROLE = "{mode: max-role, requireRoles: {values: [prefill, decode]}}"


def scheduler(gating: str = MAX_ROLE) -> Scheduler:
    return build_scheduler(load_picker_config(CONFIG.replace("GATING", gating))[0]).scheduler(seeded())


def pods(revision: str, **roles: int) -> list[dict[str, str]]:
    return [
        {REVISION: revision, ROLE: role, SET: "my-set", "slice": f"{revision}-{i}", "llm-d.ai/role": role}
        for role, number in roles.items()
        for i in range(number)
    ]


UNEVEN = [*pods("a", prefill=2, decode=9), *pods("b", prefill=1, decode=1)]
"""The README's example: 2 of prefill to 10 of decode, one tenth of decode is new."""


def revisions(made: Scheduler, labels: Sequence[Mapping[str, str]], headers: Mapping[str, str] | None = None) -> Counter[str]:
    pool = candidates(labels=labels)
    found: Counter[str] = Counter()
    for _ in range(1000):
        run = made.schedule(asking(headers), pool).run
        assert {each.labels[REVISION] for each in run.candidates.endpoints} == {
            run.candidates.endpoints[run.pick.positions[0]].labels[REVISION]
        }
        found[run.candidates.endpoints[0].labels[REVISION]] += 1
    return found


def test_by_the_role_with_most_endpoints() -> None:
    assert revisions(scheduler(), UNEVEN)["b"] == pytest.approx(100, abs=35)


def test_by_all_roles() -> None:
    found = revisions(scheduler("{mode: sum, requireRoles: {values: [prefill, decode]}}"), UNEVEN)
    assert found["b"] == pytest.approx(1000 * 2 / 13, abs=40)


def test_a_revision_that_lacks_a_role_serves_nothing() -> None:
    assert revisions(scheduler(), [*pods("a", prefill=1, decode=1), *pods("b", decode=9)]) == {"a": 1000}


def test_without_a_whole_revision_it_is_503() -> None:
    with pytest.raises(NoEndpoints, match="screener leaves no endpoint"):
        scheduler().schedule(asking(), candidates(labels=[*pods("a", prefill=3), *pods("b", decode=9)]))


def test_endpoints_out_of_scope_do_not_count() -> None:
    other = [{**each, SET: "other"} for each in pods("b", prefill=5, decode=50)]
    assert revisions(scheduler(), [*pods("a", prefill=1, decode=1), *other]) == {"a": 1000}


def test_a_strict_header_decides() -> None:
    assert revisions(scheduler(), UNEVEN, {"x-disagg-revision": "b"}) == {"b": 1000}
    for revision in ("c", "B"):
        with pytest.raises(NoEndpoints):
            scheduler().schedule(asking({"x-disagg-revision": revision}), candidates(labels=UNEVEN))


def test_a_strict_header_names_no_revision_that_lacks_a_role() -> None:
    with pytest.raises(NoEndpoints):
        scheduler().schedule(
            asking({"x-disagg-revision": "b"}), candidates(labels=[*pods("a", prefill=1, decode=1), *pods("b", decode=9)])
        )


def test_without_gating_only_strict_headers_count() -> None:
    made = scheduler("{mode: disabled}")
    pool = candidates(labels=pods("b", decode=9))
    assert len(made.schedule(asking(), pool).run.candidates) == 9
    assert len(made.schedule(asking({"x-disagg-revision": "b", "x-disagg-slice": "elsewhere"}), pool).run.candidates) == 9
    with pytest.raises(NoEndpoints):
        made.schedule(asking({"x-disagg-revision": "a"}), pool)


def test_the_client_is_told_which_labels_served_it() -> None:
    scheduled = scheduler().schedule(asking({"x-disagg-revision": "b"}), candidates(labels=UNEVEN))
    assert scheduled.set_response_headers == (("x-disagg-revision", "b"), ("x-disagg-slice", "b-0"))


def test_an_explanation_tells_of_the_same_draw() -> None:
    made, pool = scheduler(), candidates(labels=[*pods("a", prefill=1, decode=1), *pods("b", prefill=1, decode=1)])
    for _ in range(20):
        asked = asking()
        picked = made.schedule(asked, pool).run.endpoint
        assert picked in [row.endpoint.key for row in made.explain(asked, pool)[0].candidates]


def test_ranks_of_a_pod_are_one() -> None:
    pool = endpoints(2, labels=pods("a", decode=1)) + endpoints(2, port=8001, labels=pods("a", decode=1))
    gate = Gate(REVISION, ROLE, ["decode"], (), True)
    assert gate.shares(pool) == {"a": 1.0}
    assert gate.shares([*pool, *endpoints(4, labels=pods("b", decode=3))[1:3]]) == {
        "a": pytest.approx(1 / 3),
        "b": pytest.approx(2 / 3),
    }


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["prefill", "decode", "other"])), max_size=20), st.booleans())
@examples(100)
def test_shares_are_of_whole_revisions_and_sum_to_one(pairs: list[tuple[str, str]], largest: bool) -> None:
    labels = [{REVISION: revision, ROLE: role} for revision, role in pairs]
    gate = Gate(REVISION, ROLE, ["prefill", "decode"], (), largest)
    shares = gate.shares(endpoints(len(labels), labels=labels))
    whole = {r for r in "abc" if (r, "prefill") in pairs and (r, "decode") in pairs}
    assert set(shares) == whole
    if whole:
        assert sum(shares.values()) == pytest.approx(1)
        assert gate.drawn(endpoints(0), lambda: 0.999) is None  # other endpoints, other shares


@pytest.mark.parametrize(
    "gating",
    ["{mode: sum}", "{mode: sum, requireRoles: {values: []}}", "{mode: largest}", "{requireRoles: {values: [a]}}"],
)
def test_what_it_cant_be_told(gating: str) -> None:
    with pytest.raises(SettingsError, match="revisionGating"):
        scheduler(gating)


def test_scope_is_needed() -> None:
    gating: dict[str, Any] = {"mode": "disabled"}
    with pytest.raises(ValidationError, match="labelSelector"):
        RolloutParameters.model_validate({"scope": {"labelSelector": "a = = b"}, "revisionGating": gating})
    twice = [{"headerName": "x", "labelKey": "a", "mode": "strict"}, {"headerName": "X", "labelKey": "b", "mode": "prefer"}]
    with pytest.raises(ValidationError, match="twice: x"):
        RolloutParameters.model_validate(
            {"scope": {"labelSelector": "a=b"}, "revisionGating": gating, "headerSelectors": twice}
        )
