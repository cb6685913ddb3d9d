"""`registry` of a gateway's file: what it may say, and what is wrong with it, each with its place."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.cli.options import from_text
from extproc.settings.base import SettingsError
from extproc.settings.document import load_document
from extproc.settings.gateway import gateway_parts, load_gateway_config
from extproc.settings.registry import RegistrySettings, only_models

GATEWAY = """
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
  - {name: a, endpoints: {static: ["127.0.0.1:1"]}}
  - {name: b, endpoints: {static: ["127.0.0.1:2"]}}
routes:
  - {models: [model-a], pool: a, entities: [{name: listed, version: "1"}]}
"""


def problems(registry: str) -> list[str]:
    return list(gateway_parts(load_document(f"{GATEWAY}registry: {registry}\n")).problems)


def test_the_whole_of_it() -> None:
    registry = load_gateway_config(
        GATEWAY
        + """
registry:
  uri: https://mlflow.example/base
  token: "{{secrets/mlflow/token}}"
  interval: 30s
  timeout: 2s
  caFile: ca.pem
  models:
    - {name: churn, version: 3, pool: a}
    - {name: churn, pool: b, model: "churn-v{version}", path: /score}
"""
    ).registry
    assert registry is not None
    assert (registry.uri, registry.interval, registry.timeout) == ("https://mlflow.example/base", 30.0, 2.0)
    assert [(line.name, line.version, line.pool, line.model, line.path) for line in registry.models] == [
        ("churn", "3", "a", None, "/invocations"),
        ("churn", "", "b", "churn-v{version}", "/score"),
    ]


@pytest.mark.parametrize(
    ("registry", "problem"),
    [
        ("{uri: mlflow.example}", "registry.uri: expected an address such as https://host"),
        ("{uri: 'sqlite:///mlflow.db'}", "registry.uri: expected an address"),
        ("{uri: databricks}", "registry.uri: expected an address"),
        ("{uri: 'https://user:hunter2@mlflow.example'}", "registry.uri: expected an address"),
        ("{token: dapi123}", "registry.token: expected {{secrets/scope/key}}, as credentials have no place in this file"),
        ("{username: alice}", "registry: username and password need each other"),
        ("{username: alice, password: hunter2}", "registry.password: expected {{secrets/scope/key}}"),
        (
            "{token: '{{secrets/a/b}}', username: x, password: '{{secrets/a/b}}'}",
            "registry: token and username exclude each other",
        ),
        ("{interval: 10}", "registry.interval: expected a duration"),
        ("{interval: 10ms}", "registry.interval: input should be greater than or equal to 0.1 (got '10ms')"),
        ("{caFile: a, insecureSkipVerify: true}", "registry: caFile and insecureSkipVerify exclude each other"),
        ("{url: x}", "registry.url: unknown key"),
        ("{models: [{name: churn, pool: c}]}", "registry.models[0].pool: no pool is called 'c' (there are: a, b)"),
        ("{models: [{name: churn}]}", "registry.models[0].pool: field required"),
        ("{models: [{name: churn, pool: a, path: x}]}", "registry.models[0].path: expected a path that begins with /"),
        (
            "{models: [{name: churn, pool: a}, {name: churn, pool: b}]}",
            "registry.models[1]: 'churn' with no version is already listed by registry.models[0]",
        ),
        (
            "{models: [{name: listed, version: 1, pool: b}]}",
            "registry.models[0]: 'listed' with version '1' is already listed by an entity of a route",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(registry: str, problem: str) -> None:
    said = problems(registry)
    assert any(line.startswith(problem) for line in said), said
    assert not any(secret in line for line in said for secret in ("hunter2", "dapi123"))


def test_nothing_of_it_is_no_registry() -> None:
    assert problems("{}") == []


def test_the_only_model_of_a_pool() -> None:
    routes: list[Any] = [("a", ["m"]), ("b", ["x", "y"]), ("c", ["v"]), ("c", ["w"])]
    assert only_models(routes, ["a", "b", "c", "d"]) == {"a": "m", "b": None, "c": None, "d": None}


@pytest.mark.parametrize("version", ["@champion", "@v1", "@"])
def test_an_endpoint_of_the_file_is_read_with_its_reference(version: str) -> None:
    endpoint = f"{{name: chat, config: {{served_entities: [{{entity_name: churn, entity_version: '{version}'}}]}}}}"
    text = f"{GATEWAY}servingEndpoints: [{endpoint}]\n"
    if version == "@champion":
        assert load_gateway_config(text).serving_endpoints
        return
    with pytest.raises(SettingsError, match=r"servingEndpoints\[0\].config.served_entities\[0\]: got .*expected an alias"):
        load_gateway_config(text)


def test_mlflows_variables_mean_a_server_or_others() -> None:
    """They are set wherever people work with MLflow, also to what is no server; a gateway starts all the same."""
    both = {"MLFLOW_TRACKING_URI": "https://tracking.example", "MLFLOW_REGISTRY_URI": "http://registry.example:5000"}
    heard = from_text(RegistrySettings, {}, both, [])
    assert (heard.registry_uri, heard.tracking_uri) == ("http://registry.example:5000", "https://tracking.example")
    others = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MLFLOW_REGISTRY_URI": "databricks-uc"}
    assert from_text(RegistrySettings, {}, others, []) == RegistrySettings()
    with pytest.raises(SettingsError, match=r"--tracking-uri: expected an address.*'databricks'"):
        from_text(RegistrySettings, {"tracking_uri": "databricks"}, {}, [])
