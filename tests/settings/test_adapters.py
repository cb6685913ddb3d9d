"""The adapters file: every accepted form, and what is wrong with the others."""

from __future__ import annotations

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
        ("", {}),
        ("---\n---\n# nothing\n", {}),
        ("kind: List\nitems: []\n", {}),
    ],
)
def test_accepted_forms(text: str, adapters: dict[str, list[str]]) -> None:
    assert parse_adapters(text) == adapters
    AdapterMap(parse_adapters(text))  # what the file's checks let pass, the map takes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", ["file: expected a ConfigMap or a mapping of base model to list of adapters"]),
        ("just text", ["file: expected a ConfigMap or a mapping of base model to list of adapters"]),
        ("base: [a]\n---\n[b]\n", ["document[1]: expected a ConfigMap or a mapping of base model to list of adapters"]),
        ("base: a\n", ["base: expected a list of adapter names (got 'a')"]),
        ("base: {a: b}\n", ["base: expected a list of adapter names (got {'a': 'b'})"]),
        (
            "base: [a, [b], true]\n",
            ["base[1]: expected an adapter's name (got ['b'])", "base[2]: expected an adapter's name (got True)"],
        ),
        (
            "1: [a]\n'': [b]\n",
            [
                "1: a base model's name must be a non-empty string (got 1)",
                ": a base model's name must be a non-empty string (got '')",
            ],
        ),
        ("kind: ConfigMap\n", ["data: missing"]),
        ("kind: ConfigMap\ndata: {adapters: '- a'}\n", ["data.baseModel: expected a non-empty string (got None)"]),
        (
            "kind: ConfigMap\ndata: {baseModel: b, adapters: 'a: b'}\n",
            ["data.adapters: expected a list of adapter names (got {'a': 'b'})"],
        ),
        (
            "kind: ConfigMap\ndata: {baseModel: b, adapters: '- [a'}\n",
            ["data.adapters: not a YAML list: expected ',' or ']', but got '<stream end>' at line 1, column 5"],
        ),
        (
            "kind: ConfigMap\ndata: {baseModel: b, adapters: '- 2024-13-45'}\n",
            ["data.adapters: not a YAML list: a value that its type does not allow"],
        ),
        ("kind: List\nitems: [{kind: Secret}, 1]\n", ["items[0]: expected a ConfigMap", "items[1]: expected a ConfigMap"]),
        ("a: [x]\nb: [x]\n", ["b: adapter 'x' belongs to both 'a' and 'b'"]),
        ("a: [b]\nb: []\n", ["'b' is both a base model and an adapter of 'a'"]),
        ("a: [b\n", ["not valid YAML: expected ',' or ']', but got '<stream end>' at line 2, column 1"]),
        ("a: 2024-13-45\n", ["not valid YAML: a value that its type does not allow"]),
        ("[" * 600, ["not valid YAML: nested too deeply"]),
        ("\x00", ["not valid YAML: cannot be read"]),
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
        "'y' is both a base model and an adapter of 'a'",
        "document[0].b: adapter 'x' belongs to both 'a' and 'b'",
        "document[1].data: missing",
        "document[2]: expected a ConfigMap or a mapping of base model to list of adapters",
    ]
