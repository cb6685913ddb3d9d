"""What a request would be told now, for the API and its page: of the director, which is made behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.director import Director
from extproc.domain import RequestHead


class DryRun:
    """Asks the director of the service. Nobody asks before there is one: nothing listens yet."""

    def __init__(self) -> None:
        self.director: Director | None = None

    def __call__(self, head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> dict[str, Any]:
        """As Director.explain."""
        director = self.director
        assert director is not None, "the service is made before it listens"
        return director.explain(head, body, known)
