"""Models, requests and calls of tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from extproc.credentials import Secret
from extproc.domain import BodyPath, HeaderMutation, InferenceRequest, RequestHead, spliced
from extproc.external import (
    Asked,
    ExternalModel,
    ProviderCall,
    ProviderReader,
    asked,
    payload_of,
    provider_call,
    read_external_model,
)
from extproc.request import parse

KEY = Secret("sk-live-0123456789")
CREATED_S = 1_790_000_000
CLIENT_MODEL = "chat"

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai_config", {"openai_api_key": "{{secrets/ai/openai}}"}),
    "anthropic": ("anthropic_config", {"anthropic_api_key": "{{secrets/ai/anthropic}}"}),
    "databricks-model-serving": (
        "databricks_model_serving_config",
        {"databricks_workspace_url": "https://dbc.example.com", "databricks_api_token": "{{secrets/ai/dbx}}"},
    ),
    "custom": (
        "custom_provider_config",
        {"custom_provider_url": "https://llm.example.com", "bearer_token_auth": {"token": "{{secrets/ai/custom}}"}},
    ),
    "amazon-bedrock": ("amazon_bedrock_config", {"aws_region": "eu-west-1", "bedrock_api_key": "{{secrets/ai/aws}}"}),
    "google-cloud-vertex-ai": (
        "google_cloud_vertex_ai_config",
        {"project_id": "p-1", "region": "europe-west4", "access_token": "{{secrets/ai/gcp}}"},
    ),
    "cohere": ("cohere_config", {"cohere_api_key": "{{secrets/ai/cohere}}"}),
}


def spec(provider: str, *, name: str = "served", task: str = "llm/v1/chat", **config: Any) -> dict[str, Any]:
    """An `external_model`; fields of its configuration may be changed, or removed with None."""
    key, usual = CONFIGS[provider]
    fields = {field: value for field, value in {**usual, **config}.items() if value is not None}
    return {"provider": provider, "name": name, "task": task, key: fields}


def model(provider: str, *, environ: Mapping[str, str] = {}, **changes: Any) -> ExternalModel:
    return read_external_model(spec(provider, **changes), environ=environ)


def request(
    payload: Mapping[str, Any] | bytes, path: str = "/v1/chat/completions", **headers: str
) -> tuple[InferenceRequest, bytes]:
    """A request as `parse` reads it, and its body."""
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    usual = {
        ":path": path.encode(),
        ":method": b"POST",
        "content-type": b"application/json",
        "content-length": b"%d" % len(body),
    }
    return parse(RequestHead({**usual, **given}), body), body


class Called:
    """A request, and what it became."""

    def __init__(
        self,
        provider: str,
        payload: Mapping[str, Any] | bytes,
        path: str = "/v1/chat/completions",
        *,
        secret: Secret | None = KEY,
        of: ExternalModel | None = None,
        headers: Mapping[str, str] = {},
        **changes: Any,
    ) -> None:
        self.request, self._body = request(payload, path, **headers)
        read = payload_of(self.request, self._body)
        self.asks: Asked = asked(self.request.path, read)
        changes.setdefault("task", self.asks.task.value)
        wanted = of or model(provider, **changes)
        self.call: ProviderCall = provider_call(wanted, secret, self.request, self._body, read, self.asks)

    @property
    def body(self) -> bytes:
        """What goes to the provider."""
        return spliced(self._body, self.call.splices)

    @property
    def sent(self) -> Any:
        return orjson.loads(self.body)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.call.headers())

    @property
    def removed(self) -> set[str]:
        return set(self.call.remove_headers)

    def reader(self) -> ProviderReader:
        return ProviderReader(self.call, self.asks, CLIENT_MODEL, CREATED_S)


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request of OpenAI's."""
    return {"model": CLIENT_MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


def messages(**fields: Any) -> dict[str, Any]:
    """A request of Anthropic's."""
    return {"model": CLIENT_MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}], **fields}


class Answer:
    """What a client gets for a provider's answer."""

    def __init__(
        self,
        reader: ProviderReader,
        body: bytes,
        *,
        status: int = 200,
        kind: str = "application/json",
        way: BodyPath = BodyPath.FREE,
        cut: Callable[[bytes], list[bytes]] = lambda body: [body],
        trailers: bool = False,
        **headers: str,
    ) -> None:
        given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
        given = {"content-type": kind.encode(), "content-length": b"%d" % len(body), **given}
        self.mutation: HeaderMutation = reader.headers(status, given, way)
        self.reader = reader
        after = {name: value.decode() for name, value in given.items() if name not in self.mutation.remove_headers}
        self.headers = {**after, **dict(self.mutation.set_headers)}
        self.status = int(self.headers.pop(":status", status))
        self.pieces: list[bytes] = []
        if way in (BodyPath.FREE, BodyPath.PIECEWISE):
            pieces = cut(body)
            for at, piece in enumerate(pieces):
                self.pieces.append(reader.body(piece, at == len(pieces) - 1 and not trailers) if reader.wants_body else piece)
            if trailers:
                self.pieces.append(reader.rest())
        self.body = b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)
