"""Databricks' `external_model`, read: who serves it, where, and by which credential."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from extproc.credentials import Reference, Secret, parse_reference
from extproc.errors import InvalidReference
from extproc.external.addresses import Base, parse_base, refusal
from extproc.external.dialects import Dialect, Task
from extproc.external.providers import ANTHROPIC_VERSION, PATHS, PROVIDERS, Auth, Provider
from extproc.files.problems import Unusable
from extproc.media import has_controls

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""A header's name (RFC 9110, section 5.6.2)."""
_OURS: Final = (
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "upgrade",
)
"""Headers that mean something else."""
_PART: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What may be put into a host or a path: regions, projects, versions."""
_TASKS: Final = {task.value: task for task in Task}
_PLAINTEXT: Final = "_plaintext"


class Credential(NamedTuple):
    """What opens a provider: the secret itself, or where it is."""

    field: str
    """Where it stands in the configuration, for messages."""
    secret: Secret | None = None
    reference: Reference | None = None


class ExternalModel(NamedTuple):
    """One external model, ready to be asked."""

    provider: str
    name: str
    """The model's name at the provider."""
    task: Task
    dialect: Dialect
    base: Base
    path: str
    """Of its task, with the base's path before it and a query behind it, if any."""
    credential: Credential | None
    auth: Auth = Auth.BEARER
    auth_header: str = ""
    """The header's name for `Auth.NAMED`."""
    headers: tuple[tuple[str, str], ...] = ()
    """Set on each request, besides the credential."""
    names_model: bool = True
    """The model stands in the body; False: in the path alone."""


