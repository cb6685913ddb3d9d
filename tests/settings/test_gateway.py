"""The gateway's file: what serving endpoints may name. The rest of its form: tests/cli, tests/app."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extproc.settings.base import SettingsError
from extproc.settings.gateway import load_gateway_config

PATH = "/invocations"


def config(*routes: dict[str, Any]) -> str:
    pools = [{"name": name, "endpoints": {"static": ["127.0.0.1:8000"]}} for name in ("one", "two")]
    return yaml.safe_dump({"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": pools, "routes": list(routes)})


def route(*entities: dict[str, Any], models: tuple[str, ...] = ("a",), pool: str = "one") -> dict[str, Any]:
    return {"models": list(models), "pool": pool, "entities": list(entities)}


def problems(*routes: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load_gateway_config(config(*routes))
    return list(error.value.problems)


def test_an_entity_with_everything() -> None:
    entity = {"name": "main.models.a", "version": 2, "model": "a-v2", "path": "/predict"}
    (found,) = load_gateway_config(config(route(entity, models=("a", "b")))).routes[0].entities
    assert (found.name, found.version, found.model, found.path) == ("main.models.a", "2", "a-v2", "/predict")


def test_what_may_be_left_out() -> None:
    (found,) = load_gateway_config(config(route({"name": "A"}))).routes[0].entities
    assert (found.version, found.model, found.path) == ("", None, PATH)
    assert load_gateway_config(config({"models": ["a"], "pool": "one"})).routes[0].entities == []


def test_a_route_with_several_models_needs_to_hear_which() -> None:
    (problem,) = problems(route({"name": "A"}, models=("a", "b")))
    assert "routes[0]: entities[0].model: expected one, as the route has 2 models" in problem


def test_the_same_name_and_version_twice() -> None:
    twice = {"name": "A", "version": "1"}
    assert any(
        "routes[1].entities[0]: 'A' with version '1' is already listed by routes[0].entities[0]" in problem
        for problem in problems(route(twice), route(twice, models=("b",), pool="two"))
    )
    load_gateway_config(config(route(twice, {"name": "A", "version": "2"}, {"name": "A"})))


@pytest.mark.parametrize("path", ["predict", "/a b", "/a?b=c", "/a\nb", "http://x/"])
def test_a_path_that_is_none(path: str) -> None:
    (problem,) = problems(route({"name": "A", "path": path}))
    assert "routes[0].entities[0].path: expected a path that begins with /" in problem


def test_a_pool_that_is_none_of_many() -> None:
    """The message lists the first ones, and says how many there are besides."""
    document = yaml.safe_load(config({"models": ["a"], "pool": "other"}))
    pool = document["pools"][0]
    document["pools"] = [{**pool, "name": f"p{number:02}"} for number in range(25)]
    with pytest.raises(SettingsError) as error:
        load_gateway_config(yaml.safe_dump(document))
    (problem,) = error.value.problems
    assert "routes[0].pool: no pool is called 'other' (there are: p00, p01, " in problem
    assert problem.endswith(", p19 and 5 more)")
