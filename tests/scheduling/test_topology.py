"""Near to the endpoint that another stage was given to."""

from __future__ import annotations

import pytest

from extproc.candidates import Candidates
from extproc.domain import Endpoint
from extproc.scheduling import Cycle, build_scheduler
from extproc.scheduling.facts import PEER
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.candidates import asking, candidates
from tests.fakes.plugins import kit, make

both_kinds = pytest.mark.parametrize("arrays", [False, True], ids=["lists", "arrays"])


def place(host: str = "", rack: str = "", zone: str = "", region: str = "") -> dict[str, str]:
    told = {
        "kubernetes.io/hostname": host,
        "topology.kubernetes.io/rack": rack,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
    }
    return {label: value for label, value in told.items() if value}


POOL = [
    place("h1", "r1", "z1", "e1"),
    place("h2", "r1", "z1", "e1"),
    place("h3", "r2", "z1", "e1"),
    place("h4", "r3", "z2", "e1"),
    place("h5", "r4", "z3", "e2"),
    {},
    place("h1"),
]


def after(pool: Candidates, peer: Endpoint | None) -> Cycle:
    """A further stage of a request whose first one went to the peer."""
    cycle = asking()
    cycle.facts["where"] = make("topology-extractor").produce(cycle, pool if pool.whole is None else pool.whole)
    if peer is not None:
        cycle.facts[PEER] = peer
    return cycle


def near(kind: str, **parameters: object) -> object:
    return make(kind, parameters, kit(sources=["where"]))


@both_kinds
def test_topology_affinity_scorer(arrays: bool) -> None:
    scorer = make("topology-affinity-scorer", None, kit(sources=["where"]))
    pool = candidates(labels=POOL, arrays=arrays)
    assert list(scorer.score(after(pool, pool.endpoints[0]), pool)) == [1.0, 0.2, 0.05, 0.02, 0.0, 0.0, 1.0]
    some = pool.only([3, 1])
    assert list(scorer.score(after(some, pool.endpoints[0]), some)) == [0.02, 0.2]


@both_kinds
def test_without_a_peer_that_says_where_it_is_nobody_has_points(arrays: bool) -> None:
    scorer = make("topology-affinity-scorer", None, kit(sources=["where"]))
    pool = candidates(labels=POOL, arrays=arrays)
    for peer in (None, pool.endpoints[5], Endpoint("10.9.9.9", 1)):
        assert list(scorer.score(after(pool, peer), pool)) == [0.0] * 7


@pytest.mark.parametrize(
    ("nearest", "expected"), [("host", [0, 6]), ("rack", [0, 1, 6]), ("zone", [0, 1, 2, 6]), ("region", [0, 1, 2, 3, 6])]
)
def test_topology_affinity_filter(nearest: str, expected: list[int]) -> None:
    plugin = make("topology-affinity-filter", {"minAffinity": nearest}, kit(sources=["where"]))
    pool = candidates(labels=POOL)
    assert plugin.keep(after(pool, pool.endpoints[0]), pool) == expected


def test_a_preference_makes_nothing_unroutable() -> None:
    plugin = make("topology-affinity-filter", None, kit(sources=["where"]))
    pool = candidates(labels=POOL)
    assert plugin.keep(after(pool, pool.endpoints[4]), pool.only([0, 1])) is None, "nobody is near enough"
    assert plugin.keep(after(pool, pool.endpoints[5]), pool) is None, "what is not said is near to nothing"
    assert plugin.keep(after(pool, None), pool) is None, "a request without stages"


def test_labels_of_ones_own() -> None:
    extractor = make("topology-extractor", {"hostname": "node"})
    known = extractor.produce(asking(), candidates(labels=[{"node": "n1"}, place("h1")]))
    assert [each.host for each in known.places] == ["n1", ""]


CONFIG = """
kind: EndpointPickerConfig
plugins:
- {type: topology-affinity-scorer, name: near, parameters: PARAMETERS}
- {type: topology-extractor, name: mine, parameters: {rack: rack}}
"""


def test_the_extractor_is_found_or_made() -> None:
    listed = build_scheduler(load_picker_config(CONFIG.replace("PARAMETERS", "{topologyProducerName: mine}"))[0])
    assert listed.plugins["near"].sources == ("mine",)
    text = CONFIG.replace("PARAMETERS", "{}").splitlines()
    made = build_scheduler(load_picker_config("\n".join(text[:-1]))[0])
    assert made.plugins["near"].sources == ("topology-extractor",)
    with pytest.raises(SettingsError, match="topologyProducerName: no plugin is called 'other'"):
        build_scheduler(load_picker_config(CONFIG.replace("PARAMETERS", "{topologyProducerName: other}"))[0])
