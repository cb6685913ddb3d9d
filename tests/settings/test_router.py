"""`--plugin` of the router."""

from __future__ import annotations

import re

import pytest

from extproc.settings.router import FieldRule, HeaderRules, parse_plugins

MODEL = 'body-field-to-header:model-header:{"fieldName": "model", "headerName": "X-Gateway-Model-Name"}'


def test_none_is_the_usual() -> None:
    assert parse_plugins(()) == HeaderRules((FieldRule("model", "X-Gateway-Model-Name"),), base_model=True)


def test_upstream_s_own_two_are_the_usual() -> None:
    assert parse_plugins((MODEL, "base-model-to-header:base")) == HeaderRules()
    assert parse_plugins((MODEL, "base-model-to-header:base:{}")) == HeaderRules()
    assert parse_plugins(("default-bbr:default",)) == HeaderRules()


def test_only_what_is_named() -> None:
    assert parse_plugins((MODEL,)) == HeaderRules(base_model=False)
    rules = parse_plugins(('body-field-to-header:u:{"fieldName":"user","headerName":"X-User"}',))
    assert rules == HeaderRules((FieldRule("user", "X-User"),), base_model=False)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("body-field-to-header", "expected type:name or type:name:json"),
        (":x", "expected type:name or type:name:json"),
        ("other:x", "unknown type 'other', there are body-field-to-header and base-model-to-header"),
        ("body-field-to-header:x", "fieldName and headerName are required"),
        ("body-field-to-header:x:{", "its parameters are not JSON"),
        ("body-field-to-header:x:[]", "its parameters must be an object of strings"),
        ('body-field-to-header:x:{"fieldName":"a","headerName":"X-A","more":"1"}', "unknown parameter 'more'"),
        ('body-field-to-header:x:{"fieldName":"a","headerName":":path"}', "headerName ':path' is no header that may be set"),
        ('body-field-to-header:x:{"fieldName":"a","headerName":"Content-Length"}', "is no header that may be set"),
    ],
)
def test_problems(spec: str, problem: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(repr(spec))) as caught:
        parse_plugins((spec,))
    assert problem in str(caught.value)


def test_a_header_has_one_plugin() -> None:
    with pytest.raises(ValueError, match="two plugins set x-gateway-model-name"):
        parse_plugins((MODEL, MODEL))
