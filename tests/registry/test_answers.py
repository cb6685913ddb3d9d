"""Answers of MLflow, as a server of 3.17 gave them, and what is none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.registry.answers import BadAnswer, ModelVersion, aliases_of, code_of, version_of

MODEL: dict[str, Any] = {
    "registered_model": {
        "name": "churn",
        "creation_timestamp": 1795954378952,
        "latest_versions": [{"name": "churn", "version": "2", "status": "READY"}],
        "aliases": [{"alias": "champion", "version": "1"}, {"alias": "challenger", "version": 2}],
    }
}
VERSION: dict[str, Any] = {
    "model_version": {
        "name": "churn",
        "version": "1",
        "status": "READY",
        "tags": [{"key": "extproc.pool", "value": "a"}, {"key": "owner", "value": "x"}],
        "aliases": ["champion"],
    }
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["aliases", "alias", "version", "tags", "key", "name", "status"]), inner, max_size=4)
    ),
)


def test_a_model() -> None:
    assert aliases_of(MODEL, "churn") == {"champion": "1", "challenger": "2"}
    assert aliases_of({"registered_model": {"name": "churn"}}, "churn") == {}


def test_a_version_and_its_tags_that_are_ours() -> None:
    assert version_of(VERSION, "1") == ModelVersion("1", "READY", {"extproc.pool": "a"})
    assert version_of({"model_version": {"version": 3}}, "3").status == ""


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"registered_model": []},
        {"registered_model": {"name": "other"}},
        {"registered_model": {"name": "churn", "aliases": {}}},
        {"registered_model": {"name": "churn", "aliases": ["champion"]}},
        {"registered_model": {"name": "churn", "aliases": [{"alias": "a", "version": "x"}]}},
        {"registered_model": {"name": "churn", "aliases": [{"alias": "", "version": "1"}]}},
    ],
)
def test_what_is_no_model_is_refused(document: object) -> None:
    with pytest.raises(BadAnswer, match="expected"):
        aliases_of(document, "churn")


@given(JSON)
def test_any_json_is_an_answer_or_is_refused(value: Any) -> None:
    for document in (value, {"registered_model": value, "model_version": value}):
        with contextlib.suppress(BadAnswer):
            assert all(alias and number.isdigit() for alias, number in aliases_of(document, "churn").items())
        with contextlib.suppress(BadAnswer):
            assert all(key.startswith("extproc.") for key in version_of(document, "1").tags)
        assert isinstance(code_of(document), str)


def test_the_code_of_an_error() -> None:
    assert code_of({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}) == "RESOURCE_DOES_NOT_EXIST"
    assert code_of("<html>") == ""
