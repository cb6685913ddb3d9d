"""A client's request and an external model: what goes to the provider instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

from extproc.credentials import Secret
from extproc.document import as_dict
from extproc.domain import InferenceRequest, Splice, spliced
from extproc.errors import InvalidBody, SecretMissing, UnreadableBody, Untranslatable
from extproc.external.chat_to_messages import GATEWAY, messages_request
from extproc.external.dialects import Asked, Dialect, Task
from extproc.external.headers import removed
from extproc.external.messages_to_chat import chat_request
from extproc.external.model import ExternalModel
from extproc.external.providers import Auth
from extproc.external.reading import dumped
from extproc.external.splice import edits, plain_json
from extproc.media import has_controls

MAX_TOKENS: Final = 4096
"""Of answers whose request sets no bound, where the provider needs one."""
_JSON: Final = ("content-type", "application/json")
_IDENTITY: Final = ("accept-encoding", "identity")
"""What is compressed can't be translated, nor can the client's name for the model be put back."""


class ProviderCall(NamedTuple):
    """What Envoy is to do with the request. Shows no credential unless `headers` is asked."""

    model: ExternalModel
    set_headers: tuple[tuple[str, str], ...]
    """Without the credential."""
    remove_headers: tuple[str, ...]
    """What is set stands in `headers` and not here; the length, if it may change, does."""
    splices: tuple[Splice, ...]
    """Of the body as it came."""
    credential: tuple[str, str, Secret] | None
    """The header's name, what stands before the secret in its value, the secret."""
    include_usage: bool
    """A stream's usage belongs into the client's events."""

    def __repr__(self) -> str:
        base = self.model.base
        return f"<ProviderCall {self.model.provider} {base.authority}{self.model.path}>"

    @property
    def host(self) -> str:
        """For the name in TLS and the look-up of addresses."""
        return self.model.base.host

    @property
    def port(self) -> int:
        """TCP."""
        return self.model.base.port

    def headers(self) -> tuple[tuple[str, str], ...]:
        """All headers to set, the credential among them: for the wire, not for logs."""
        if self.credential is None:
            return self.set_headers
        name, prefix, secret = self.credential
        return (*self.set_headers, (name, prefix + secret.reveal()))


def payload_of(request: InferenceRequest, body: bytes | None) -> Mapping[str, object]:
    """The JSON object in a request's body, which `parse` does not read where the path names the model.

    Raises InvalidBody (400) and UnreadableBody (415) for anything else: an external model is asked with nothing else.
    """
    read = as_dict(request.payload)
    if read is not None:
        return read
    if request.unread is not None:
        raise UnreadableBody(f"an external model needs the body, and it can't be read ({request.unread})")
    try:
        payload = orjson.loads(plain_json(request.head, body or b""))
    except ValueError as error:
        raise InvalidBody("an external model needs a body that is a JSON object") from error
    if not isinstance(payload, dict):
        raise InvalidBody("an external model needs a body that is a JSON object")
    return payload


def provider_call(
    model: ExternalModel,
    credential: Secret | None,
    request: InferenceRequest,
    body: bytes,
    payload: Mapping[str, object],
    asks: Asked,
    *,
    max_tokens: int = MAX_TOKENS,
) -> ProviderCall:
    """What goes to the provider.

    `credential` is the model's, found; `body` is the request's, whole and as it came, `payload` what `payload_of` read in it.
    Raises Untranslatable (400) with the field that can't be said, SecretMissing (500) for a credential that can be no header.
    """
    if asks.task is not model.task:
        raise Untranslatable(f"this model is for {model.task.value}, and the request is for {asks.task.value}")
    same = asks.dialect is model.dialect
    splices = _spliced(model, request, body, payload) if same else _translated(model, body, payload, asks, max_tokens)
    set_headers, gone = _headers(model, request, same)
    if splices and "content-length" in request.head.headers:
        gone.append("content-length")
    found = _credential(model, credential)
    ours = {name for name, _ in set_headers}
    if found is not None:
        ours.add(found[0])
    kept_out = tuple([name for name in gone if name not in ours])
    include_usage = _includes_usage(payload) if asks.dialect is Dialect.OPENAI else True
    return ProviderCall(model, set_headers, kept_out, splices, found, include_usage)


def _spliced(model: ExternalModel, request: InferenceRequest, body: bytes, payload: Mapping[str, object]) -> tuple[Splice, ...]:
    plain = plain_json(request.head, body)
    changes = edits(plain, payload, model.name if model.names_model else None, GATEWAY)
    if plain is body:
        return changes
    return (Splice(0, len(body), spliced(plain, changes)),)


def _translated(
    model: ExternalModel, body: bytes, payload: Mapping[str, object], asks: Asked, max_tokens: int
) -> tuple[Splice, ...]:
    if asks.task is not Task.CHAT:
        raise Untranslatable(f"{model.provider} can't be asked for {asks.task.value}")
    if model.dialect is Dialect.ANTHROPIC:
        out = messages_request(payload, model.name, max_tokens)
    else:
        out = chat_request(payload, model.name, "max_completion_tokens" if model.provider == "openai" else "max_tokens")
        if not model.names_model:
            del out["model"]
    return (Splice(0, len(body), dumped(out)),)


def _headers(model: ExternalModel, request: InferenceRequest, same: bool) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    headers = request.head.headers
    gone = removed(headers, model.dialect if same else None)
    out = [(":authority", model.base.authority), (":path", model.path), _JSON, _IDENTITY]
    for name, value in model.headers:
        # The client's own version of the API goes on where it speaks that API.
        if name != "anthropic-version" or not (same and headers.get(name)):
            out.append((name, value))
    return tuple(out), gone


def _credential(model: ExternalModel, secret: Secret | None) -> tuple[str, str, Secret] | None:
    if secret is None:
        if model.credential is not None:
            raise SecretMissing(f"{model.credential.field}: not found")
        return None
    where = model.credential.field if model.credential is not None else "the credential"
    if has_controls(secret.reveal()) or not secret.reveal().isascii():
        raise SecretMissing(f"{where}: can't be the value of a header")
    if model.auth is Auth.BEARER:
        return ("authorization", "Bearer ", secret)
    return (model.auth_header if model.auth is Auth.NAMED else model.auth.value, "", secret)


def _includes_usage(payload: Mapping[str, object]) -> bool:
    options = payload.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
