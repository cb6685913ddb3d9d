"""The client's name for the model, in an answer whose provider calls it as it likes: `gpt-4o` may say `gpt-4o-2024-08-06`."""

from __future__ import annotations

import re
from typing import Final

import orjson

from extproc.response.restore import ModelRestorer

MAX_SEARCHED_BYTES: Final = 16 * 1024
"""The name stands at the beginning: of the document, or of one of the first events."""
_NAME: Final = re.compile(rb'(?<!\\)"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.){1,512}")')
"""Azure's first event has a name that is empty; the next one tells it."""


class NameRestorer:
    """Feed it the pieces of one answer; it gives back what goes on.

    Until the provider's name is found a document is held back, and of a stream the line that is not whole; then that name is
    replaced wherever it is the value of a key `model`. Where none is found at the beginning it is taken to be `expected`.
    """

    __slots__ = ("_client", "_event_stream", "_expected", "_held", "_may_hold", "_restorer", "_searched_bytes")

    def __init__(self, expected: str, client: str, *, event_stream: bool, may_hold: bool) -> None:
        self._expected = expected
        self._client = client
        self._event_stream = event_stream
        self._may_hold = may_hold
        self._held = b""
        self._searched_bytes = 0
        self._restorer: ModelRestorer | None = None

    def feed(self, piece: bytes, last: bool) -> bytes:
        """What goes on now; `piece` itself when it goes on unchanged. With the last piece everything does."""
        restorer = self._restorer
        if restorer is not None:
            return restorer.feed(piece, last)
        data = self._held + piece if self._held else piece
        self._held = b""
        match = _NAME.search(data, 0, MAX_SEARCHED_BYTES)
        if match is not None:
            return self._found(_text(match[1]) or self._expected, data, last)
        whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 if self._event_stream else 0
        self._searched_bytes += whole
        if last or self._searched_bytes + len(data) - whole >= MAX_SEARCHED_BYTES:
            return self._found(self._expected, data, last)
        if whole == len(data):
            return data
        self._held = data[whole:]
        return data[:whole]

    def _found(self, served: str, data: bytes, last: bool) -> bytes:
        restorer = ModelRestorer(served, self._client, event_stream=self._event_stream, may_hold=self._may_hold)
        self._restorer = restorer
        return restorer.feed(data, last)


def _text(quoted: bytes) -> str:
    try:
        return str(orjson.loads(quoted))
    except ValueError:  # half a surrogate pair
        return ""
