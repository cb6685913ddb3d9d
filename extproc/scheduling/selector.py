"""Which labels are meant: a Kubernetes label selector, as a tuple of requirements that all have to hold.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias


class Requirement(NamedTuple):
    """What one label has to be."""

    key: str
    values: frozenset[str] | None = None
    """One of these; None for any value."""
    negated: bool = False
    """Not that."""
    absent: bool = False
    """An endpoint without the label will do as well."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are so."""
        value = labels.get(self.key)
        if value is None:
            return self.absent
        return (self.values is None or value in self.values) != self.negated


Selector: TypeAlias = tuple[Requirement, ...]
"""All of them; empty means everything."""


def selects(selector: Sequence[Requirement], labels: Mapping[str, str]) -> bool:
    """Whether these labels are meant."""
    return all(requirement.holds(labels) for requirement in selector)
