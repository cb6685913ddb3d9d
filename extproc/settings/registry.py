"""`registry` of a gateway's file: where the registry of models is, and which pools serve its versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, field_validator, model_validator

from extproc.credentials import parse_reference
from extproc.errors import InvalidReference, listed
from extproc.names import INVOCATIONS
from extproc.settings.base import Duration, Section, Settings, setting, shown
from extproc.settings.serving.fields import Label, Url, Version

MOST_LINES: Final = 10_000
_SERVERS: Final = ("http://", "https://")
"""MLflow's variables also name files, databases and profiles, for its own clients; these say nothing to a gateway."""


class _Hidden:
    """Stands for what may be a secret, so that no message quotes it."""


def _hide(value: object) -> object:
    """What is no reference, and may be the secret itself."""
    try:
        return str(parse_reference(value))
    except InvalidReference:
        return _Hidden()


def _hide_password(value: object) -> object:
    """An address that has one in it."""
    return _Hidden() if isinstance(value, str) and "@" in value else value


def _secret(value: object) -> str:
    try:
        return str(parse_reference(value))
    except InvalidReference as error:
        raise ValueError(f"{error.message}, as credentials have no place in this file") from None


SecretReference = Annotated[str, BeforeValidator(_secret), BeforeValidator(_hide)]
Address = Annotated[Url, BeforeValidator(_hide_password)]


class RegistryModel(Section):
    """Versions of a registered model that a pool serves."""

    name: Label
    """Of the registered model."""
    version: Version = ""
    """Without it, every version that no other line has."""
    pool: Label
    model: Label | None = None
    """The name that the model server knows; `{version}` in it is the version. The only model of the pool's routes when unset,
    else the registered model's name."""
    path: str = INVOCATIONS
    """Where the model server takes bodies that are in no shape of OpenAI's."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/") or any(letter <= " " or letter in "?#" for letter in value):
            raise ValueError("expected a path that begins with / and has no query string or blanks")
        return value


class RegistrySpec(Section):
    """An MLflow server, or Databricks' Unity Catalog behind the same calls."""

    uri: Address | None = None
    """`https://mlflow.example`; --registry-uri, then --tracking-uri when unset."""
    token: SecretReference | None = None
    """`{{secrets/scope/key}}`; sent as a bearer token."""
    username: Label | None = None
    password: SecretReference | None = None
    """`{{secrets/scope/key}}`; sent with the user's name (basic)."""
    interval: Annotated[Duration, Field(ge=0.1, le=3600)] = 10.0
    """From one look to the next; 100ms to 1h."""
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = 5.0
    """For an answer, whole; 100ms to 1m."""
    ca_file: str | None = Field(None, alias="caFile", min_length=1)
    """PEM, relative to the config; the system's authorities when unset. Read again after a failed connection."""
    insecure_skip_verify: bool = Field(False, alias="insecureSkipVerify")
    unity_catalog: bool = Field(False, alias="unityCatalog")
    """Ask below /api/2.0/mlflow/unity-catalog, as Databricks has it."""
    models: list[RegistryModel] = Field([], max_length=MOST_LINES)

    @model_validator(mode="after")
    def _credentials(self) -> RegistrySpec:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password need each other")
        if self.token is not None and self.username is not None:
            raise ValueError("token and username exclude each other")
        return self

    @model_validator(mode="after")
    def _tls(self) -> RegistrySpec:
        if self.ca_file is not None and self.insecure_skip_verify:
            raise ValueError("caFile and insecureSkipVerify exclude each other")
        return self


class RegistrySettings(Settings):
    """Where the registry is, for who would rather not have it in the gateway's file."""

    registry_uri: Address | None = setting(
        None,
        'Address of the MLflow server whose registered models serving endpoints follow (entity_version "@alias"); '
        "`registry.uri` of the config goes first (docs/registry.md).",
        env="MLFLOW_REGISTRY_URI",
        env_begins=_SERVERS,
    )
    tracking_uri: Address | None = setting(
        None,
        "The same, where --registry-uri is not set, as MLflow's own clients have it.",
        env="MLFLOW_TRACKING_URI",
        env_begins=_SERVERS,
    )


def registry_problems(
    spec: RegistrySpec | None, pools: Collection[str] | None, entities: Collection[tuple[str, str]]
) -> list[str]:
    """What is wrong with the lines, seen with the rest of the file. `entities`: name and version of those that routes list."""
    problems: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for index, line in enumerate(() if spec is None else spec.models):
        path, key = f"registry.models[{index}]", (line.name, line.version)
        if pools is not None and line.pool not in pools:
            problems.append(f"{path}.pool: no pool is called {shown(line.pool)} (there are: {listed(sorted(pools))})")
        version = f"version {shown(line.version)}" if line.version else "no version"
        if key in seen:
            problems.append(f"{path}: {shown(line.name)} with {version} is already listed by registry.models[{seen[key]}]")
        elif key in entities:
            problems.append(f"{path}: {shown(line.name)} with {version} is already listed by an entity of a route")
        seen.setdefault(key, index)
    return problems


def only_models(routes: Sequence[tuple[str, Sequence[str]]], pools: Collection[str]) -> Mapping[str, str | None]:
    """Each pool with the only model of its routes, None where there is none or several."""
    models: dict[str, list[str]] = {pool: [] for pool in pools}
    for pool, served in routes:
        models.setdefault(pool, []).extend(served)
    return {pool: served[0] if len(served) == 1 else None for pool, served in models.items()}
