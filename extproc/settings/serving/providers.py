"""A provider's model, and what it takes to reach it.

The settings of a provider are an object named after it (`openai_config`). Each secret has two fields, of which one is given:
a reference (`openai_api_key`: `{{secrets/scope/key}}`) or the text itself (`openai_api_key_plaintext`). Fields that nobody
knows are refused here, for a secret may be in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import ConfigDict, model_validator

from extproc.settings.serving.fields import Form, Label, PlainSecret, Reference, Text, Url

TWIN: Final = "_plaintext"
"""Ends the name of a field for a secret as text; without it, it is the name of the field for its reference."""

Task = Literal["llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings"]


class _Closed(Form):
    model_config = ConfigDict(extra="forbid")


class ProviderConfig(_Closed):
    """Base of `<provider>_config`. Of a secret's two fields at most one; of those in `needs_one_of`, exactly one."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ProviderConfig:
        for field in type(self).model_fields:
            if field.endswith(TWIN):
                one(self, field.removesuffix(TWIN), field, needed=False)
        return self


def one(part: Form, first: str, second: str, *, needed: bool = True) -> None:
    """Raise ValueError unless one of two fields is given, and not both."""
    given = (getattr(part, first) is not None) + (getattr(part, second) is not None)
    if given == 2 or (needed and given == 0):
        found = "both are" if given else "neither is"
        raise ValueError(f"{found} given; expected {'' if needed else 'at most '}one of {first} and {second}")


class OpenAiConfig(ProviderConfig):
    """OpenAI, Azure OpenAI, and whoever speaks as they do."""

    openai_api_key: Reference | None = None
    openai_api_key_plaintext: PlainSecret | None = None
    openai_api_base: Url | None = None
    openai_api_type: Literal["openai", "open_ai", "azure", "azuread"] | None = None
    openai_api_version: Label | None = None
    openai_deployment_name: Label | None = None
    openai_organization: Label | None = None
    microsoft_entra_client_id: Label | None = None
    microsoft_entra_client_secret: Reference | None = None
    microsoft_entra_client_secret_plaintext: PlainSecret | None = None
    microsoft_entra_tenant_id: Label | None = None

    @model_validator(mode="after")
    def _key(self) -> OpenAiConfig:
        entra = self.microsoft_entra_client_secret or self.microsoft_entra_client_secret_plaintext
        if not (entra and self.openai_api_type == "azuread"):
            one(self, "openai_api_key", "openai_api_key_plaintext")
        if self.openai_api_type in ("azure", "azuread"):
            needed = ["openai_api_base", "openai_api_version", "openai_deployment_name"]
            if missing := [field for field in needed if getattr(self, field) is None]:
                raise ValueError(f"expected {', '.join(missing)} with openai_api_type {self.openai_api_type}")
        return self


class AnthropicConfig(ProviderConfig):
    """Anthropic."""

    anthropic_api_key: Reference | None = None
    anthropic_api_key_plaintext: PlainSecret | None = None
    anthropic_api_base: Url | None = None
    """Not Databricks'; MLflow's gateway has it."""

    @model_validator(mode="after")
    def _key(self) -> AnthropicConfig:
        one(self, "anthropic_api_key", "anthropic_api_key_plaintext")
        return self


class CohereConfig(ProviderConfig):
    """Cohere."""

    cohere_api_key: Reference | None = None
    cohere_api_key_plaintext: PlainSecret | None = None
    cohere_api_base: Url | None = None

    @model_validator(mode="after")
    def _key(self) -> CohereConfig:
        one(self, "cohere_api_key", "cohere_api_key_plaintext")
        return self


class DatabricksConfig(ProviderConfig):
    """An endpoint of another workspace, or of another gateway such as this one."""

    databricks_workspace_url: Url
    databricks_api_token: Reference | None = None
    databricks_api_token_plaintext: PlainSecret | None = None

    @model_validator(mode="after")
    def _key(self) -> DatabricksConfig:
        one(self, "databricks_api_token", "databricks_api_token_plaintext")
        return self


class ApiKeyAuth(ProviderConfig):
    """A key in a header of its own."""

    key: Label
    """The header's name."""
    value: Reference | None = None
    value_plaintext: PlainSecret | None = None

    @model_validator(mode="after")
    def _key(self) -> ApiKeyAuth:
        one(self, "value", "value_plaintext")
        return self


class BearerTokenAuth(ProviderConfig):
    """`Authorization: Bearer`."""

    token: Reference | None = None
    token_plaintext: PlainSecret | None = None

    @model_validator(mode="after")
    def _key(self) -> BearerTokenAuth:
        one(self, "token", "token_plaintext")
        return self


class CustomConfig(ProviderConfig):
    """Whoever speaks OpenAI's API at an address of one's own; with a key, a token or neither."""

    custom_provider_url: Url
    api_key_auth: ApiKeyAuth | None = None
    bearer_token_auth: BearerTokenAuth | None = None

    @model_validator(mode="after")
    def _auth(self) -> CustomConfig:
        one(self, "api_key_auth", "bearer_token_auth", needed=False)
        return self


class BedrockConfig(ProviderConfig):
    """Amazon Bedrock: by an API key, a field of ours, or by what Databricks signs requests with."""

    aws_region: Label
    bedrock_provider: Label | None = None
    bedrock_api_base: Url | None = None
    bedrock_api_key: Reference | None = None
    bedrock_api_key_plaintext: PlainSecret | None = None
    aws_access_key_id: Reference | None = None
    aws_access_key_id_plaintext: PlainSecret | None = None
    aws_secret_access_key: Reference | None = None
    aws_secret_access_key_plaintext: PlainSecret | None = None
    instance_profile_arn: Text | None = None
    uc_service_credential_name: Text | None = None


class VertexConfig(ProviderConfig):
    """Google Cloud Vertex AI: by a token, a field of ours, or by a service account's key."""

    project_id: Label
    region: Label
    vertex_api_base: Url | None = None
    access_token: Reference | None = None
    access_token_plaintext: PlainSecret | None = None
    private_key: Reference | None = None
    private_key_plaintext: PlainSecret | None = None


PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai_config",
    "anthropic": "anthropic_config",
    "databricks-model-serving": "databricks_model_serving_config",
    "custom": "custom_provider_config",
    "cohere": "cohere_config",
    "amazon-bedrock": "amazon_bedrock_config",
    "google-cloud-vertex-ai": "google_cloud_vertex_ai_config",
}
"""Databricks has `ai21labs` and `palm` too, which are gone."""


class ExternalModel(_Closed):
    """A provider's model."""

    name: Label
    provider: Literal[
        "openai", "anthropic", "databricks-model-serving", "custom", "cohere", "amazon-bedrock", "google-cloud-vertex-ai"
    ]
    task: Task
    openai_config: OpenAiConfig | None = None
    anthropic_config: AnthropicConfig | None = None
    databricks_model_serving_config: DatabricksConfig | None = None
    custom_provider_config: CustomConfig | None = None
    cohere_config: CohereConfig | None = None
    amazon_bedrock_config: BedrockConfig | None = None
    google_cloud_vertex_ai_config: VertexConfig | None = None

    @model_validator(mode="after")
    def _of_this_provider(self) -> ExternalModel:
        needed = PROVIDERS[self.provider]
        if getattr(self, needed) is None:
            raise ValueError(f"expected {needed} beside provider {self.provider}")
        if others := [field for field in PROVIDERS.values() if field != needed and getattr(self, field) is not None]:
            raise ValueError(f"{others[0]} does not belong to provider {self.provider}; expected {needed} alone")
        return self
