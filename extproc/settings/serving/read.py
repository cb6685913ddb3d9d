"""Documents to forms: any value that JSON or YAML can hold goes in, a form or a SettingsError with every problem comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from pydantic import ValidationError

from extproc.settings.base import SettingsError, few
from extproc.settings.serving.delivery import FIELDS, delivery_of
from extproc.settings.serving.entities import canonical
from extproc.settings.serving.feedback import Feedback
from extproc.settings.serving.fields import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_NODES, Form, explained, kind_of, path_of, said
from extproc.settings.serving.parts import (
    ConfigChange,
    CoreConfig,
    Emails,
    Endpoint,
    Gateway,
    Notifications,
    RateLimits,
    TagsPatch,
    Telemetry,
)
from extproc.settings.serving.split import Share

Part = TypeVar("Part", bound=Form)

_OWN: Final = frozenset(
    {"name", "config", "tags", "ai_gateway", "rate_limits", "email_notifications", "telemetry_config", "description", "sticky"}
).union(FIELDS)
"""Fields of an endpoint that have a place of their own; all others are given back as they came."""
_CORE: Final = frozenset({"name", "served_entities", "served_models", "traffic_config"})
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1


class ConfigForm(NamedTuple):
    """A config, or a part of one. Secrets that are text are still in it."""

    entities: list[dict[str, Any]] | None
    """None: not given."""
    shares: list[Share] | None
    """None: not given."""
    rest: dict[str, Any]
    """What is kept and given back: `auto_capture_config`, and what nobody here knows."""
    listed_as: str = "served_entities"
    """Which of the two lists it was."""
    delivery: Mapping[str, Any] = {}
    """What is given of `rules` and the like; [] of what is to go."""


class EndpointForm(NamedTuple):
    """A whole endpoint."""

    name: str
    config: ConfigForm
    tags: dict[str, str | None]
    ai_gateway: dict[str, Any]
    rate_limits: list[dict[str, Any]]
    notifications: dict[str, Any]
    telemetry: dict[str, Any]
    description: str
    sticky: bool
    rest: dict[str, Any]


class TagsForm(NamedTuple):
    """Tags to add or replace, and keys to delete before that."""

    added: dict[str, str | None]
    deleted: list[str]


def read_create(document: object, prefix: str = "") -> EndpointForm:
    """An endpoint as it is created or declared."""
    form = _read(Endpoint, document, prefix)
    config = _config(form.config, f"{prefix}config.")
    kept = form.model_dump(mode="json", exclude_unset=True, exclude={"config"})
    problems = [
        f"{prefix}config.{field}: got it in the config; expected it beside the config, at the top of the endpoint"
        for field in FIELDS
        if field in (form.config.model_extra or {})
    ]
    if config.entities is None:
        problems.append(f"{prefix}config.served_entities: got nothing; expected the entities that the endpoint serves")
    if form.config.name not in (None, form.name):
        problems.append(
            f"{prefix}config.name: got {form.config.name!r}; expected the endpoint's name, {form.name!r}, or nothing"
        )
    if problems:
        raise SettingsError(problems)
    return EndpointForm(
        form.name,
        config._replace(delivery=delivery_of(kept)),
        _tags(kept.get("tags", [])),
        kept.get("ai_gateway") or {},
        kept.get("rate_limits") or [],
        kept.get("email_notifications") or {},
        kept.get("telemetry_config") or {},
        form.description or "",
        form.sticky != "none",
        {key: value for key, value in kept.items() if key not in _OWN and value is not None},
    )


def read_all(documents: Sequence[object], path: str) -> tuple[list[tuple[str, EndpointForm]], list[str]]:
    """Endpoints of a list: what can be read, each with where it is written, and everything that is wrong with the rest."""
    forms: list[tuple[str, EndpointForm]] = []
    problems: list[str] = []
    places: dict[str, int] = {}
    for index, document in enumerate(documents):
        prefix = f"{path}[{index}]."
        try:
            form = read_create(document, prefix)
        except SettingsError as error:
            problems += error.problems
            continue
        first = places.setdefault(form.name, index)
        if first != index:
            problems.append(f"{prefix}name: got {form.name!r}, which {path}[{first}] has; expected a name of its own")
        forms.append((prefix, form))
    return forms, problems


def read_config(document: object, name: str, prefix: str = "") -> tuple[ConfigForm, bool | None]:
    """`PUT .../config`: what is given of a config; and whether it is to be sticky, None when that is not said.

    `name` is the endpoint's, which the document may repeat.
    """
    words = document
    sticky: bool | None = None
    if isinstance(document, dict) and "sticky" in document:
        words = {key: value for key, value in document.items() if key != "sticky"}
        if document["sticky"] not in ("key", "none"):
            raise SettingsError([f"{prefix}sticky: got {kind_of(document['sticky'])}; expected 'key' or 'none'"])
        sticky = document["sticky"] == "key"
    form = _read(ConfigChange, words, prefix)
    config = _config(form, prefix)
    if form.name not in (None, name):
        raise SettingsError([f"{prefix}name: got {form.name!r}; expected the endpoint's name, {name!r}, or nothing"])
    if config.entities is None and config.shares is None and sticky is None and not config.rest and not config.delivery:
        raise SettingsError(
            [said(prefix.removesuffix("."), "got nothing to change; expected served_entities, traffic_config or both")]
        )
    return config, sticky


def read_tags(document: object) -> TagsForm:
    """`PATCH .../tags`."""
    form = _read(TagsPatch, document, "")
    return TagsForm(_tags(form.model_dump(mode="json")["add_tags"]), list(form.delete_tags))


def read_rate_limits(document: object) -> list[dict[str, Any]]:
    """`PUT .../rate-limits`: the whole list."""
    kept: list[dict[str, Any]] = _kept(_read(RateLimits, document, "")).get("rate_limits") or []
    return kept


def read_gateway(document: object) -> dict[str, Any]:
    """`PUT .../ai-gateway`: all of it."""
    return _kept(_read(Gateway, document, ""))


def read_notifications(document: object) -> dict[str, Any]:
    """`PATCH .../notifications`: the emails."""
    emails: Emails | None = _read(Notifications, document, "").email_notifications
    return {} if emails is None else _kept(emails)


def read_telemetry(document: object) -> dict[str, Any]:
    """`PATCH .../telemetry-config`: the config, nothing when it is to go."""
    kept: dict[str, Any] = _kept(_read(Telemetry, document, "")).get("telemetry_config") or {}
    return kept


def read_feedback(document: object) -> tuple[str, float]:
    """What somebody says of an answer: the request's id, and a score from 0 to 1. Raises SettingsError."""
    form = _read(Feedback, document, "")
    return form.request_id, form.said


