"""The reader of YAML and JSON: what it takes, what it refuses and where, and that nothing costs much."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.settings.document import MAX_DEPTH, MAX_NODES, load_document, load_documents, load_json
from tests.costs import costs_less


def problems(data: bytes | str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_document(data)
    return caught.value.problems


def problem(data: bytes | str) -> str:
    (found,) = problems(data)
    return found


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, "b", null]}', {"a": [1, "b", None]}),
        (b"a: [1, b, null]", {"a": [1, "b", None]}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
        (b"a:\r\n  b: c\r\n", {"a": {"b": "c"}}),
        (b"a: &x {k: v}\nb: *x", {"a": {"k": "v"}, "b": {"k": "v"}}),
        (b"a: &x {k: v}\nb: {<<: *x, l: w}", {"a": {"k": "v"}, "b": {"k": "v", "l": "w"}}),
        (b"a: &x {k: v}\nb: {k: w, <<: *x}", {"a": {"k": "v"}, "b": {"k": "w"}}),
        (b"b: {<<: [{k: 1}, {k: 2, l: 3}]}", {"b": {"k": 1, "l": 3}}),
        (b'{"<<": 1}', {"<<": 1}),
        (b"'<<': 1", {"<<": 1}),
        (b'"emoji": "\xf0\x9f\x98\x80"', {"emoji": "\U0001f600"}),
        (b'{"emoji": "\\ud83d\\ude00"}', {"emoji": "\U0001f600"}),
        (b"[yes, No, ON, off, true, False, y, n]", [True, False, True, False, True, False, "y", "n"]),
        (b"[~, null, Null, ]", [None, None, None]),
        (b"[1, -2, +3, 0x1F, 0b11, 0o17, 017, 1_000, 08]", [1, -2, 3, 31, 3, "0o17", 15, 1000, "08"]),
        (b"[1.5, .5, 1., -1.5e+3, 1e3, .inf, -.inf]", [1.5, 0.5, 1.0, -1500.0, "1e3", math.inf, -math.inf]),
        (b"[2024-05-13, 10:30, 2026-13-45, 0x_, 1.2.3]", ["2024-05-13", "10:30", "2026-13-45", "0x_", "1.2.3"]),
        (b"['1', \"2\", !!str 3, ! 4, !!int '5', !!float 6]", ["1", "2", "3", "4", 5, 6]),
        (b"a: |\n  - x\n  - y\n", {"a": "- x\n- y\n"}),
        (b"1: a", {1: "a"}),
        (b"", None),
        (b"# nothing", None),
        (b"---\n...\n---\n# still nothing\n", None),
        (b"9" * 200, "9" * 200),
        (b"[" + b"9" * 5000 + b"]", ["9" * 5000]),
    ],
)
def test_documents(data: bytes | str, value: object) -> None:
    assert load_document(data).value == value


def test_not_a_number() -> None:
    assert math.isnan(load_document("[.nan]").value[0])


def test_several_documents() -> None:
    found = load_documents("---\n---\na: 1\n---\n- b\n---\n# nothing\n")

    assert [(document.value, document.line) for document in found] == [({"a": 1}, 3), (["b"], 5)]
    assert problem("a: 1\n---\nb: 2") == "line 3: expected one document, this is another"
    assert repr(found[0]) == "<Document {'a': 1}>"


def test_numbers_that_stay_text() -> None:
    text = "[1, 1.10, 0x10, true, null, '2', !!int 3]"

    assert load_documents(text, numbers=False)[0].value == ["1", "1.10", "0x10", True, None, "2", "3"]
    assert load_documents('[1, 1.10, true, "2"]', numbers=False)[0].value == ["1", "1.10", True, "2"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: [1", "line 2, column 1: expected YAML or JSON: did not find expected"),
        (b"a: 1\nb: 2\na: 3", "line 3: key 'a' is there twice, first on line 1"),
        (b"a:\n- b: 1\n  'b': 2", "line 3: key 'b' is there twice, first on line 2"),
        (b'{"a": 1,\n "b": {"c": 1,\n "c": 2}}', "line 3: key 'c' is there twice, first on line 2"),
        (b'{"a": "\\ud83d\\ude00", "b": 1, "b": 2}', "expected YAML or JSON: "),
        (b"a: !!python/object:os.system {}", "line 1: a map with the tag 'tag:yaml.org,2002:python/object:os.system'"),
        (b"a: !!binary aGk=", "line 1: a value with the tag 'tag:yaml.org,2002:binary' is not taken"),
        (b"a: !!int x", "line 1: expected a value of the tag !!int (got 'x')"),
        (b"a: *nobody", "line 1, column 4: alias 'nobody' stands for nothing"),
        (b"a: &x [*x]", "line 1, column 8: alias 'x' stands in itself"),
        (b"a: &x {<<: *x}", "line 1, column 12: alias 'x' stands in itself"),
        (b"a: {<<: 1}", "line 1: expected a map to merge, or a list of them"),
        (b"x: 1\n[a]: b", "line 2: expected a name as key (got a list)"),
        (b"? {c: d}\n: e", "line 1: expected a name as key (got a map)"),
        (b"a: \x00", "expected YAML or JSON: "),
        (b"b: 1\na: \xff", "line 2: expected UTF-8 text: invalid start byte at byte 8"),
        (b"{" * 1_000_000, f"line 1, column 33: expected at most {MAX_DEPTH} maps and lists in each other"),
        (b"[" * 1_000_000, f"line 1, column 33: expected at most {MAX_DEPTH} maps and lists in each other"),
        (b"- " * 500_000, f"line 1, column 65: expected at most {MAX_DEPTH} maps and lists in each other"),
        (b"[" * 500 + b"]" * 500, "line 1, column 33: expected at most 32"),
        (b"\n[" + b"1," * 300_000 + b"1]", f"line 2, column {2 * MAX_NODES}: expected at most {MAX_NODES} keys and values"),
        (b"x" * (2**20 + 1), "larger than 1048576 bytes"),
        ("ä" * 2**19 + "x", "larger than 1048576 bytes"),
    ],
    ids=range(23),
)
def test_what_is_refused(data: bytes, expected: str) -> None:
    assert expected in problem(data)


def test_all_of_what_need_not_stop_it() -> None:
    assert problems("a: 1\na: 2\nb:\n  c: !!set {}\n  d: 1\n  d: 1\ne: [") == [
        "line 2: key 'a' is there twice, first on line 1",
        "line 4: a map with the tag 'tag:yaml.org,2002:set' is not taken",
        "line 6: key 'd' is there twice, first on line 5",
        "line 8, column 1: expected YAML or JSON: did not find expected node content",
    ]


def test_very_many_problems_are_counted() -> None:
    found = problems("a: 1\n" * 1000)

    assert len(found) == 50
    assert found[-1] == "and 950 more problems"


def test_as_deep_as_allowed() -> None:
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert load_document(f"x: {deep}").value is not None
    assert load_document(f'{{"x": {deep}}}').value is not None
    assert "at most" in problem(f"x: [{deep}]")
    assert "at most" in problem(f'{{"x": [{deep}]}}')


def bomb(levels: int = 9, width: int = 9) -> str:
    """431 bytes that stand for a billion."""
    lines = ["a: &a [" + ", ".join(["lol"] * width) + "]"]
    for level in range(1, levels):
        name, before = chr(ord("a") + level), chr(ord("a") + level - 1)
        lines.append(f"{name}: &{name} [" + ", ".join([f"*{before}"] * width) + "]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        bomb().replace(": [*", ": {<<: [*").replace("]\n", "]}\n"),
        "a: &a {" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}\n" + "".join(f"b{i}: {{<<: *a}}\n" for i in range(1000)),
        "1" + ":59" * 300_000,
        "0x" + "f" * 1_000_000,
        "".join(f"- &a{i} x\n- *a{i}\n" for i in range(50_000)),
        "a: 1\n" * 200_000,
    ],
    ids=["bomb", "bomb of merges", "merges", "base 60", "hexadecimal", "aliases", "the same key"],
)
def test_nothing_is_dear(text: str) -> None:
    """It takes half a second at most; without bounds it takes minutes."""

    def problems() -> list[str]:
        try:
            load_documents(text[: 2**20])
        except SettingsError as error:
            return error.problems
        return []

    assert len("\n".join(problems())) < 20_000
    assert costs_less(problems, 5.0)


TEXT = """\
# a comment
pools:
- name: a
  endpoints:
    static: [x,
      y]
