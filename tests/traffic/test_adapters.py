"""Adapters and their base models."""

from __future__ import annotations

import pytest

from extproc.traffic import AdapterMap

MAP = AdapterMap({"base": ["lora-1", " lora-2 "], " other ": [], "third": ("x",)})


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("lora-1", "base"),
        ("lora-2", "base"),
        ("base", "base"),
        ("other", "other"),
        ("x", "third"),
        (" lora-1 ", "base"),
        ("\tother", "other"),
        ("unknown", ""),
        ("LORA-1", ""),
        ("", ""),
    ],
)
def test_base_of(model: str, base: str) -> None:
    assert MAP.base_of(model) == base


def test_an_empty_map_knows_nothing() -> None:
    assert AdapterMap().base_of("m") == ""
    assert len(AdapterMap()) == 0
    assert repr(MAP) == "<AdapterMap 3 bases, 6 names>"


@pytest.mark.parametrize(
    ("bases", "said"),
    [
        ({"a": ["x"], "b": ["x"]}, "adapter 'x' of 'b' already belongs to 'a'"),
        ({"a": ["x"], "b": [" x "]}, "adapter 'x' of 'b' already belongs to 'a'"),
        ({"a": ["b"], "b": []}, "adapter 'b' of 'a' is a base model itself"),
    ],
)
def test_a_name_has_one_base(bases: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AdapterMap(bases)


def test_the_same_adapter_twice_under_one_base_is_one() -> None:
    assert AdapterMap({"a": ["x", "x"]}).base_of("x") == "a"
