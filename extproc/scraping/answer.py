"""An HTTP/1.1 answer read by hand: bytes in, a page out. Compiled, and without I/O.

Read here is what model servers send (RFC 9112): `HTTP/1.1 200`, one content-length or `transfer-encoding: chunked`, kept
alive. The head is searched for these few names and no header becomes an object. Any other answer (another version or
status, a coding, folded or doubled headers, a page that ends with its connection) goes to httptools whole, in `odd`.
"""

from __future__ import annotations

from typing import Final

from extproc.scraping.odd import OddAnswer
from extproc.scraping.reasons import FetchError, Reason

MAX_HEAD_BYTES: Final = 64 * 1024
"""A head, the lines that begin chunks, and trailers are no longer than this: `not_http`."""

_OK: Final = b"HTTP/1.1 200"
_IDLE: Final = 0
_HEAD: Final = 1
_LENGTH: Final = 2
_CHUNK_SIZE: Final = 3
_CHUNK: Final = 4
_CHUNK_END: Final = 5
_TRAILERS: Final = 6
_ODD: Final = 7


class AnswerReader:
    """Reads the answers of one connection, one after the other: `begin` before each question, then `feed` and `ended`."""

    __slots__ = ("_kept", "_left", "_max", "_odd", "_pieces", "_size", "_state", "received", "reusable")

    def __init__(self, max_page_bytes: int) -> None:
        self._max = max_page_bytes
        self._state = _IDLE
        self._pieces: list[bytes] = []
        self._size = 0
        self._left = 0
        self._kept = b""
        self._odd: OddAnswer | None = None
        self.received = 0
        """Bytes that came since `begin`."""
        self.reusable = True
        """The connection can be asked again: nothing is left of the last answer."""

    def begin(self) -> None:
        self._state = _HEAD
        self._pieces = []
        self._size = 0
        self._left = 0
        self._kept = b""
        self._odd = None
        self.received = 0
        self.reusable = False

    def feed(self, data: bytes) -> bytes | None:
        """The page when this completes it. Raises FetchError when there will be none; then the connection is of no use."""
        self.received += len(data)
        state = self._state
        if state == _LENGTH:
            return self._of_length(data, 0)
        if state == _HEAD:
            return self._head(data)
        if state == _ODD:
            return self._oddly(data)
        if state == _IDLE:
            raise FetchError(Reason.NOT_HTTP, "an answer that nobody asked for")
        return self._chunks(data)

    def ended(self) -> bytes:
        """The connection was closed: the page if that is how it ends (HTTP/1.0). Raises FetchError otherwise."""
        self.reusable = False
        if self._odd is not None:
            return self._odd.ended()
        if not self.received:
            raise FetchError(Reason.CLOSED, "closed without an answer")
        raise FetchError(Reason.TRUNCATED, f"closed after {self._size} bytes of the page")

    @property
    def begun(self) -> bool:
        """The head of the answer is here."""
        if self._odd is not None:
            return self._odd.headers_done
        return self._state >= _LENGTH

    def _head(self, data: bytes) -> bytes | None:
        if self._kept:
            data = self._kept + data
        end = data.find(b"\r\n\r\n")
        if not data.startswith(_OK) and not _OK.startswith(data):
            return self._turn_odd(data)
        if end < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise FetchError(Reason.NOT_HTTP, "headers without an end")
            self._kept = data
            return None
        if end > MAX_HEAD_BYTES:
            raise FetchError(Reason.NOT_HTTP, f"headers of more than {MAX_HEAD_BYTES} bytes")
        left = self._framing(data[: end + 2].lower())
        if left is None:
            return self._turn_odd(data)
        self._kept = b""
        if left < 0:
            self._state = _CHUNK_SIZE
            return self._chunks(data[end + 4 :])
        if left > self._max:
            raise FetchError(Reason.TOO_LARGE, f"{left} bytes, more than {self._max}")
        self._state = _LENGTH
        self._left = left
        return self._of_length(data, end + 4)

    def _framing(self, head: bytes) -> int | None:
        """The page's length, -1 when it comes in chunks, None when this head is odd. `head` is in lower case."""
        if not head.startswith(b"http/1.1 200 ") and not head.startswith(b"http/1.1 200\r\n"):
            return None
        if b"\r\ncontent-encoding:" in head or b"\r\n " in head or b"\r\n\t" in head or b"\r\nupgrade:" in head:
            return None
        if b"\r\nconnection:" in head and _value(head, b"\r\nconnection:") != b"keep-alive":
            return None
        length = _value(head, b"\r\ncontent-length:")
        coding = _value(head, b"\r\ntransfer-encoding:")
        if length is None:
            return -1 if coding == b"chunked" else None
        if coding is not None or not length.isdigit() or len(length) > 18:
            return None
        return int(length)

    def _of_length(self, data: bytes, at: int) -> bytes | None:
        had = self._size
        size = had + len(data) - at
        if size < self._left:
            self._pieces.append(data[at:] if at else data)
            self._size = size
            return None
        self._state = _IDLE
        self.reusable = size == self._left  # else bytes that nobody asked for come behind the page
        last = data[at : at + self._left - had]
        if not had:
            return last
        self._pieces.append(last)
        return b"".join(self._pieces)

    def _chunks(self, data: bytes) -> bytes | None:
        """RFC 9112, 7.1. What can't be read yet is kept for the next piece."""
        if self._kept:
            data = self._kept + data
            self._kept = b""
        at = 0
        while True:
            state = self._state
            if state == _CHUNK:
                take = min(self._left, len(data) - at)
                if take:
                    self._pieces.append(data[at : at + take])
                    self._left -= take
                    at += take
                if self._left:
                    return None
                self._state = _CHUNK_END
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._kept = data[at:]
                if len(self._kept) > MAX_HEAD_BYTES:
                    raise FetchError(Reason.NOT_HTTP, "the beginning of a chunk without an end")
                return None
            if state == _CHUNK_END:
                if end != at:
                    raise FetchError(Reason.NOT_HTTP, "a chunk longer than it says")
                self._state = _CHUNK_SIZE
            elif state == _CHUNK_SIZE:
                self._begin_chunk(data[at:end])
            elif end == at:
                self._state = _IDLE
                self.reusable = end + 2 == len(data)
                return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            at = end + 2

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip(b" \t")
        size = _hex(digits)
        if size < 0:
            raise FetchError(Reason.NOT_HTTP, f"the length of a chunk is {digits[:32]!r}")
        self._left = size
        self._size += size
        if self._size > self._max:
            raise FetchError(Reason.TOO_LARGE, f"more than {self._max} bytes")
        self._state = _CHUNK if size else _TRAILERS

    def _turn_odd(self, data: bytes) -> bytes | None:
        self._state = _ODD
        self._kept = b""
        self._odd = OddAnswer(self._max)
        return self._oddly(data)

    def _oddly(self, data: bytes) -> bytes | None:
        odd = self._odd
        assert odd is not None
        page: bytes | None = odd.feed(data)
        if page is not None:
            self._state = _IDLE
            self.reusable = odd.reusable
        return page


def _value(head: bytes, name: bytes) -> bytes | None:
    """The value of the header; None without it, b'' when it comes twice."""
    at = head.find(name)
    if at < 0:
        return None
    begin = at + len(name)
    if head.find(name, begin) >= 0:
        return b""
    return head[begin : head.find(b"\r\n", begin)].strip(b" \t")


def _hex(digits: bytes) -> int:
    """-1 when it is no hexadecimal number of at most 8 digits."""
    if not 0 < len(digits) <= 8:
        return -1
    value = 0
    for digit in digits:
        if 48 <= digit <= 57:
            value = value * 16 + digit - 48
        elif 97 <= digit <= 102:
            value = value * 16 + digit - 87
        elif 65 <= digit <= 70:
            value = value * 16 + digit - 55
        else:
            return -1
    return value
