"""Models to pools."""

from __future__ import annotations

import pytest

from extproc.errors import UnknownModel
from extproc.traffic import Route, RouteTable

TABLE = RouteTable([Route(("a", "b"), "one"), Route(("c",), "two")])


@pytest.mark.parametrize(("model", "pool"), [("a", "one"), ("b", "one"), ("c", "two")])
def test_exact_names(model: str, pool: str) -> None:
    assert TABLE.pool_of(model) == pool


@pytest.mark.parametrize("model", ["A", " a", "a ", "", "d", "one"])
def test_other_names_are_unknown_and_told_what_there_is(model: str) -> None:
    with pytest.raises(UnknownModel, match="Available models: a, b, c") as caught:
        TABLE.pool_of(model)
    assert caught.value.param == "model"


def test_models_are_listed_in_order() -> None:
    assert TABLE.models == ("a", "b", "c")
    assert repr(TABLE) == "<RouteTable 3 models>"


def test_a_long_list_is_shortened() -> None:
    table = RouteTable([Route(tuple(f"m{i}" for i in range(25)), "p")])
    assert table.listed().endswith("m19 and 5 more")
    assert RouteTable([Route(tuple(f"m{i}" for i in range(20)), "p")]).listed().endswith("m19")


def test_the_only_pool_takes_requests_without_a_model() -> None:
    assert TABLE.only_pool is None
    assert RouteTable([Route(("a",), "one"), Route(("b",), "one")]).only_pool == "one"
    assert RouteTable([]).only_pool is None
