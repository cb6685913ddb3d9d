"""The adapters file: every accepted form, and what is wrong with the others."""

from __future__ import annotations

import tracemalloc

import pytest

from extproc.settings.adapters import parse_adapters
from extproc.settings.base import SettingsError
from extproc.traffic import AdapterMap

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: adapters-llama
  labels:
    inference.networking.k8s.io/bbr-managed: "true"
data:
  baseModel: meta-llama/Llama-3.1-8B-Instruct
  adapters: |
    - food-review-1
    - food-review-2
"""
LLAMA = {"meta-llama/Llama-3.1-8B-Instruct": ["food-review-1", "food-review-2"]}

INDENTED = CONFIG_MAP.strip().replace("\n", "\n  ")


@pytest.mark.parametrize(
    ("text", "adapters"),
    [
        (CONFIG_MAP, LLAMA),
        (f"---{CONFIG_MAP}---\nbase: [x]\n", {**LLAMA, "base": ["x"]}),
        (f"kind: List\nitems:\n- {INDENTED}\n", LLAMA),
        (f"apiVersion: v1\nkind: ConfigMapList\nitems:\n- {INDENTED}\n", LLAMA),
        ("base: [a, b]\nother: [c]\n", {"base": ["a", "b"], "other": ["c"]}),
        ("base:\n- a\n- ' b '\n- ''\n-\n- 1\n- 1.5\n", {"base": ["a", "b", "1", "1.5"]}),
        ("' base ': [a]\n---\nbase: [a, b]\n", {"base": ["a", "b"]}),
        ("base: []\nother:\n", {"base": [], "other": []}),
        ("kind: ConfigMap\ndata: {baseModel: base}\n", {"base": []}),
        ("kind: ConfigMap\ndata: {baseModel: base, adapters: ''}\n", {"base": []}),
        ("kind: ConfigMap\ndata: {baseModel: base, adapters: [a]}\n", {"base": ["a"]}),
        ('{"base": ["a"]}', {"base": ["a"]}),
        ("{}", {}),
        ("base: {}\n", {"base": []}),
        ("1: [1.10, 2024-05-13, 0x10]\n", {"1": ["1.10", "2024-05-13", "0x10"]}),
        ("kind: List\nitems: []\n", {}),
    ],
)
def test_accepted_forms(text: str, adapters: dict[str, list[str]]) -> None:
    assert parse_adapters(text) == adapters
    AdapterMap(parse_adapters(text))  # what the file's checks let pass, the map takes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", ["line 1: expected a ConfigMap or a mapping of base model to list of adapters (got ['a'])"]),
        ("just text", ["line 1: expected a ConfigMap or a mapping of base model to list of adapters (got 'just text')"]),
        ("base: [a]\n---\n[b]\n", ["line 3: expected a ConfigMap or a mapping of base model to list of adapters (got ['b'])"]),
        ("base: a\n", ["line 1: base: expected a list of adapter names (got 'a')"]),
        ("base: {a: b}\n", ["line 1: base: expected a list of adapter names (got {'a': 'b'})"]),
        (
            "base: [a, [b],\n  true]\n",
            [
                "line 1: base[1]: expected an adapter's name (got ['b'])",
                "line 2: base[2]: expected an adapter's name (got True)",
            ],
        ),
        (
            "true: [a]\n'': [b]\n",
            [
                "line 1: True: a base model's name must be a non-empty string (got True)",
                "line 2: : a base model's name must be a non-empty string (got '')",
            ],
        ),
        ("kind: ConfigMap\n", ["line 1: data: missing"]),
        (
            "kind: ConfigMap\ndata: {adapters: '- a'}\n",
            ["line 2: data.baseModel: expected a non-empty string (got None)"],
        ),
        (
            "kind: ConfigMap\ndata: {baseModel: b, adapters: 'a: b'}\n",
            ["line 2: data.adapters: expected a list of adapter names (got {'a': 'b'})"],
        ),
        (
            "kind: ConfigMap\ndata: {baseModel: b, adapters: '- [a'}\n",
            [
                "line 2: data.adapters: not a YAML list: line 2, column 1: "
                "expected YAML or JSON: did not find expected ',' or ']'"
            ],
        ),
        (
            'kind: ConfigMap\ndata: {baseModel: b, adapters: "- a\\n---\\n- b"}\n',
            ["line 2: data.adapters: expected one YAML list, there are 2 documents"],
        ),
        (
            "kind: List\nitems: [{kind: Secret}, 1]\n",
            ["line 2: items[0]: expected a ConfigMap", "line 2: items[1]: expected a ConfigMap"],
        ),
        ("a: [x]\nb: [x]\n", ["line 2: b: adapter 'x' belongs to both 'a' and 'b'"]),
        ("a: [b]\nb: []\n", ["line 2: b: 'b' is both a base model and an adapter of 'a'"]),
        ("a: [x]\na: [y]\n", ["line 2: key 'a' is there twice, first on line 1"]),
        ("a: [b\n", ["line 2, column 1: expected YAML or JSON: did not find expected ',' or ']'"]),
        ("[" * 600, ["line 1, column 33: expected at most 32 maps and lists in each other"]),
        ("", ["there is nothing in it; to have no adapters, write {}"]),
        ("---\n---\n# nothing\n", ["there is nothing in it; to have no adapters, write {}"]),
    ],
    ids=lambda value: None if isinstance(value, str) else value[0][:40],
)
def test_problems_with_their_place(text: str, told: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_adapters(text)
    assert caught.value.problems == told


def test_all_problems_of_all_documents() -> None:
    text = "a: [x, y]\nb: [x]\n---\nkind: ConfigMap\n---\n- z\n---\ny: []\n"
    with pytest.raises(SettingsError) as caught:
        parse_adapters(text)
    assert sorted(caught.value.problems) == [
        "line 2: b: adapter 'x' belongs to both 'a' and 'b'",
        "line 4: data: missing",
        "line 6: expected a ConfigMap or a mapping of base model to list of adapters (got ['z'])",
        "line 8: y: 'y' is both a base model and an adapter of 'a'",
    ]


def test_values_are_cut_and_problems_counted() -> None:
    """What a file says, a log line repeats as far as it helps."""
    with pytest.raises(SettingsError) as caught:
        parse_adapters("base:\n" + "- [" + "x" * 100_000 + "]\n" + "- true\n" * 10_000)
    assert len(caught.value.problems) == 50
    assert caught.value.problems[-1] == "and 9952 more problems"
    assert max(map(len, caught.value.problems)) < 200


def test_a_bomb_of_aliases_is_cheap() -> None:
    """431 bytes that stand for a billion names."""
    lines = ["a: &a [" + ", ".join(["lol"] * 9) + "]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [" + ", ".join([f"*{chr(97 + i)}"] * 9) + "]" for i in range(8)]
    tracemalloc.start()
    with pytest.raises(SettingsError, match="each alias counted as all that it stands for"):
        parse_adapters("\n".join(lines))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
