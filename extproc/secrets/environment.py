"""Secrets in variables of the environment: `EXTPROC_SECRET_<SCOPE>_<KEY>`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from extproc.credentials import Reference
from extproc.secrets.source import Found, secret_of

PREFIX: Final = "EXTPROC_SECRET_"
_OTHER: Final = re.compile(r"[^A-Z0-9]")


class EnvironmentSource:
    """Reads the variables that it was given. They never change, but asking costs nothing.

    A variable's name has capital letters and digits; all else of a scope or key becomes `_`. So `a-b/c` and `a/b-c` are one
    variable.
    """

    def __init__(self, environ: Mapping[str, str], prefix: str = PREFIX) -> None:
        self._environ = environ
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<EnvironmentSource {self._prefix}*>"

    def variable(self, reference: Reference) -> str:
        """The name of the variable that would hold it."""
        return self._prefix + "_".join(_OTHER.sub("_", part.upper()) for part in reference)

    def place(self, reference: Reference) -> str:
        return f"the variable {self.variable(reference)}"

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        return {reference: self._one(reference) for reference in references}

    def _one(self, reference: Reference) -> Found:
        text = self._environ.get(self.variable(reference))
        return None if text is None else secret_of(text.encode("utf-8", "surrogateescape"))
