"""What is known of registered models: as the registry said it last, also when it can't be asked now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.errors import listed
from extproc.registry.answers import READY, ModelVersion
from extproc.registry.references import Reference

FORMAT: Final = 1


class Unresolved(ValueError):
    """A reference stands for no version that may be served. The message goes on after `got …; `."""

    def __init__(self, words: str, *, away: bool = False) -> None:
        super().__init__(words)
        self.away = away
        """Because the registry has not answered: it may be all right."""


class Model(NamedTuple):
    """A registered model."""

    aliases: Mapping[str, str]
    versions: Mapping[str, ModelVersion | None]
    """Those that were asked for; None: there is none of that number."""
    there: bool = True
    """False: the registry has no such model."""


MISSING: Final = Model({}, {}, there=False)


class Known(NamedTuple):
    """Immutable: what is learnt makes another one."""

    models: Mapping[str, Model] = {}

    def with_model(self, name: str, model: Model) -> Known:
        return Known({**self.models, name: model})

    def only(self, names: Collection[str]) -> Known:
        """Without models that nobody names any more."""
        return Known({name: model for name, model in self.models.items() if name in names})

    def version(self, reference: Reference) -> ModelVersion:
        """What the reference stands for. Raises Unresolved."""
        model = self.models.get(reference.name)
        if model is None:
            raise Unresolved("the registry has not answered yet", away=True)
        if not model.there:
            raise Unresolved(f"expected a registered model: the registry has none called {reference.name!r}")
        number = model.aliases.get(reference.alias, "") if reference.alias else reference.version
        if not number:
            there = listed(f"@{alias}" for alias in sorted(model.aliases))
            raise Unresolved(f"expected an alias of the registered model {reference.name!r}: {there}")
        if number not in model.versions:
            raise Unresolved(f"the registry has not answered for version {number} yet", away=True)
        version = model.versions[number]
        if version is None:
            raise Unresolved(f"expected a version of the registered model {reference.name!r}: it has no version {number}")
        if version.status not in READY:
            raise Unresolved(f"expected a version that is ready: the status of version {number} is {version.status[:40]}")
        return version


class Asked(NamedTuple):
    """What is asked about one model."""

    aliases: set[str]
    versions: set[str]
    """That are named plainly."""

    def numbers(self, aliases: Mapping[str, str]) -> list[str]:
        """The versions that are meant, when these are the aliases."""
        return sorted({*self.versions, *(aliases[alias] for alias in self.aliases if alias in aliases)})


def asked_for(references: Collection[Reference]) -> dict[str, Asked]:
    """By model."""
    found: dict[str, Asked] = {}
    for reference in references:
        asked = found.setdefault(reference.name, Asked(set(), set()))
        if reference.alias:
            asked.aliases.add(reference.alias)
        else:
            asked.versions.add(reference.version)
    return found


def to_document(known: Known) -> bytes:
    """JSON; the same gives the same bytes."""
    models = {
        name: {
            "there": model.there,
            "aliases": dict(model.aliases),
            "versions": {
                number: None if version is None else {"status": version.status, "tags": dict(version.tags)}
                for number, version in model.versions.items()
            },
        }
        for name, model in known.models.items()
    }
    return orjson.dumps({"format": FORMAT, "models": models}, option=orjson.OPT_SORT_KEYS)


def of_document(document: bytes) -> Known:
    """What was kept. Raises ValueError for what is no such document, or one of a newer release."""
    try:
        values = orjson.loads(document)
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return Known({str(name): _model(each) for name, each in values["models"].items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it is no document of what is known of a registry ({type(error).__name__})") from None


def _model(values: Mapping[str, Any]) -> Model:
    versions = {
        str(number): None if each is None else ModelVersion(str(number), str(each["status"]), _texts(each["tags"]))
        for number, each in values["versions"].items()
    }
    return Model(_texts(values["aliases"]), versions, bool(values["there"]))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}
