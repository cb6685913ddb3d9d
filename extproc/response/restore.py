"""The name that the client used, put back into an answer whose model was rewritten on the way out.

Wherever the JSON key `model`, or `model_name` as the Open Inference Protocol (KServe v2) calls it, has the served name as its
value, that value becomes the client's name; every other byte stays.
A quote inside a JSON string has a backslash before it, so text that an answer only quotes is never touched.
"""

from __future__ import annotations

import json
import re
from typing import Final

_BEGIN: Final = b'"model'
_KEYS: Final = (b'"model"', b'"model_name"')
_LONGEST_KEY: Final = len(b'"model_name"')
_MOST_SPACE: Final = 8
"""White space allowed on either side of the colon; engines write none or one."""
_BACKSLASH: Final = 0x5C


class ModelRestorer:
    """Feed it the pieces of one body in order; it gives back what goes on.

    `event_stream`: the body is Server-Sent Events, where no value crosses a line end, so that nothing of a whole event is ever
    held back. `may_hold`: bytes that may be the beginning of a match wait for the next piece, else such a match is missed.
    """

    __slots__ = ("_after_backslash", "_client", "_held", "_lines", "_longest", "_may_hold", "_pattern", "_space", "_values")

    def __init__(self, served: str, client: str, *, event_stream: bool = False, may_hold: bool = True) -> None:
        """Raise ValueError when a name has no UTF-8."""
        self._client = _spellings(client)[0]
        self._values = _spellings(served)
        self._lines = event_stream
        self._space = b" \t" if event_stream else b" \t\r\n"
        space = rb"[%s]{0,%d}" % (re.escape(self._space), _MOST_SPACE)
        values = b"|".join(re.escape(value) for value in self._values)
        self._pattern = re.compile(rb'(?<!\\)"model(?:_name)?"%s:%s(%s)' % (space, space, values))
        self._longest = _LONGEST_KEY + 2 * _MOST_SPACE + 1 + max(map(len, self._values))
        self._may_hold = may_hold
        self._held = b""
        self._after_backslash = False

    @property
    def keeps_length(self) -> bool:
        """The body stays as long as it is, however often a name is put back."""
        return all(len(value) == len(self._client) for value in self._values)

    def feed(self, piece: bytes, last: bool) -> bytes:
        """What goes on now; `piece` itself when it goes on unchanged. With the last piece everything does."""
        data = self._held + piece if self._held else piece
        if self._after_backslash:
            data = b"\\" + data  # for the pattern to look back at
        done = 0
        out: list[bytes] = []
        if _BEGIN in data:
            for match in self._pattern.finditer(data):
                out += (data[done : match.start(1)], self._client)
                done = match.end()
        end = len(data) if last or not self._may_hold else self._beginning(data, done)
        if not out and end == len(data) and data is piece:
            self._after_backslash = data[-1:] == b"\\"
            return piece
        out.append(data[done:end])
        went_on = b"".join(out)
        if self._after_backslash:
            went_on = went_on[1:]
        self._held = data[end:]
        self._after_backslash = end > 0 and data[end - 1] == _BACKSLASH
        return went_on

    def _beginning(self, data: bytes, done: int) -> int:
        """Where a match may begin that the data cuts; the end of the data when none does."""
        size = len(data)
        if self._lines and data.endswith(b"\n"):
            return size
        first = size
        for key in _KEYS:
            at = data.rfind(key, max(done, size - self._longest), first)
            if at >= 0 and self._may_match(data[at + len(key) :]) and not (at and data[at - 1] == _BACKSLASH):
                first = at
        if first < size:
            return first
        at = data.rfind(b'"', max(done, size - _LONGEST_KEY + 1))
        if at >= 0 and not (at and data[at - 1] == _BACKSLASH):
            rest = data[at:]
            if _KEYS[0].startswith(rest) or _KEYS[1].startswith(rest):
                return at
        return size

    def _may_match(self, after_key: bytes) -> bool:
        colon = after_key.lstrip(self._space)
        if len(after_key) - len(colon) > _MOST_SPACE:
            return False
        if not colon:
            return True
        if colon[:1] != b":":
            return False
        value = colon[1:].lstrip(self._space)
        if len(colon) - 1 - len(value) > _MOST_SPACE:
            return False
        return any(spelling.startswith(value) for spelling in self._values)


def _spellings(name: str) -> list[bytes]:
    """The name as a JSON string in the ways that encoders write it, the plainest first: UTF-8 or ASCII, `/` or `\\/`."""
    plain = [json.dumps(name, ensure_ascii=False).encode(), json.dumps(name).encode()]
    return list(dict.fromkeys([*plain, *(spelling.replace(b"/", b"\\/") for spelling in plain)]))
