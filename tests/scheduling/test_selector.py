"""Label selectors as Kubernetes has them: as objects and as text."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.scheduling.plugins.parameters_labels import SelectorParameters, parse_label_selector
from extproc.scheduling.selector import selects
from tests.fakes.fuzz import examples

POD = {"app": "vllm", "tier": "gpu", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app=vllm", True),
        ("app==vllm", True),
        ("app = vllm , tier=gpu", True),
        ("app=vllm,tier=cpu", False),
        ("app!=vllm", False),
        ("other!=vllm", True),
        ("app in (sglang, vllm)", True),
        ("app in (sglang)", False),
        ("app notin (sglang)", True),
        ("app notin (vllm)", False),
        ("other notin (vllm)", True),
        ("other in (vllm)", False),
        ("tier", True),
        ("other", False),
        ("!other", True),
        ("! tier", False),
        ("empty=", True),
        ("app=", False),
        ("disaggregatedset.x-k8s.io/name=my-set", False),
    ],
)
def test_text(text: str, expected: bool) -> None:
    assert selects(parse_label_selector(text), POD) is expected


@pytest.mark.parametrize(
    "text", ["", " ", ",", "app=vllm,", "app=(", "app in vllm", "app in (a", "a b", "!", "=x", "a=b c", None, 3]
)
def test_text_that_is_no_selector(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_label_selector(text)


@given(st.text(max_size=40))
@examples(300)
def test_any_text_is_a_selector_or_a_problem(text: str) -> None:
    try:
        selector = parse_label_selector(text)
    except ValueError:
        return
    assert selector
    assert selects(selector, POD) in (True, False)


@pytest.mark.parametrize(
    ("expression", "labels", "expected"),
    [
        ({"key": "role", "operator": "In", "values": ["a", "b"]}, {"role": "b"}, True),
        ({"key": "role", "operator": "In", "values": ["a"]}, {"role": "b"}, False),
        ({"key": "role", "operator": "In", "values": ["a"]}, {}, False),
        ({"key": "role", "operator": "NotIn", "values": ["a"]}, {"role": "a"}, False),
        ({"key": "role", "operator": "NotIn", "values": ["a"]}, {}, True),
        ({"key": "role", "operator": "Exists"}, {"role": ""}, True),
        ({"key": "role", "operator": "Exists"}, {}, False),
        ({"key": "role", "operator": "DoesNotExist"}, {"role": ""}, False),
        ({"key": "role", "operator": "DoesNotExist"}, {}, True),
    ],
)
def test_expressions(expression: Mapping[str, object], labels: Mapping[str, str], expected: bool) -> None:
    parameters = SelectorParameters.model_validate({"matchLabels": {"app": "vllm"}, "matchExpressions": [expression]})
    assert selects(parameters.selector(), {"app": "vllm", **labels}) is expected
    assert not selects(parameters.selector(), labels)


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "role", "operator": "In"},
        {"key": "role", "operator": "In", "values": []},
        {"key": "role", "operator": "Exists", "values": ["a"]},
        {"key": "role", "operator": "Near", "values": ["a"]},
        {"key": "", "operator": "Exists"},
        {"operator": "Exists"},
    ],
)
def test_expressions_that_cant_be(expression: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError):
        SelectorParameters.model_validate({"matchExpressions": [expression]})
