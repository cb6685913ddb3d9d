from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.discovery.document import MAX_DEPTH, load_document
from extproc.settings.base import SettingsError


def problem(data: bytes) -> str:
    with pytest.raises(SettingsError) as caught:
        load_document(data)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, "b", null]}', {"a": [1, "b", None]}),
        (b"a: [1, b, null]", {"a": [1, "b", None]}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        (b"a:\r\n  b: c\r\n", {"a": {"b": "c"}}),
        (b"a: &x {k: v}\nb: *x", {"a": {"k": "v"}, "b": {"k": "v"}}),
        (b"a: &x {k: v}\nb: {<<: *x, l: w}", {"a": {"k": "v"}, "b": {"k": "v", "l": "w"}}),
        (b"", None),
        (b"# nothing", None),
    ],
)
def test_documents(data: bytes, value: object) -> None:
    assert load_document(data) == value


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: [1", "line 2, column 1: expected YAML or JSON: did not find expected"),
        (b"a: 1\nb: 2\na: 3", "line 3, column 1: expected YAML or JSON: key 'a' is there twice"),
        (b"a: 1\n---\nb: 2", "expected YAML or JSON: but found another document"),
        (b"a: !!python/object:os.system {}", "could not determine a constructor for the tag"),
        (b"a: *nobody", "found undefined alias"),
        (b"a: 2026-13-45", "expected YAML or JSON: month must be in 1..12"),
        (b"[a]: b\n? {c: d}\n: e", "unhashable"),
        (b"a: \x00", "expected YAML or JSON: "),
        (b"a: \xff", "expected UTF-8 text: invalid start byte at byte 3"),
        (b"{" * 1_000_000, "line 1: expected at most 32 maps and lists in each other"),
        (b"[" * 1_000_000, "line 1: expected at most 32 maps and lists in each other"),
        (b"- " * 500_000, "line 1: expected at most 32 maps and lists in each other"),
    ],
    ids=range(12),
)
def test_what_is_no_document(data: bytes, expected: str) -> None:
    assert expected in problem(data)


def test_as_deep_as_allowed() -> None:
    assert load_document(b"x: " + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)) is not None
    assert "at most" in problem(b"x: " + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_json_that_is_too_deep() -> None:
    """orjson refuses it by a bound of its own, and then YAML does."""
    assert "at most 32" in problem(b"[" * 5000 + b"]" * 5000)


@given(st.one_of(st.binary(max_size=60), st.text("ab:-[]{}&*!|>'\" \n\t,?#1", max_size=40).map(str.encode)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_document_or_a_problem(data: bytes) -> None:
    problems: list[str] = []
    try:
        load_document(data)
    except SettingsError as error:
        problems = error.problems

    assert len(problems) <= 1
    assert not any("\n" in problem for problem in problems)
