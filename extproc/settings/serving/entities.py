"""A served entity: a model of one's own, or a provider's.

A secret that is given as text is lifted out of the document and never stands in it again; whoever keeps it puts a reference of
the scope `@plaintext` in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field, model_validator

from extproc.credentials import Reference, Secret
from extproc.registry.references import SCHEME, BadReference, of_entity
from extproc.settings.base import shown
from extproc.settings.serving.fields import Count, Flag, Form, Label, Name, Text, Variables, Version
from extproc.settings.serving.price import Price
from extproc.settings.serving.providers import TWIN, ExternalModel

PLAINTEXT_SCOPE: Final = "@plaintext"
"""The scope of secrets that were given as text: what stands instead refers to what the endpoint's record keeps."""


class Plaintext(NamedTuple):
    """A secret that was given as text, and where its reference belongs."""

    entity: str
    field: tuple[str, ...]
    """Keys below `external_model`: `("openai_config", "openai_api_key")`."""
    text: Secret


def plaintext_reference(handle: str) -> str:
    """What stands in a config instead of a secret that was given as text."""
    return str(Reference(PLAINTEXT_SCOPE, handle))


def is_plaintext(reference: str) -> str | None:
    """The handle in such a reference, None when it is another one."""
    beginning, end = f"{{{{secrets/{PLAINTEXT_SCOPE}/", "}}"
    return reference[len(beginning) : -len(end)] if reference.startswith(beginning) and reference.endswith(end) else None


class Entity(Form):
    """One of `served_entities`."""

    name: Name | None = None
    entity_name: Label | None = None
    entity_version: Version | None = None
    external_model: ExternalModel | None = None
    environment_vars: Variables | None = None
    instance_profile_arn: Text | None = None
    workload_size: Text | None = None
    workload_type: Text | None = None
    scale_to_zero_enabled: Flag | None = None
    min_provisioned_throughput: Count | None = None
    max_provisioned_throughput: Count | None = None
    min_provisioned_concurrency: Count | None = None
    max_provisioned_concurrency: Count | None = None
    provisioned_model_units: Count | None = None
    burst_scaling_enabled: Flag | None = None
    price: Price | None = None
    """Ours: what its requests cost."""
    region: Name | None = None
    """Ours: where a provider serves it. Where own models are served, pools say."""
    registry: Annotated[dict[str, str], Field(max_length=8)] | None = None
    """Ours: what a version of a registry stands for now. The desk writes it; who asks for a change does not."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Entity:
        if self.external_model is None:
            if self.entity_name is None:
                raise ValueError("expected entity_name or external_model")
            if self.region is not None:
                raise ValueError("region belongs to external_model; expected none, as the gateway's pools say where they are")
            _check_reference(self.entity_name, self.entity_version)
            return self
        for field in ("entity_name", "entity_version", "workload_size", "workload_type", "scale_to_zero_enabled"):
            if getattr(self, field) not in (None, False):
                raise ValueError(f"external_model and {field} exclude each other; expected one of them")
        return self


class Model(Entity):
    """One of `served_models`, the deprecated twin of `served_entities`."""

    model_name: Label
    model_version: Version | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Model:
        if self.entity_name is not None or self.entity_version is not None or self.external_model is not None:
            raise ValueError("expected model_name and model_version; all else stands in served_entities")
        _check_reference(self.model_name, self.model_version)
        return self


def _check_reference(name: str, version: str | None) -> None:
    try:
        of_entity(name, version or "")
    except BadReference as error:
        words = f"entity_name {shown(name)}" + (f" with entity_version {shown(version)}" if version else "")
        raise ValueError(f"{words}: {error}") from None


def default_name(entity: Mapping[str, Any]) -> str:
    """The name of an entity that was given none, as Databricks makes it: not always one that could be given."""
    external = entity.get("external_model")
    if external is not None:
        return str(external["name"])
    version = str(entity.get("entity_version") or "").removeprefix("@")
    return f"{entity['entity_name']}-{version}" if version else str(entity["entity_name"])


WRITE_ONLY: Final = frozenset({"burst_scaling_enabled"})
"""Taken, and neither kept nor given back, as Databricks has it."""


def canonical(entity: Entity) -> dict[str, Any]:
    """The entity as it is kept, with `entity_name` whichever way it was written. Secrets that are text are still in it."""
    kept = entity.model_dump(mode="json", exclude_unset=True, exclude=set(WRITE_ONLY))
    if isinstance(entity, Model):
        kept["entity_name"] = kept.pop("model_name")
        if (version := kept.pop("model_version", None)) is not None:
            kept["entity_version"] = version
    if kept.get("entity_name", "").startswith(SCHEME) and (reference := of_entity(kept["entity_name"])) is not None:
        kept |= {"entity_name": reference.name, "entity_version": reference.entity_version}
    return kept


def lifted(entities: Sequence[Mapping[str, Any]]) -> list[Plaintext]:
    """Take the secrets that are text out of named entities."""
    found: list[Plaintext] = []
    for entity in entities:
        if isinstance(external := entity.get("external_model"), dict):
            _lift(entity["name"], (), external, found)
    return found


def _lift(entity: str, path: tuple[str, ...], part: dict[str, Any], found: list[Plaintext]) -> None:
    for key in list(part):
        value = part[key]
        if key.endswith(TWIN):
            if isinstance(value, str):
                found.append(Plaintext(entity, (*path, key.removesuffix(TWIN)), Secret(value)))
            del part[key]
        elif isinstance(value, dict):
            _lift(entity, (*path, key), value, found)
