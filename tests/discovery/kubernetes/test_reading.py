"""Objects that anybody may have written: a value or an ObjectProblem comes out, never another error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.app.adapters.configmaps import Adapters, merge, read_adapters
from extproc.discovery.kubernetes.pods import endpoints_of, read_pod
from extproc.discovery.kubernetes.pools import OLD_GROUP, Selection, read_pool
from extproc.discovery.kubernetes.reading import ObjectProblem, created_s
from extproc.discovery.kubernetes.traffic import pool_ref, read_objective, read_rewrite
from extproc.traffic import AdapterMap
from extproc.traffic.rewrites import RewriteTable
from tests.discovery.kubernetes.test_objects import objective, rewrite
from tests.fakes.kube_objects import config_map, pod, pool

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

READERS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "pod": (read_pod, pod("a", annotations={"llm-d.ai/active-ports": "8000"})),
    "pool": (read_pool, pool(ports=(8000, 8001))),
    "objective": (read_objective, objective("o", 1)),
    "pool ref": (pool_ref, objective("o", 1)),
    "rewrite": (read_rewrite, rewrite("r", (["a"], [("b", 1), "c"]))),
    "config map": (read_adapters, config_map("m", "base", "[a, b]")),
    "created": (created_s, pod("a")),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a value."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_anything_anywhere_in_an_object(kind: str, data: st.DataObject) -> None:
    read, example = READERS[kind]
    obj: Any = {"it": copy.deepcopy(example)}
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(obj["it"])))
        inner: Any = obj
        for key in ("it", *path)[:-1]:
            inner = inner[key]
        inner[("it", *path)[-1]] = data.draw(JSON)
    if not isinstance(obj["it"], dict):
        return  # the reflector lets no such thing pass
    try:
        found = read(obj["it"])
    except ObjectProblem:
        return
    if kind == "pod" and found is not None:
        assert len(endpoints_of(found, (8000, 9000))) <= 2
    if kind == "pool":
        assert isinstance(found, Selection)
        assert found.labels
        assert 1 <= len(found.ports) <= 8
    if kind == "rewrite":
        RewriteTable([found])
    if kind == "config map":
        AdapterMap(merge([(("", "m"), found)])[0])


@given(
    st.lists(
        st.builds(
            Adapters,
            st.sampled_from("abcd"),
            st.lists(st.sampled_from("abcdxyz"), max_size=4).map(tuple),
            st.floats(0, 3),
        ),
        max_size=6,
    )
)
def test_several_config_maps_always_make_a_map(found: list[Adapters]) -> None:
    merged, problems = merge(((("ns", f"m{index}"), each) for index, each in enumerate(found)))
    table = AdapterMap(merged)

    for index, each in enumerate(found):
        assert table.base_of(each.base) == each.base
        wrong = [name for name in each.adapters if table.base_of(name) != each.base]
        assert bool(wrong) == (("ns", f"m{index}") in problems)


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        (
            {},
            "spec.selector.matchLabels: expected at least one label (got None); "
            "spec.targetPorts: expected 1 to 8 ports (got 0)",
        ),
        (pool(labels={"a b": "c"}), "spec.selector.matchLabels: expected a label's name (got 'a b')"),
        (pool(labels={"a": "b,c=d"}), "spec.selector.matchLabels: expected a value for label 'a' (got 'b,c=d')"),
        (pool(ports=(0,)), "spec.targetPorts: expected a port in 1..65535 (got 0)"),
        (pool(ports=(1, 1)), "spec.targetPorts: a port is there twice (got [1, 1])"),
        (pool(ports=tuple(range(1, 10))), "spec.targetPorts: expected 1 to 8 ports (got 9)"),
        (
            {"apiVersion": f"{OLD_GROUP}/v1alpha2", "spec": {"selector": {"a": "b"}, "targetPortNumber": "http"}},
            "spec.targetPortNumber: expected a port in 1..65535 (got 'http')",
        ),
    ],
)
def test_pools_that_cannot_be(obj: dict[str, Any], problem: str) -> None:
    with pytest.raises(ObjectProblem) as caught:
        read_pool(obj)

    assert str(caught.value) == problem


def test_a_pod_of_ipv6() -> None:
    found = read_pod(pod("a", "fd00::1"))
    assert found is not None

    assert [endpoint.key for endpoint in endpoints_of(found, (8000,))] == ["[fd00::1]:8000"]


@pytest.mark.parametrize(
    ("said", "read"), [("10.1.0.9", "10.1.0.9"), ("", ""), ("FD00::9", "fd00::9"), ("node-1", ""), (7, "")]
)
def test_the_address_of_a_pods_node(said: object, read: str) -> None:
    obj = pod("a")
    obj["status"]["hostIP"] = said
    found = read_pod(obj)
    assert found is not None
    assert [each.node_address for each in endpoints_of(found, (8000,))] == [read]
