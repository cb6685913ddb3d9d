"""A reflector's listener that keeps what it was told, and an observer that writes down what it saw."""

from __future__ import annotations

from extproc.kubernetes.api import Json
from extproc.kubernetes.errors import KubeError
from extproc.kubernetes.reflector import Change, Key


class Mirror:
    """Equal to the server's objects when the reflector is right."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.changes: list[Change] = []
        self.sizes: list[int] = []

    def __call__(self, change: Change) -> None:
        assert not change.put.keys() & change.gone
        self.changes.append(change)
        for key in change.gone:
            self.objects.pop(key, None)
        self.objects.update(change.put)
        self.sizes.append(len(self.objects))

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.objects}


class Notes:
    """What an observer hears, as words."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def contact(self) -> None:
        pass

    def watching(self) -> None:
        self.heard.append("watching")

    def failed(self, verb: str, error: KubeError, *, cut: bool) -> None:
        self.heard.append(f"{verb} {getattr(error, 'status', 'cut' if cut else 'unreachable')}")

    def relisted(self, why: str) -> None:
        self.heard.append(f"listed {why}")

    def events(self, kind: str, count: int) -> None:
        self.heard.append(f"{count} {kind}")
