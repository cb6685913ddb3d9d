"""What the acts of the demo have in common: who shows them, and what must hold."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from extproc.demo.traffic import Outcome


class Show(Protocol):
    """Who tells the user."""

    def step(self, title: str, *, requests: bool = True) -> None:
        """A part of the story begins; with `requests` each of its requests is shown."""
        ...

    def note(self, text: str) -> None:
        """Something happened that is not a request."""
        ...

    def request(self, outcome: Outcome) -> None:
        """A request is over."""
        ...

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Something in columns."""
        ...

    def aside(self) -> AbstractContextManager[bool]:
        """Another program may write to the terminal meanwhile; False: there is none."""
        ...


@dataclass(frozen=True)
class Check:
    """Something that must hold. `detail` says how it turned out."""

    claim: str
    holds: bool
    detail: str
