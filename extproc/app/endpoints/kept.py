"""Secrets that were given as text, as a source beside folders, variables and the cluster: the desk keeps them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from extproc.control.desk import Desk
from extproc.credentials import Reference
from extproc.secrets.source import Found
from extproc.settings.serving import PLAINTEXT_SCOPE


class KeptSecrets:
    """References of the scope `@plaintext`, which only the desk makes. Knows of no others."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __repr__(self) -> str:
        return "<KeptSecrets>"

    def place(self, reference: Reference) -> str:
        return "what endpoints keep"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        return {each: self._desk.secret(each.key) if each.scope == PLAINTEXT_SCOPE else None for each in references}
