from __future__ import annotations

from typing import Any

import pytest

from extproc.credentials import Reference, Secret
from extproc.external import PROVIDERS, Dialect, ExternalModel, Task, read_external_model
from extproc.external.providers import Auth
from extproc.files.problems import Unusable
from tests.external.parts import CONFIGS, model, spec

AZURE = {
    "openai_api_type": "azure",
    "openai_api_base": "https://it.openai.azure.com/",
    "openai_api_version": "2024-10-21",
    "openai_deployment_name": "gpt",
}


def problems(values: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(Unusable) as error:
        read_external_model(values, **options)
    return error.value.problems


def url(model: ExternalModel) -> str:
    return str(model.base._replace(path="")) + model.path


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_of_the_table_can_be_read(provider: str) -> None:
    for task in PROVIDERS[provider].tasks:
        read = model(provider, task=task.value)
        assert (read.provider, read.name, read.task) == (provider, "served", task)
        assert read.base.tls
        assert read.path.startswith("/")
        assert read.credential is not None
        assert isinstance(read.credential.reference, Reference)


@pytest.mark.parametrize(
    ("provider", "changes", "expected"),
    [
        ("openai", {}, "https://api.openai.com/v1/chat/completions"),
        ("openai", {"task": "llm/v1/completions"}, "https://api.openai.com/v1/completions"),
        ("openai", {"task": "llm/v1/embeddings"}, "https://api.openai.com/v1/embeddings"),
        ("openai", {"openai_api_base": "https://eu.example.com/x/v1/"}, "https://eu.example.com/x/v1/chat/completions"),
        ("anthropic", {}, "https://api.anthropic.com/v1/messages"),
        ("anthropic", {"anthropic_api_base": "https://a.example.com/v1"}, "https://a.example.com/v1/messages"),
        ("anthropic", {"anthropic_api_base": "https://a.example.com/x"}, "https://a.example.com/x/v1/messages"),
        ("databricks-model-serving", {"name": "a b/c"}, "https://dbc.example.com/serving-endpoints/a%20b%2Fc/invocations"),
        ("custom", {}, "https://llm.example.com/v1/chat/completions"),
        ("custom", {"custom_provider_url": "https://c.example.com/api/v3"}, "https://c.example.com/api/v3/chat/completions"),
        (
            "custom",
            {"custom_provider_url": "https://c.example.com/x/chat/completions"},
            "https://c.example.com/x/chat/completions",
        ),
        ("amazon-bedrock", {}, "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1/chat/completions"),
        (
            "google-cloud-vertex-ai",
            {},
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4/endpoints/openapi"
            "/chat/completions",
        ),
        ("cohere", {"task": "llm/v1/embeddings"}, "https://api.cohere.ai/compatibility/v1/embeddings"),
        ("openai", AZURE, "https://it.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"),
    ],
)
def test_where_it_is(provider: str, changes: dict[str, Any], expected: str) -> None:
    assert url(model(provider, **changes)) == expected


def test_the_environment_says_where_providers_are_unless_the_configuration_does() -> None:
    environ = {"OPENAI_BASE_URL": "https://proxy.example.com/v1", "ANTHROPIC_BASE_URL": "https://proxy.example.com"}
    assert url(model("openai", environ=environ)) == "https://proxy.example.com/v1/chat/completions"
    assert url(model("anthropic", environ=environ)) == "https://proxy.example.com/v1/messages"
    own = model("openai", environ=environ, openai_api_base="https://own.example.com/v1")
    assert own.base.host == "own.example.com"


@pytest.mark.parametrize(
    ("provider", "changes", "auth", "header"),
    [
        ("openai", {}, Auth.BEARER, ""),
        ("anthropic", {}, Auth.X_API_KEY, ""),
        ("openai", AZURE, Auth.API_KEY, ""),
        ("openai", {**AZURE, "openai_api_type": "azuread"}, Auth.BEARER, ""),
        ("custom", {}, Auth.BEARER, ""),
        (
            "custom",
            {"bearer_token_auth": None, "api_key_auth": {"key": "X-Key", "value": "{{secrets/a/b}}"}},
            Auth.NAMED,
            "x-key",
        ),
    ],
)
def test_how_it_knows_us(provider: str, changes: dict[str, Any], auth: Auth, header: str) -> None:
    read = model(provider, **changes)
    assert (read.auth, read.auth_header) == (auth, header)


def test_a_custom_provider_may_ask_for_nothing() -> None:
    assert model("custom", bearer_token_auth=None).credential is None


def test_an_organization_goes_along() -> None:
    assert model("openai", openai_organization="org-1").headers == (("openai-organization", "org-1"),)


def test_dialects() -> None:
    assert {name for name, provider in PROVIDERS.items() if provider.dialect is Dialect.ANTHROPIC} == {"anthropic"}
    assert PROVIDERS["anthropic"].tasks == (Task.CHAT,)


@pytest.mark.parametrize(("provider", "field"), [(name, PROVIDERS[name].credential) for name in PROVIDERS if name != "custom"])
def test_plain_text_is_taken_and_a_raw_key_where_a_reference_belongs_is_not(provider: str, field: str) -> None:
    absent: dict[str, Any] = {field: None}
    plain = model(provider, **{**absent, f"{field}_plaintext": " sk-verysecret\n"})
    assert plain.credential is not None
    assert plain.credential.secret == Secret("sk-verysecret")
    assert "verysecret" not in repr(plain)
    where = f"external_model.{CONFIGS[provider][0]}.{field}"
    assert problems(spec(provider, **{field: "sk-verysecret"})) == [
        f"{where}: expected {{{{secrets/scope/key}}}}; the text itself goes into {field}_plaintext"
    ]
    both = problems(spec(provider, **{f"{field}_plaintext": "sk-verysecret"}))
    assert both == [f"{where}: expected one of {field} and {field}_plaintext"]
    assert problems(spec(provider, **absent)) == [f"{where}: is required, or {field}_plaintext"]
    odd = problems(spec(provider, **{**absent, f"{field}_plaintext": "sk-very\nsecret"}))
    assert odd == [f"{where}_plaintext: expected a text that is not empty, on one line"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["provider: is required", "name: is required", "task: is required", "provider: expected one of openai, "]),
        (spec("openai", task="llm/v1/x"), ["task: expected llm/v1/chat, llm/v1/completions, llm/v1/embeddings for openai"]),
        (spec("anthropic", task="llm/v1/embeddings"), ["task: expected llm/v1/chat for anthropic"]),
        ({**spec("openai"), "provider": "palm"}, ["provider: expected one of openai, anthropic, "]),
        ({**spec("openai"), "provider": "anthropic"}, ["openai_config: does not belong to", "anthropic_config: is required"]),
        ({**spec("openai"), "openai_config": "x"}, ["openai_config: is required: an object"]),
        (
            spec("openai", openai_api_base="http://api.openai.com"),
            ["openai_config.openai_api_base: plain http to api.openai.com"],
        ),
        (spec("openai", openai_api_base="https://10.0.0.1/v1"), ["openai_config.openai_api_base: 10.0.0.1 is inside"]),
        (spec("openai", openai_api_base="nowhere"), ["openai_config.openai_api_base: expected a URL"]),
        (spec("openai", openai_api_base=7), ["openai_config.openai_api_base: expected a text"]),
        (spec("openai", openai_api_type="x"), ["openai_config.openai_api_type: expected openai, azure or azuread"]),
        (
            spec("openai", openai_api_type="azure"),
            [
                "openai_config.openai_api_version: is r",
                "openai_config.openai_deployment_name: is r",
                "openai_config.openai_api_base: is r",
            ],
        ),
        (
            spec("openai", microsoft_entra_client_secret="{{secrets/a/b}}"),
            ["openai_config.microsoft_entra_client_secret: is not supported; expected openai_api_key"],
        ),
        (
            spec("amazon-bedrock", aws_access_key_id="x", aws_region=None),
            ["amazon_bedrock_config.aws_access_key_id: is not supported", "amazon_bedrock_config.aws_region: is required"],
        ),
        (spec("amazon-bedrock", aws_region="evil.com/x"), ["amazon_bedrock_config.aws_region: expected letters, digits"]),
        (spec("google-cloud-vertex-ai", private_key="x"), ["google_cloud_vertex_ai_config.private_key: is not supported"]),
        (
            spec("custom", api_key_auth={"key": "x-key", "value": "{{secrets/a/b}}"}),
            ["custom_provider_config.api_key_auth: expected one of"],
        ),
        (
            spec("custom", bearer_token_auth=None, api_key_auth={"key": "host", "value": "{{secrets/a/b}}"}),
            ["custom_provider_config.api_key_auth.key: expected the name of a header"],
        ),
        (spec("custom", bearer_token_auth="sk-x"), ["custom_provider_config.bearer_token_auth: expected an object"]),
        (spec("custom", custom_provider_url=None), ["custom_provider_config.custom_provider_url: is required"]),
    ],
)
def test_everything_that_is_wrong_is_told_with_its_field(values: dict[str, Any], expected: list[str]) -> None:
    told = problems(values, where="served_entities[0].external_model")
    assert len(told) == len(expected), told
    for line, beginning in zip(told, expected, strict=True):
        assert line.startswith(f"served_entities[0].external_model.{beginning}"), line


def test_what_is_inside_may_be_allowed() -> None:
    values = spec("openai", openai_api_base="http://127.0.0.1:9000/v1")
    assert problems(values)
    assert read_external_model(values, allowed=["127.0.0.1"]).base.authority == "127.0.0.1:9000"
