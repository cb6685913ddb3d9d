"""Whatever stands in somebody's objects: endpoints that the gateway takes, or what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.interop import Losses, document_of, of_istio, of_kserve
from extproc.settings.base import SettingsError
from extproc.settings.document import load_documents
from tests.fakes.fuzz import examples
from tests.interop.test_istio import HELLOWORLD
from tests.interop.test_kserve import CANARY, MEMBER, SKLEARN

TEXTS = {"istio": HELLOWORLD, "kserve": f"{SKLEARN}{CANARY}---{MEMBER % ('a', 'true', 3)}{MEMBER % ('b', '', 1)}"}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 101),
    st.sampled_from([2**70, 0.5, float("nan"), "", "a", "v1", "x" * 300, "\ud800", [], {}, [None], [{}], {"a": {}}, {1: 2}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a value."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in items for found in places(each, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if path[0] in (copy if isinstance(copy, dict) else range(len(copy))):
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", TEXTS)
@examples(150)
@given(data=st.data())
def test_any_change_of_an_object(kind: str, data: st.DataObject) -> None:
    documents: Any = [each.value for each in load_documents(TEXTS[kind])]
    for _ in range(data.draw(st.integers(1, 3))):
        documents = changed(documents, data.draw(st.sampled_from(places(documents)[1:] or [(0,)])), data.draw(VALUES))
    losses = Losses()
    problems: tuple[str, ...] = ()
    try:
        found = (of_istio if kind == "istio" else of_kserve)([(each, "") for each in documents], losses)
        for each in found:
            document_of(each)
    except SettingsError as error:
        problems = tuple(error.problems) or ("",)
    assert all(line and "\n" not in line and len(line) < 1000 for line in (*problems, *losses.left_out, *losses.remarks))
