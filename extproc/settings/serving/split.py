"""The rules that a config must keep as a whole: names, kinds, and a split that comes to 100."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from extproc.errors import listed
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.serving.entities import default_name
from extproc.settings.serving.fields import MOST_ENTITIES, said

_OTHER = "-"


class Share(NamedTuple):
    """A route, read: whom it names and what share it gets."""

    entity: str
    percentage: int
    path: str = ""
    """Where it is written; '' when it is one of before."""


class Config(NamedTuple):
    """A config that holds together. Not to be changed in place."""

    entities: tuple[dict[str, Any], ...]
    """Each with its name."""
    percentages: dict[str, int]
    """Of every entity, in their order; they add up to 100."""


class Problems:
    """Collects lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, path: str, words: str) -> None:
        self.lines.append(said(path, words))

    def settle(self) -> None:
        """Raise SettingsError when there are any."""
        if self.lines:
            raise SettingsError(few(self.lines))


def named(entities: Sequence[dict[str, Any]], path: str) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
    """The entities, each with a name; and other words for them: Databricks' default, where its letters are not those of a name.

    Raises SettingsError when two are called the same.
    """
    problems, whole, aliases = Problems(), [], {}
    taken: dict[str, int] = {}
    for index, entity in enumerate(entities):
        default = default_name(entity)
        name = entity.get("name") or "".join(
            letter if letter.isascii() and (letter.isalnum() or letter in "-_") else _OTHER for letter in default
        )
        aliases[default] = name
        if name in taken:
            problems.say(
                f"{path}[{index}].name", f"got {shown(name)}, which {path}[{taken[name]}] has; expected a name of its own"
            )
        taken.setdefault(name, index)
        whole.append({"name": name, **{key: value for key, value in entity.items() if key != "name"}})
    problems.settle()
    return tuple(whole), aliases


def settled(
    entities: Sequence[dict[str, Any]],
    shares: Sequence[Share] | None,
    *,
    prefix: str = "",
    before: Mapping[str, int] | None = None,
    most: int = MOST_ENTITIES,
    listed_as: str = "served_entities",
) -> Config:
    """The config of these entities and this split. Raises SettingsError with every rule that it breaks.

    `shares` None: no split is given. Then the one of `before` stays; without one, a single entity gets all. An entity that no
    route names has 0 %. `before` is the split until now, by entity: who had a share of it can't be left out in silence.
    """
    path, routes = f"{prefix}{listed_as}", f"{prefix}traffic_config.routes"
    if len(entities) > most:
        raise SettingsError([said(path, f"got {len(entities)} entities; expected at most {most}")])
    whole, aliases = named(entities, path)
    problems = Problems()
    _kinds(whole, path, problems)
    percentages = {entity["name"]: 0 for entity in whole}
    if shares is None:
        _as_before(percentages, before, routes, problems)
    else:
        _as_given(percentages, aliases, shares, routes, problems)
    problems.settle()
    return Config(whole, percentages)


def _kinds(entities: Sequence[Mapping[str, Any]], path: str, problems: Problems) -> None:
    external = ["external_model" in entity for entity in entities]
    if any(external) and not all(external):
        index = external.index(not external[0])
        words = "got own models beside external ones; expected entities of one kind in an endpoint"
        problems.say(f"{path}[{index}].{'external_model' if external[index] else 'entity_name'}", words)
    tasks = [entity["external_model"]["task"] for entity in entities if "external_model" in entity]
    if len(set(tasks)) > 1:
        words = f"got the tasks {', '.join(sorted(set(tasks)))}; expected one task for all external models of an endpoint"
        problems.say(path, words)


def _as_before(percentages: dict[str, int], before: Mapping[str, int] | None, routes: str, problems: Problems) -> None:
    if len(percentages) == 1:
        percentages.update(dict.fromkeys(percentages, 100))
        return
    if before is None:
        problems.say(routes, f"got nothing; expected the shares of {len(percentages)} entities, 100 in all")
        return
    for name, share in before.items():
        if name in percentages:
            percentages[name] = share
        elif share:
            words = f"got none, and {shown(name)} is left out, which has {share} % of the traffic; expected the split to be"
            problems.say(routes, words)


def _as_given(
    percentages: dict[str, int], aliases: Mapping[str, str], shares: Sequence[Share], routes: str, problems: Problems
) -> None:
    names = [aliases.get(share.entity, share.entity) if share.entity not in percentages else share.entity for share in shares]
    often = Counter(names)
    for share, name in zip(shares, names, strict=True):
        if name not in percentages:
            words = f"got {shown(share.entity)}; expected one of the endpoint's served entities: {listed(percentages)}"
            problems.say(f"{share.path}.served_entity_name", words)
        elif often[name] > 1:
            problems.say(
                f"{share.path}.served_entity_name", f"got {shown(name)} {often[name]} times; expected one route for each entity"
            )
        else:
            percentages[name] = share.percentage
    total = sum(share.percentage for share in shares)
    if total != 100:
        each = " + ".join(str(share.percentage) for share in shares[:20]) + (" + ..." if len(shares) > 20 else "")
        problems.say(routes, f"got {each} = {total}; expected shares that add up to 100")
