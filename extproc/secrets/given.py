"""Secrets that were given as text, which somebody else keeps: all of one scope, by their handles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from extproc.credentials import Reference, Secret
from extproc.secrets.source import Found, secret_of


class GivenSource:
    """Asks whoever keeps them. References of other scopes are not its own."""

    def __init__(self, scope: str, find: Callable[[str], Secret | None]) -> None:
        """`find` gives the secret of a handle, None when there is none; it must not block."""
        self._scope = scope
        self._find = find

    def __repr__(self) -> str:
        return f"<GivenSource {self._scope}>"

    def place(self, reference: Reference) -> str:
        return f"what was given as text, {reference.key}"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        return {reference: self._one(reference) for reference in references}

    def _one(self, reference: Reference) -> Found:
        secret = self._find(reference.key) if reference.scope == self._scope else None
        return None if secret is None else secret_of(secret.reveal().encode("utf-8", "surrogatepass"))