- &b
  name: b
"dotted.key[0]/x":
  - 1
again: *b
more: {<<: *b, own: 1}
"""


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("pools: too few", 2),
        ("pools[0].name: no", 3),
        ("pools[0].endpoints.static[1]: no", 6),
        ("pools[0].endpoints.file: missing", 4),
        ("pools[7].name: no", 2),
        ("dotted.key[0]/x[0]: no", 10),
        ("again.name: no", 8),
        ("more.own: no", 12),
        ("more.name: no", 8),
        ("nothing: no", None),
        ("", None),
    ],
)
def test_the_line_of_what_is_found_later(said: str, line: int | None) -> None:
    document = load_document(TEXT)

    assert document.line_of(said) == line
    assert document.locate(said) == (said if line is None else f"line {line}: {said}")
    assert document.locate(f"f.yaml: {said}", "f.yaml: ") == f"f.yaml: {document.locate(said)}"
    assert document.locate(f"other: {said}", "f.yaml: ") == f"other: {said}"


def test_lines_of_json() -> None:
    assert load_document('{"a": 1,\n "b": [1,\n 2]}').locate("b[1]: no") == "line 3: b[1]: no"
    assert load_document('{"a": "\\ud83d\\ude00"}').locate("a: no") == "a: no"


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"), max_size=8)
NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_what_was_written_is_read(value: Any) -> None:
    assert load_document(json.dumps({"x": value})).value == {"x": value}
    assert load_document(yaml.safe_dump({"x": value}, allow_unicode=True)).value == {"x": value}


@given(st.one_of(st.binary(max_size=60), st.text("ab:-[]{}&*!|>'\" \n\t,?#1<", max_size=40).map(str.encode)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_documents_or_problems(data: bytes) -> None:
    found: list[str] = []
    try:
        for document in load_documents(data):
            document.line_of("a.b[1]: no")
    except SettingsError as error:
        found = error.problems
    assert not any("\n" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1,\n "b": 2,\n}', "line 2, column 8: got a comma before }; expected none behind the last one"),
        ("[1, 2, ]", "line 1, column 6: got a comma before ]; expected none behind the last one"),
        ('{"a" 1}', "line 1, column 6: got '1'; expected a colon"),
        ("{a: 1}", "line 1, column 2: got 'a'; expected a name in double quotes"),
        ("", "line 1, column 1: got the end; expected a value"),
        ('{"a": 1}x', "line 1, column 9: got 'x'; expected the end, behind the one value"),
        ('{"a": 1 "b": 2}', "line 1, column 9: got '\"'; expected a comma, or the end of the object or list"),
        ('{"a": "x', "line 1, column 7: got '\"'; expected text with double quotes at its end, which begins here"),
        ('{"a": 1, "a": 2}', "key 'a' is there twice"),
        ('{"a": Infinity}', "expected numbers, not NaN, Infinity or very many digits"),
        ("9" * 5000, "expected numbers, not NaN, Infinity or very many digits"),
        ("[" * 20_000, f"expected at most {MAX_DEPTH} maps and lists in each other"),
        ("a: 1", "line 1, column 1: got 'a'; expected a value"),
        (" " * (2**20 + 1), f"larger than {2**20} bytes"),
    ],
)
def test_json_alone_is_strict_and_says_where(text: str, expected: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(SettingsError) as caught:
            load_json(data)
        assert caught.value.problems == [expected]


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_json_is_what_others_take_for_json(data: bytes | str) -> None:
    try:
        found = load_json(data)
    except SettingsError:
        return
    assert found == json.loads(data)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_json_that_is_written_is_read(value: Any) -> None:
    assert load_json(json.dumps(value)) == value
