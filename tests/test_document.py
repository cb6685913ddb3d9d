"""Objects whose long texts stay in the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from extproc.document import Document, LongTexts, Span, as_dict, joined, marks_in

BODY = b"hello world"


def document(**fields: Any) -> Document:
    texts = LongTexts([Span(BODY, 0, 5), Span(BODY, 6, 11)])
    return Document(fields, texts, {name for name, value in fields.items() if marks_in(value)})


def test_it_reads_like_a_dict() -> None:
    read = document(a="\x7f0", b=[{"c": ["\x7f1"]}], n=1)
    expected = {"a": "hello", "b": [{"c": ["world"]}], "n": 1}
    assert isinstance(read, Mapping)
    assert read == expected
    assert list(read) == ["a", "b", "n"]
    assert len(read) == 3
    assert "a" in read
    assert "z" not in read
    assert read.get("z") is None
    assert read.get("z", 7) == 7
    assert read["b"] == expected["b"]
    with pytest.raises(KeyError):
        read["z"]


def test_only_what_is_looked_at_is_filled() -> None:
    read = document(a="\x7f0", b={"c": "\x7f1"}, n=1)
    assert read.get("n") == 1
    assert read.fields == {"a": "\x7f0", "b": {"c": "\x7f1"}, "n": 1}
    assert read["b"] == {"c": "world"}
    assert read.fields == {"a": "\x7f0", "b": {"c": "world"}, "n": 1}
    assert read["a"] == "hello"
    assert read.fields["a"] == "hello"


def test_a_field_is_looked_through_once() -> None:
    """Own plugins and rules look at the same field for each of many."""
    read = document(a="\x7f0", b=[{"c": "\x7f1"}], n=[1])
    held = read["b"]
    assert isinstance(held, list)
    held.append("\x7f0")  # would be filled by a second look
    assert read["b"] == [{"c": "world"}, "\x7f0"]
    assert as_dict(read) is as_dict(read) is read.fields
    assert read.fields == {"a": "hello", "b": [{"c": "world"}, "\x7f0"], "n": [1]}


def test_it_shows_nothing_and_no_json_writer_takes_it_for_a_dict() -> None:
    """Its marks would go out."""
    read = document(a="\x7f0")
    assert repr(read) == "<Document of 1 fields>"
    with pytest.raises(TypeError):
        orjson.dumps(read)
    assert orjson.dumps(as_dict(read)) == b'{"a":"hello"}'


def test_a_dict_is_as_dict() -> None:
    payload = {"a": "\x7f0"}
    assert as_dict(payload) is payload
    assert as_dict(None) is None


@given(data=st.binary(max_size=30), begin=st.integers(0, 30), size=st.integers(0, 30))
def test_spans(data: bytes, begin: int, size: int) -> None:
    begin = min(begin, len(data))
    span = Span(data, begin, min(len(data), begin + size))
    part = data[begin : begin + size]
    assert len(span) == len(part)
    assert span.view() == part
    assert joined([b"a", span, b"b"]) == b"a" + part + b"b"
    assert span == Span(part, 0, len(part))
    assert hash(span) == hash(Span(part, 0, len(part)))
    assert span != Span(part + b"c", 0, len(part) + 1)
