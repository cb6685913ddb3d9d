"""How important a request is (InferenceObjective of the inference extension): its header names an objective."""

from __future__ import annotations

from collections.abc import Mapping


class ObjectiveTable:
    """The priorities of a pool's objectives. Immutable: a change is a new table. One without objectives is false."""

    def __init__(self, priorities: Mapping[str, int] | None = None) -> None:
        self._priorities = dict(priorities or {})

    def priority_of(self, name: str | None) -> int:
        """More is more important, below 0 may be shed; 0 when no objective has the name, or none is named."""
        return self._priorities.get(name, 0) if name else 0

    def __bool__(self) -> bool:
        return bool(self._priorities)

    def __repr__(self) -> str:
        return f"<ObjectiveTable {len(self._priorities)} objectives>"
