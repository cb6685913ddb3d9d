"""Where a version is served: the gateway's file, then a tag, then the catalog."""

from __future__ import annotations

import pytest

from extproc.registry.answers import ModelVersion
from extproc.registry.placing import Placing, Unplaced


def resolve(name: str, version: str) -> str:
    if (name, version) in {("churn", "1"), ("churn", "2"), ("listed", "1")}:
        return "a pool"
    raise ValueError(f"no pool serves {name!r}; there are: churn")


PLACING = Placing({("listed", ""), ("churn", "2")}, {"a": "model-a", "b": None}, resolve)


def version(number: str, **tags: str) -> ModelVersion:
    return ModelVersion(number, tags={f"extproc.{key}": value for key, value in tags.items()})


def test_a_tag_names_pool_and_model() -> None:
    assert PLACING.block("churn", version("3", pool="b", model="m")) == {"version": "3", "pool": "b", "model": "m"}


def test_without_a_tag_for_the_model_it_is_the_pools_only_one_else_the_registered_models_name() -> None:
    assert PLACING.block("churn", version("3", pool="a"))["model"] == "model-a"
    assert PLACING.block("churn", version("3", pool="b"))["model"] == "churn"


def test_a_tag_goes_before_the_catalog_and_the_file_before_both() -> None:
    assert PLACING.block("churn", version("1", pool="b"))["pool"] == "b"
    assert PLACING.block("churn", version("2", pool="b")) == {"version": "2"}
    assert PLACING.block("listed", version("1", pool="b")) == {"version": "1"}


@pytest.mark.parametrize(
    ("number", "tags", "words"),
    [
        ("3", {}, "no pool serves version 3: no pool serves 'churn'; there are: churn"),
        ("3", {"pool": "z"}, "the tag extproc.pool of version 3 is 'z'; expected a pool: a, b"),
    ],
)
def test_what_no_pool_serves_says_so(number: str, tags: dict[str, str], words: str) -> None:
    with pytest.raises(Unplaced, match=words):
        PLACING.block("churn", version(number, **tags))
