"""Where responses were made that a client may ask for again (OpenAI's `/v1/responses/{id}`).

A model server keeps its own responses and knows no others, so a request that names one belongs to the endpoint that made it.
The id is the client's to see and stays as the server wrote it; what is known of it is remembered here, for as many as fit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_STORED: Final = 10_000
"""Responses that are remembered, some 3 MB."""
MAX_ID_BYTES: Final = 256


class MadeAt(NamedTuple):
    """The pool, and the endpoint as `ip:port`, that made a response."""

    pool: str
    endpoint: str


class StoredResponses:
    """The latest ids and where they were made. One writer: the stage that hears of answers."""

    def __init__(self, most: int = MAX_STORED) -> None:
        self._most = most
        self._made_at: dict[str, MadeAt] = {}

    def __len__(self) -> int:
        return len(self._made_at)

    def made_at(self, response_id: str) -> MadeAt | None:
        """Where the response was made, None when that is not known (any more)."""
        return self._made_at.get(response_id)

    def learn(self, response_id: str, made_at: MadeAt) -> None:
        """The response was made there. The oldest is forgotten when there are too many."""
        if len(response_id) > MAX_ID_BYTES:
            return
        known = self._made_at
        known.pop(response_id, None)
        if len(known) >= self._most:
            del known[next(iter(known))]
        known[response_id] = made_at