def _kept(form: Form) -> dict[str, Any]:
    return form.model_dump(mode="json", exclude_unset=True)


def _read(model: type[Part], document: object, prefix: str) -> Part:
    where = prefix.removesuffix(".")
    if not isinstance(document, dict):
        raise SettingsError([said(where, f"got {kind_of(document)}; expected an object")])
    if problems := _not_storable(document, prefix):
        raise SettingsError(few(problems))
    size = len(orjson.dumps(document))
    if size > MAX_DOCUMENT_BYTES:
        raise SettingsError([said(where, f"got {size} bytes; expected at most {MAX_DOCUMENT_BYTES}")])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SettingsError(few(explained(error, prefix))) from None


def _config(form: CoreConfig, prefix: str) -> ConfigForm:
    listed = form.served_entities if form.served_entities is not None else form.served_models
    entities = None if listed is None else [canonical(entity) for entity in listed]
    shares = None
    if form.traffic_config is not None:
        shares = [
            Share(route.entity, route.traffic_percentage, f"{prefix}traffic_config.routes[{index}]")
            for index, route in enumerate(form.traffic_config.routes)
        ]
    rest = form.model_dump(mode="json", exclude_unset=True, exclude=set(_CORE))
    delivery = delivery_of(rest)
    kept = {key: value for key, value in rest.items() if value is not None and key not in FIELDS}
    listed_as = "served_models" if form.served_models is not None else "served_entities"
    return ConfigForm(entities, shares, kept, listed_as, delivery)


def _tags(tags: list[dict[str, Any]]) -> dict[str, str | None]:
    """Of a key that is there twice, the last one counts."""
    return {tag["key"]: tag.get("value") for tag in tags}


def _not_storable(document: dict[Any, Any], prefix: str) -> list[str]:
    """What JSON that every reader reads alike can't hold, and what is too much of it. By levels, as recursion has an end."""
    level: list[tuple[tuple[int | str, ...], Any]] = [((), document)]
    problems: list[str] = []
    depth = nodes = 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > MAX_DEPTH + 1 or nodes > MAX_NODES:
            limit = f"{MAX_DEPTH} objects and lists in each other" if depth > MAX_DEPTH + 1 else f"{MAX_NODES} values"
            problems.append(said(path_of(level[0][0][:8], prefix), f"got more; expected at most {limit}"))
            return problems
        inside: list[tuple[tuple[int | str, ...], Any]] = []
        for loc, value in level:
            if isinstance(value, dict):
                for key, each in value.items():
                    if isinstance(key, str) and _is_text(key):
                        inside.append(((*loc, key), each))
                    else:
                        problems.append(
                            said(path_of(loc, prefix), f"got the key {kind_of(key)}; expected text in Unicode as key")
                        )
            elif isinstance(value, list | tuple):
                inside += [((*loc, index), each) for index, each in enumerate(value)]
            elif words := _plain(value):
                problems.append(said(path_of(loc, prefix), words))
        level = inside
    return problems


def _plain(value: object) -> str:
    """What is wrong with a value that holds no others; '' when nothing is."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return "" if _is_text(value) else "expected text in Unicode, and half of a character is in it"
    if isinstance(value, int):
        return "" if _SMALLEST <= value <= _LARGEST else "got a number of very many digits; expected one of at most 64 bits"
    if isinstance(value, float):
        return "" if value - value == 0 else f"got {value}; expected a finite number"
    return f"got {kind_of(value)}; expected what JSON can hold"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