class _Reader:
    """Reads one `external_model` and notes all that is wrong with it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[str] = []

    def problem(self, field: str, words: str) -> None:
        self.problems.append(f"{self.where}.{field}: {words}")

    def text(self, values: Mapping[str, object], field: str, path: str, *, required: bool = False) -> str:
        """A field of text, '' when it is absent or wrong."""
        value = values.get(field)
        if value is None or value == "":
            if required:
                self.problem(path, "is required")
            return ""
        if not isinstance(value, str) or has_controls(value) or len(value) > 4096:
            self.problem(path, "expected a text of at most 4096 characters on one line")
            return ""
        return value

    def credential(self, values: Mapping[str, object], field: str, path: str, *, required: bool = True) -> Credential | None:
        """From `field`, a reference, or from `field_plaintext`. No value is ever quoted."""
        plain = values.get(field + _PLAINTEXT)
        reference = values.get(field)
        where = f"{self.where}.{path}"
        if reference is not None and plain is not None:
            self.problem(path, f"expected one of {field} and {field}{_PLAINTEXT}")
        elif reference is not None:
            try:
                return Credential(where, reference=parse_reference(reference))
            except InvalidReference as error:
                self.problem(path, f"{error.message}; the text itself goes into {field}{_PLAINTEXT}")
        elif plain is not None:
            if isinstance(plain, str) and plain.strip() and not has_controls(plain.strip()):
                return Credential(where + _PLAINTEXT, Secret(plain.strip()))
            self.problem(path + _PLAINTEXT, "expected a text that is not empty, on one line")
        elif required:
            self.problem(path, f"is required, or {field}{_PLAINTEXT}")
        return None


def read_external_model(
    values: Mapping[str, object],
    *,
    where: str = "external_model",
    environ: Mapping[str, str] = {},
    allowed: Collection[str] = (),
) -> ExternalModel:
    """Read `external_model` of a served entity.

    `where` names it in messages; `environ` may say where providers are; `allowed` are the hosts of `--external-allow`.
    Raises Unusable with all that is wrong, each with its field and what was expected, and with no credential.
    """
    reader = _Reader(where)
    provider = PROVIDERS.get(reader.text(values, "provider", "provider", required=True))
    name = reader.text(values, "name", "name", required=True)
    task = _TASKS.get(reader.text(values, "task", "task", required=True))
    if provider is None:
        reader.problem("provider", f"expected one of {', '.join(PROVIDERS)}")
        raise Unusable(reader.problems)
    tasks = ", ".join(each.value for each in provider.tasks)
    if task is None or task not in provider.tasks:
        reader.problem("task", f"expected {tasks} for {provider.name}")
        task = provider.tasks[0]
    _check_others(reader, provider, values)
    config = values.get(provider.config)
    if not isinstance(config, Mapping):
        reader.problem(provider.config, "is required: an object")
        raise Unusable(reader.problems)
    return _configured(reader, provider, name, task, config, environ, allowed)


def _check_others(reader: _Reader, provider: Provider, values: Mapping[str, object]) -> None:
    for field, value in values.items():
        if field.endswith("_config") and field != provider.config and value:
            reader.problem(field, f"does not belong to the provider {provider.name}; expected {provider.config}")


def _configured(
    reader: _Reader,
    provider: Provider,
    name: str,
    task: Task,
    config: Mapping[str, object],
    environ: Mapping[str, str],
    allowed: Collection[str],
) -> ExternalModel:
    here = provider.config
    for field, instead in provider.instead:
        if config.get(field):
            reader.problem(f"{here}.{field}", f"is not supported; expected {instead}")
    texts = {
        field: reader.text(config, field, f"{here}.{field}", required=field in provider.required)
        for field in (*provider.required, *provider.optional)
    }
    base = _base(reader, provider, config, texts, environ)
    if base is not None and (why := refusal(base, allowed)) is not None:
        reader.problem(f"{here}.{provider.base_field}", why)
    model = ExternalModel(provider.name, name, task, provider.dialect, base or Base(True, "", 443, ""), "", None, provider.auth)
    model = _with_path(reader, provider, model, texts)
    model = _with_credential(reader, provider, model, config, texts)
    if reader.problems:
        raise Unusable(reader.problems)
    return model


def _base(
    reader: _Reader, provider: Provider, config: Mapping[str, object], texts: Mapping[str, str], environ: Mapping[str, str]
) -> Base | None:
    here = f"{provider.config}.{provider.base_field}"
    url = reader.text(config, provider.base_field, here) or environ.get(provider.base_variable, "") or provider.base
    for field in re.findall(r"\{(\w+)\}", url):
        value = texts.get(field, "")
        if value and _PART.fullmatch(value) is None:
            reader.problem(f"{provider.config}.{field}", "expected letters, digits, dots and dashes")
        if not value or _PART.fullmatch(value) is None:
            return None
        url = url.replace("{%s}" % field, value)  # noqa: UP031
    if not url:
        return None
    try:
        return parse_base(url)
    except ValueError as error:
        reader.problem(here, str(error))
        return None


def _with_path(reader: _Reader, provider: Provider, model: ExternalModel, texts: Mapping[str, str]) -> ExternalModel:
    base = model.base
    path = PATHS[model.dialect, model.task]
    if provider.name == "databricks-model-serving":
        return model._replace(path=f"{base.path}/serving-endpoints/{quote(model.name, safe='')}/invocations", names_model=False)
    api_type = texts.get("openai_api_type", "") or "openai"
    if api_type in ("azure", "azuread"):
        return _azure(reader, model, texts, api_type, path)
    if api_type not in ("openai", "open_ai"):
        reader.problem("openai_config.openai_api_type", "expected openai, azure or azuread")
    if base.path.endswith(path):  # a URL that leads to the very API
        return model._replace(path=base.path)
    if provider.name == "anthropic":
        return model._replace(
            path=f"{base.path.removesuffix('/v1')}/v1{path}", headers=(("anthropic-version", ANTHROPIC_VERSION),)
        )
    organization = texts.get("openai_organization", "")
    headers = (("openai-organization", organization),) if organization else ()
    return model._replace(path=f"{base.path or provider.prefix}{path}", headers=headers)


def _azure(reader: _Reader, model: ExternalModel, texts: Mapping[str, str], api_type: str, path: str) -> ExternalModel:
    """Azure OpenAI: a deployment in the path, a version behind it, and a header of its own for keys."""
    for field in ("openai_api_version", "openai_deployment_name"):
        if _PART.fullmatch(texts[field]) is None:
            reader.problem(f"openai_config.{field}", f"is required with openai_api_type {api_type}: letters, digits and dashes")
    if model.base.host == "api.openai.com":
        reader.problem("openai_config.openai_api_base", f"is required with openai_api_type {api_type}")
    where = f"{model.base.path}/openai/deployments/{texts['openai_deployment_name']}{path}"
    auth = Auth.API_KEY if api_type == "azure" else Auth.BEARER
    return model._replace(path=f"{where}?api-version={texts['openai_api_version']}", auth=auth)


def _with_credential(
    reader: _Reader, provider: Provider, model: ExternalModel, config: Mapping[str, object], texts: Mapping[str, str]
) -> ExternalModel:
    here = provider.config
    if provider.credential:
        return model._replace(credential=reader.credential(config, provider.credential, f"{here}.{provider.credential}"))
    bearer, key = config.get("bearer_token_auth"), config.get("api_key_auth")
    if bearer and key:
        reader.problem(f"{here}.api_key_auth", "expected one of bearer_token_auth and api_key_auth")
    elif isinstance(bearer, Mapping):
        return model._replace(credential=reader.credential(bearer, "token", f"{here}.bearer_token_auth.token"))
    elif isinstance(key, Mapping):
        name = key.get("key")
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None or name.lower() in _OURS:
            reader.problem(f"{here}.api_key_auth.key", "expected the name of a header for a key, such as x-api-key")
            return model
        found = reader.credential(key, "value", f"{here}.api_key_auth.value")
        return model._replace(credential=found, auth=Auth.NAMED, auth_header=name.lower())
    elif bearer or key:
        reader.problem(f"{here}.{'bearer_token_auth' if bearer else 'api_key_auth'}", "expected an object")
    return model  # a provider that asks for nothing
