"""The roles a plugin can have, one small interface each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from extproc.domain import Candidates, Column, InferenceRequest
from extproc.settings.base import Section

Random: TypeAlias = Callable[[], float]
"""Uniform in [0, 1)."""


class Parameters(Section):
    """Base of a plugin's parameters: the YAML's keys are camelCase, unknown keys are errors."""


class NoParameters(Parameters):
    """For plugins that have none."""


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
