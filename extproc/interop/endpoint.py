"""An endpoint as far as other routers can say it, and the list of what they can't."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

Object = dict[str, Any]
"""An object of Kubernetes, as its YAML has it."""

EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
ONE_OF: Final = "one_of"
PRESENT: Final = "present"


class TextTest(NamedTuple):
    """What a text is compared with: one value; of `one_of` several; of `present` none, and `wanted` says which way."""

    kind: str
    values: tuple[str, ...] = ()
    wanted: bool = True


class Match(NamedTuple):
    """Conditions, all of which hold."""

    headers: tuple[tuple[str, TextTest], ...] = ()
    """By name in lower case."""
    path: TextTest | None = None
    """Of the path without its query."""
    model: TextTest | None = None
    """Of the model as the client names it."""
    regions: tuple[str, ...] = ()
    where: str = ""
    """The path in the document that it is of, for what is said about it."""


class Refusal(NamedTuple):
    """An answer instead of an entity's."""

    status: int = 403
    message: str = ""


class Rule(NamedTuple):
    """What decides before the split: shares by entity, or a refusal."""

    name: str
    matches: tuple[Match, ...] = ()
    """One of them has to hold; () is every request."""
    shares: tuple[tuple[str, int], ...] = ()
    """In percent, 100 in all."""
    refusal: Refusal | None = None
    where: str = ""


class Entity(NamedTuple):
    """Who may serve."""

    name: str
    model: str
    """`entity_name`."""
    version: str = ""


class Shadow(NamedTuple):
    """Who gets copies, of how many requests in percent."""

    entity: str
    percentage: float


class Endpoint(NamedTuple):
    """The whole."""

    name: str
    entities: tuple[Entity, ...]
    shares: tuple[tuple[str, int], ...]
    """In percent, of every entity in their order; 100 in all."""
    rules: tuple[Rule, ...] = ()
    shadows: tuple[Shadow, ...] = ()


class Losses:
    """What is left out, each with its path in what was given; and what holds only as long as something else does."""

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self.remarks: list[str] = []

    def __repr__(self) -> str:
        return f"<Losses {len(self.left_out)} left out, {len(self.remarks)} remarks>"

    def drop(self, path: str, why: str) -> None:
        """What is at this path is not on the other side."""
        self.left_out.append(f"{path}: left out: {why}")

    def differ(self, path: str, why: str) -> None:
        """What is at this path is on the other side, and not quite the same."""
        self.left_out.append(f"{path}: {why}")

    def remark(self, path: str, why: str) -> None:
        """Nothing is lost, as long as `why` holds."""
        if (line := f"{path}: {why}") not in self.remarks:
            self.remarks.append(line)
