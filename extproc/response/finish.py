"""Why an answer ended, as it says itself: OpenAI's and vLLM's `finish_reason`, Anthropic's `stop_reason`.

In a stream it stands in one of the last events, in a document behind what makes that long, so the end of either is enough.
"""

from __future__ import annotations

import re
from typing import Final

KEPT_BYTES: Final = 4096
"""Of the end. Where more stands behind the reason (logprobs of many tokens), it is not found."""
_HELD_BYTES: Final = 2 * KEPT_BYTES
_FINISH: Final = re.compile(rb'"finish_reason"[ \t\r\n]*:[ \t\r\n]*"([a-z_]{1,32})"')
_STOP: Final = re.compile(rb'"stop_reason"[ \t\r\n]*:[ \t\r\n]*"([a-z_]{1,32})"')
"""A quote inside a JSON string has a backslash before it, so these are keys. vLLM has both, and the string that stopped it in
the second: that one is read where the first is not there."""


class FinishReason:
    """Keeps the end of an answer that passes; `found` looks for the reason in it."""

    __slots__ = ("_held_bytes", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held_bytes = 0

    def feed(self, piece: bytes) -> None:
        """A piece of the body came."""
        self._pieces.append(piece if len(piece) <= KEPT_BYTES else piece[-KEPT_BYTES:])
        self._held_bytes += len(piece)
        if self._held_bytes > _HELD_BYTES:
            end = b"".join(self._pieces)[-KEPT_BYTES:]
            self._pieces = [end]
            self._held_bytes = len(end)

    def found(self) -> str:
        """The last reason, '' when there is none."""
        end = b"".join(self._pieces)
        reasons = _FINISH.findall(end) or _STOP.findall(end)
        return reasons[-1].decode("ascii") if reasons else ""
