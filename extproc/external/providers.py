"""The providers: what each speaks, where it is, how it knows us.

The names and the fields of their configuration are Databricks' (`ExternalModel` of databricks-sdk 0.156). Where Databricks
signs requests or fetches tokens by itself (Amazon's access keys, Google's service accounts, Microsoft Entra), a field of ours
takes what such a provider accepts as a bearer token: `bedrock_api_key`, `access_token`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from extproc.external.dialects import Dialect, Task

ANTHROPIC_VERSION: Final = "2023-06-01"
"""Of Anthropic's API. 2026-10-21, the next one, refuses `temperature`, `top_p` and `top_k`
(platform.claude.com, "Versions"); both take `x-api-key`."""

_ALL: Final = (Task.CHAT, Task.COMPLETIONS, Task.EMBEDDINGS)
_CHAT: Final = (Task.CHAT,)


class Auth(Enum):
    """The header that a credential goes into."""

    BEARER = "authorization"
    """`authorization: Bearer ...`"""
    X_API_KEY = "x-api-key"
    API_KEY = "api-key"
    """Azure."""
    NAMED = ""
    """One that the configuration names."""


class Provider(NamedTuple):
    """One row. `{field}` in a base stands for that field of the configuration."""

    name: str
    config: str
    """The key of `external_model` that configures it."""
    dialect: Dialect
    tasks: tuple[Task, ...]
    base: str
    """Where it is unless configured otherwise; '' when that must be configured."""
    base_field: str
    """The field that says where it is; '' when there is none."""
    base_variable: str = ""
    """The environment variable that says where it is unless a field does."""
    credential: str = ""
    """The field of the credential: a reference, or the text itself in the field of this name with `_plaintext`."""
    auth: Auth = Auth.BEARER
    prefix: str = ""
    """What stands between a base that has no path and the path of a task."""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    instead: tuple[tuple[str, str], ...] = ()
    """Fields of Databricks' that would need more than a header, and what is to be given instead."""


PROVIDERS: Final = {
    provider.name: provider
    for provider in (
        Provider(
            "openai",
            "openai_config",
            Dialect.OPENAI,
            _ALL,
            "https://api.openai.com/v1",
            "openai_api_base",
            "OPENAI_BASE_URL",
            "openai_api_key",
            optional=("openai_organization", "openai_api_type", "openai_api_version", "openai_deployment_name"),
            instead=(
                ("microsoft_entra_client_secret", "openai_api_key with openai_api_type azuread"),
                ("microsoft_entra_client_secret_plaintext", "openai_api_key with openai_api_type azuread"),
            ),
        ),
        Provider(
            "anthropic",
            "anthropic_config",
            Dialect.ANTHROPIC,
            _CHAT,
            "https://api.anthropic.com",
            "anthropic_api_base",
            "ANTHROPIC_BASE_URL",
            "anthropic_api_key",
            Auth.X_API_KEY,
            prefix="/v1",
        ),
        Provider(
            "databricks-model-serving",
            "databricks_model_serving_config",
            Dialect.OPENAI,
            _ALL,
            "",
            "databricks_workspace_url",
            credential="databricks_api_token",
            required=("databricks_workspace_url",),
        ),
        Provider(
            "custom",
            "custom_provider_config",
            Dialect.OPENAI,
            _ALL,
            "",
            "custom_provider_url",
            prefix="/v1",
            required=("custom_provider_url",),
        ),
        Provider(
            "amazon-bedrock",
            "amazon_bedrock_config",
            Dialect.OPENAI,
            _CHAT,
            "https://bedrock-runtime.{aws_region}.amazonaws.com/openai/v1",
            "bedrock_api_base",
            credential="bedrock_api_key",
            required=("aws_region",),
            optional=("bedrock_provider",),
            instead=(
                ("aws_access_key_id", "bedrock_api_key"),
                ("aws_access_key_id_plaintext", "bedrock_api_key"),
                ("aws_secret_access_key", "bedrock_api_key"),
                ("aws_secret_access_key_plaintext", "bedrock_api_key"),
                ("instance_profile_arn", "bedrock_api_key"),
                ("uc_service_credential_name", "bedrock_api_key"),
            ),
        ),
        Provider(
            "google-cloud-vertex-ai",
            "google_cloud_vertex_ai_config",
            Dialect.OPENAI,
            _CHAT,
            "https://{region}-aiplatform.googleapis.com/v1/projects/{project_id}/locations/{region}/endpoints/openapi",
            "vertex_api_base",
            credential="access_token",
            required=("project_id", "region"),
            instead=(("private_key", "access_token"), ("private_key_plaintext", "access_token")),
        ),
        Provider(
            "cohere",
            "cohere_config",
            Dialect.OPENAI,
            (Task.CHAT, Task.EMBEDDINGS),
            "https://api.cohere.ai/compatibility/v1",
            "cohere_api_base",
            credential="cohere_api_key",
        ),
    )
}
"""Bedrock, Vertex and Cohere through the endpoints of theirs that speak OpenAI's dialect."""

PATHS: Final = {
    (Dialect.OPENAI, Task.CHAT): "/chat/completions",
    (Dialect.OPENAI, Task.COMPLETIONS): "/completions",
    (Dialect.OPENAI, Task.EMBEDDINGS): "/embeddings",
    (Dialect.ANTHROPIC, Task.CHAT): "/messages",
}
"""Behind the base, which ends with the API's version."""
