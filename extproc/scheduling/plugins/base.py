"""The roles a plugin can have, one small interface each; and its row: what a config file needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel

from extproc.candidates import Candidates, Column
from extproc.domain import InferenceRequest

Random: TypeAlias = Callable[[], float]
"""Uniform in [0, 1)."""


class Scorer(Protocol):
    """Gives each candidate points."""

    per_snapshot: bool
    """True when it reads only `running` and `kv_usage`: its points are then kept until the candidates' stamp changes."""

    def score(self, request: InferenceRequest, candidates: Candidates) -> Column:
        """Points in 0..1, aligned with the candidates; more is better. Never NaN. Candidates are never empty."""
        ...


class Picker(Protocol):
    """Chooses by the total points."""

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        """Positions, best first, at least one and each once."""
        ...


class PluginType(NamedTuple):
    """A row: one type that a config file may name. It stands in the file of its plugin, and docs/plugins.md is made from it."""

    name: str
    family: str
    what: str
    """What it does: a formula, or a few words."""
    parameters: type[BaseModel]
    make: Callable[..., Any] | None = None
    """Takes the parameters. None for types that only carry parameters or change nothing here."""
