"""What requests and answers share of HTTP."""

from __future__ import annotations

import pytest

from extproc.media import has_controls, is_json, media_type


@pytest.mark.parametrize(
    ("content_type", "kind", "json"),
    [
        (b"application/json", b"application/json", True),
        (b" Application/JSON ; charset=utf-8", b"application/json", True),
        (b"application/problem+json", b"application/problem+json", True),
        (b"application/x-ndjson", b"application/x-ndjson", False),
        (b"text/json", b"text/json", False),
        (b"", b"", False),
        (b";", b"", False),
    ],
)
def test_media_types(content_type: bytes, kind: bytes, json: bool) -> None:
    assert media_type(content_type) == kind
    assert is_json(kind) is json


@pytest.mark.parametrize(
    ("text", "has"), [("model", False), ("été ☃", False), ("a\u00a0b", False), ("a\tb", True), ("\x7f", True)]
)
def test_control_characters(text: str, has: bool) -> None:
    assert has_controls(text) is has
