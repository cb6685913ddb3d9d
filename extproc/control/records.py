"""What is kept of an endpoint: a record, and its document in the store.

A record is whole: it needs no other one and no defaults of a later release to be served. Secrets that were given as text are
in it sealed (`sealing`), apart from the config, which refers to them; a record shows them to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from extproc.settings.serving import Config
from extproc.traffic import NamedLayout

FORMAT: Final = 1
"""Of documents. A release reads its own and older ones."""
API: Final = "api"
"""The owner of what came over the REST API."""


class UnreadableRecord(ValueError):
    """A document that this release can't read."""


@dataclass(frozen=True)
class EndpointRecord:
    """One endpoint as it is desired. Its mappings are not to be changed in place."""

    id: str
    name: str
    owner: str
    """Who may change it: `api`, `file:<path>` or `configmap:<namespace>/<name>`."""
    creator: str
    created_ms: int
    updated_ms: int
    config_version: int
    """From 1; rises by one with each change of the config."""
    entities: tuple[Mapping[str, Any], ...]
    """Served entities, each with its name; secrets as references only."""
    percentages: Mapping[str, int]
    """Of every entity; 100 in all."""
    layout: NamedLayout = ()
    """Whose buckets are whose; () is list order, as for all that is declared: so replicas agree without a store."""
    sticky: bool = True
    core: Mapping[str, Any] = field(default_factory=dict)
    """What else the config holds: `auto_capture_config` ..."""
    delivery: Mapping[str, Any] = field(default_factory=dict)
    """What else requests are decided by, as it was given, by the field's name: `rules` ..."""
    layouts: Mapping[str, NamedLayout] = field(default_factory=dict)
    """Of experiments by name, as `layout` of the split; without one, it follows from the weights."""
    born: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Of each entity: who made it what it is, and when in Unix milliseconds."""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    ai_gateway: Mapping[str, Any] = field(default_factory=dict)
    rate_limits: tuple[Mapping[str, Any], ...] = ()
    """Of the deprecated call."""
    notifications: Mapping[str, Any] = field(default_factory=dict)
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    rest: Mapping[str, Any] = field(default_factory=dict)
    """Fields that mean nothing here and are given back."""
    sealed: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secrets that were given as text, by the handle in their reference."""

    @property
    def settled(self) -> Config:
        return Config(tuple(dict(entity) for entity in self.entities), dict(self.percentages))

    @property
    def external(self) -> bool:
        """Whether providers serve it; an endpoint never changes that."""
        return any("external_model" in entity for entity in self.entities)

    @property
    def task(self) -> str:
        """Of external models; '' for own ones, which nobody asked."""
        return next((str(each["external_model"]["task"]) for each in self.entities if "external_model" in each), "")

    @property
    def config(self) -> dict[str, Any]:
        """The config in Databricks' shape: both names in each route."""
        routes = [
            {"served_entity_name": name, "served_model_name": name, "traffic_percentage": share}
            for name, share in self.percentages.items()
        ]
        return {**self.core, "served_entities": [dict(each) for each in self.entities], "traffic_config": {"routes": routes}}

    def to_document(self) -> bytes:
        """JSON; the same record gives the same bytes."""
        return orjson.dumps({"format": FORMAT, **self.__dict__}, option=orjson.OPT_SORT_KEYS)


def of_document(document: bytes) -> EndpointRecord:
    """The record in a document. Raises UnreadableRecord, which says why; nothing of what is in it is quoted."""
    try:
        values = orjson.loads(document)
        if values["format"] != FORMAT:
            raise UnreadableRecord(f"its format is {int(values['format'])}; expected {FORMAT}: a newer release wrote it")
        known = {name: values[name] for name in _FIELDS if name in values}
        known["entities"] = tuple(known["entities"])
        known["rate_limits"] = tuple(known["rate_limits"])
        known["layout"] = tuple([(str(name), int(size)) for name, size in known["layout"]])
        layouts = known.get("layouts", {})
        known["layouts"] = {name: tuple([(str(arm), int(size)) for arm, size in each]) for name, each in layouts.items()}
        known["born"] = {name: (str(who), int(at_ms)) for name, (who, at_ms) in known["born"].items()}
        # Sorted keys are for comparing bytes; the split is in the order of the entities.
        known["percentages"] = {entity["name"]: int(known["percentages"][entity["name"]]) for entity in known["entities"]}
        return EndpointRecord(**known)
    except UnreadableRecord:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableRecord(f"it is no document of an endpoint ({type(error).__name__})") from None


_FIELDS: Final = tuple(EndpointRecord.__dataclass_fields__)
