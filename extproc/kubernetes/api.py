"""What the parts of this room, and its users, need of a client of the API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

Json: TypeAlias = dict[str, Any]

DEFAULT_SILENCE_S: Final = 120.0
"""A watch that brings nothing for so long is given up: bookmarks come once a minute."""


class Requests(Protocol):
    """Asks and writes."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = 10.0,
    ) -> Any:
        """The decoded JSON of the answer. Raises ApiError for an answer of 400 and above, ApiUnreachable for none."""
        ...


class Api(Requests, Protocol):
    """Watches, too."""

    def watch_batches(
        self, path: str, query: Mapping[str, str], *, silence_s: float = DEFAULT_SILENCE_S
    ) -> AsyncIterator[list[Json]]:
        """The events {"type", "object"} of one watch request, those that came together together, until the server ends it.

        The first batch is empty and says: the watch is on. Raises ApiError when the request is refused, ApiUnreachable when
        the connection breaks or is silent for `silence_s`.
        """
        ...
