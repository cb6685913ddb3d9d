from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create
from extproc.settings.serving.entities import is_plaintext, lifted, plaintext_reference
from extproc.settings.serving.providers import PROVIDERS
from tests.settings.serving.documents import KEY, external, openai

REFERENCE = "{{secrets/scope/key}}"
CONFIGS: dict[str, dict[str, Any]] = {
    "openai": {"openai_api_key": REFERENCE, "openai_api_base": "https://llm.example/v1"},
    "anthropic": {"anthropic_api_key": REFERENCE},
    "databricks-model-serving": {"databricks_workspace_url": "https://dbc.example", "databricks_api_token": REFERENCE},
    "custom": {"custom_provider_url": "https://llm.example/v1", "bearer_token_auth": {"token": REFERENCE}},
    "cohere": {"cohere_api_key": REFERENCE},
    "amazon-bedrock": {"aws_region": "eu-central-1", "bedrock_provider": "anthropic", "aws_access_key_id": REFERENCE},
    "google-cloud-vertex-ai": {"project_id": "p", "region": "r", "private_key": REFERENCE},
}


def entity(provider: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "e",
        "external_model": {"name": "m", "provider": provider, "task": "llm/v1/chat", PROVIDERS[provider]: config},
    }


def problems(entity: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        read_create(external(entity))
    assert KEY not in str(raised.value.problems)
    return list(raised.value.problems)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_is_read_as_it_is_written(provider: str) -> None:
    given = entity(provider, CONFIGS[provider])
    assert read_create(external(given)).config.entities == [given]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "databricks-model-serving", "cohere"])
def test_a_provider_without_a_key_is_refused(provider: str) -> None:
    config = {field: value for field, value in CONFIGS[provider].items() if value != REFERENCE}
    (line,) = problems(entity(provider, config or {"later": 1}))
    assert "expected" in line


def test_a_key_where_a_reference_belongs_is_refused_and_not_quoted() -> None:
    (line,) = problems(openai(openai_api_key=KEY))
    assert line == (
        "config.served_entities[0].external_model.openai_config.openai_api_key: "
        "expected {{secrets/scope/key}}; a key itself belongs into the field's twin, ..._plaintext"
    )


@pytest.mark.parametrize(
    "reference", ["{{secrets/a}}", "{{secrets/a/b/c}}", "{{ secrets / a / b }}", "secrets/a/b", "{{secrets/../b}}"]
)
def test_a_malformed_reference_is_refused(reference: str) -> None:
    assert "expected {{secrets/scope/key}}" in problems(openai(openai_api_key=reference))[0]


def test_a_secret_is_given_once() -> None:
    lines = problems(openai(openai_api_key=REFERENCE, openai_api_key_plaintext=KEY))
    assert "both are given; expected at most one of openai_api_key and openai_api_key_plaintext" in lines[0]


def test_only_the_config_of_the_provider_may_be_there() -> None:
    given = openai()
    given["external_model"]["anthropic_config"] = CONFIGS["anthropic"]
    assert "anthropic_config does not belong to provider openai" in problems(given)[0]
    given["external_model"] = {**given["external_model"], "provider": "cohere"}
    assert "expected cohere_config beside provider cohere" in problems(given)[0]


def test_an_unknown_field_beside_keys_is_refused() -> None:
    (line,) = problems(openai(openai_api_key=REFERENCE, api_key=KEY))
    assert line.startswith("config.served_entities[0].external_model.openai_config.api_key: unknown key; expected ")


@pytest.mark.parametrize("field", ["entity_name", "entity_version", "workload_size", "workload_type"])
def test_a_providers_model_is_no_own_model(field: str) -> None:
    (line,) = problems({**openai(), field: "x"})
    assert f"external_model and {field} exclude each other" in line


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "//host",
        "host:80",
        "https://",
        f"https://user:{KEY}@host",
        "https://host/?q",
        "https://host/#f",
        "https://host:99999",
        "https://[::1",
        "https://ho st",
        "https://host:0",
        "https://hóst",
        3,
    ],
)
def test_an_address_is_one_to_connect_to(url: object) -> None:
    (line,) = problems(openai(openai_api_key=REFERENCE, openai_api_base=url))
    assert "expected an address such as https://host" in line


def test_a_custom_provider_needs_no_key_and_takes_one_kind_of_it() -> None:
    config: dict[str, Any] = {"custom_provider_url": "http://10.0.0.1:8000/v1"}
    assert read_create(external(entity("custom", config))).config.entities
    config |= {"bearer_token_auth": {"token": REFERENCE}, "api_key_auth": {"key": "x-api-key", "value": REFERENCE}}
    assert "both are given" in problems(entity("custom", config))[0]


def test_azure_needs_its_deployment() -> None:
    (line,) = problems(openai(openai_api_key=REFERENCE, openai_api_type="azure", openai_api_base="https://a.example"))
    assert "expected openai_api_version, openai_deployment_name with openai_api_type azure" in line


def test_secrets_that_are_text_are_lifted_out_whole() -> None:
    auth = {"key": "x-api-key", "value_plaintext": KEY}
    entities = [
        openai("a", openai_api_key_plaintext=KEY),
        entity("custom", {"custom_provider_url": "https://x", "api_key_auth": auth}),
    ]
    found = lifted(entities)
    assert [(each.entity, each.field) for each in found] == [
        ("a", ("openai_config", "openai_api_key")),
        ("e", ("custom_provider_config", "api_key_auth", "value")),
    ]
    assert [each.text.reveal() for each in found] == [KEY, KEY]
    assert KEY not in f"{entities}{found}"


def test_what_stands_for_a_secret_that_was_text() -> None:
    reference = plaintext_reference("4f")
    assert reference == "{{secrets/@plaintext/4f}}"
    assert is_plaintext(reference) == "4f"
    assert is_plaintext("{{secrets/scope/key}}") is None
