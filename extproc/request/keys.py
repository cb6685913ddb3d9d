"""Who is asking, as far as a request says: what a serving endpoint's split and its limits for each user go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from extproc.domain import InferenceRequest

_LONGEST: Final = 4096
_FIELDS: Final[tuple[tuple[str, str, str], ...]] = (
    ("", "user", "body user"),  # OpenAI
    ("metadata", "user_id", "body metadata.user_id"),  # Anthropic
    ("", "session_id", "body session_id"),  # agents
)


class Key(NamedTuple):
    """A request's key. The value is never recorded, only of which kind it is."""

    value: bytes
    kind: str
    """`header x-user-id`, `body user`."""


class KeyFinder:
    """Finds the key: the first of some headers that the request has, else who its body says is asking."""

    def __init__(self, headers: Sequence[str] = ("x-user-id",)) -> None:
        """An API key is a key only when its header is one of them: one caller with one key may be many users."""
        self._headers = tuple([(name.lower(), f"header {name.lower()}") for name in headers])

    def find(self, request: InferenceRequest) -> Key | None:
        """None when the request says nothing of who is asking."""
        headers = request.head.headers
        for name, kind in self._headers:
            value = headers.get(name)
            if value:
                return Key(value[:_LONGEST], kind)
        payload = request.payload
        if payload is None:
            return None
        for outer, field, kind in _FIELDS:
            holder: object = payload.get(outer) if outer else payload
            said = holder.get(field) if isinstance(holder, Mapping) else None
            if isinstance(said, str) and said:
                return Key(said[:_LONGEST].encode("utf-8", "surrogatepass"), kind)
        return None
