"""The id of a response (OpenAI's Responses API), read from the beginning of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

MAX_SEARCHED_BYTES: Final = 16 * 1024
"""The id stands at the beginning: of the document, or of the first event (`response.created`)."""
_ID: Final = re.compile(rb'"id"\s*:\s*"(resp[!#-\[\]-~]{1,256})"')


class ResponseId:
    """Finds the id in the pieces of an answer, and says it once."""

    __slots__ = ("_begin", "_found", "searches")

    def __init__(self, found: Callable[[str], None]) -> None:
        self._found = found
        self._begin = b""
        self.searches = True
        """It still wants pieces."""

    def piece(self, piece: bytes) -> None:
        """A piece of the body came."""
        begin = self._begin + piece if self._begin else piece
        match = _ID.search(begin, 0, MAX_SEARCHED_BYTES)
        if match is not None:
            self.searches = False
            self._begin = b""
            self._found(match[1].decode("ascii"))
        elif len(begin) >= MAX_SEARCHED_BYTES:
            self.searches = False
            self._begin = b""
        else:
            self._begin = begin
