"""Answers that are not read by hand: `answer` gives them to httptools, header by header."""

from __future__ import annotations

from typing import Final

import httptools

from extproc.scraping.reasons import FetchError, Reason, detail_of

_MAX_HEADER_BYTES: Final = 64 * 1024


class OddAnswer:
    """One answer. `feed` and `ended` as in AnswerReader."""

    def __init__(self, max_page_bytes: int) -> None:
        self._max_page_bytes = max_page_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._received = 0
        self._header_bytes = 0
        self._length: int | None = None
        self._chunked = False
        self._encoding = ""
        self._complete = False
        self.headers_done = False
        self.reusable = False

    def feed(self, data: bytes) -> bytes | None:
        """The page when this completes it."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise cause if isinstance(cause, FetchError) else FetchError(Reason.INTERNAL, detail_of(error)) from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise FetchError(Reason.NOT_HTTP, detail_of(error)) from None
        if not self.headers_done and self._received > _MAX_HEADER_BYTES:
            raise FetchError(Reason.NOT_HTTP, "headers without an end")
        return b"".join(self._body) if self._complete else None

    def ended(self) -> bytes:
        """The page if it ends with its connection."""
        if self.headers_done and self._length is None and not self._chunked:
            return b"".join(self._body)
        raise FetchError(Reason.TRUNCATED, f"closed after {self._size} bytes of the page")

    # -- httptools ---------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete:
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise FetchError(Reason.NOT_HTTP, f"headers of more than {_MAX_HEADER_BYTES} bytes")
        key = name.lower()
        if key == b"content-encoding":
            self._encoding = value.decode("latin-1").strip().lower()
        elif key == b"content-length":
            self._length = int(value)
        elif key == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        if self._complete:  # a second answer, that nobody asked for
            self.reusable = False
            return
        self.headers_done = True
        status = self._parser.get_status_code()
        if status != 200:
            raise FetchError(Reason.HTTP_STATUS, f"status {status}")
        if self._encoding not in ("", "identity"):
            raise FetchError(Reason.ENCODED, f"content-encoding {self._encoding[:64]!r}")
        if (self._length or 0) > self._max_page_bytes:
            raise FetchError(Reason.TOO_LARGE, f"{self._length} bytes, more than {self._max_page_bytes}")

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._size += len(body)
        if self._size > self._max_page_bytes:
            raise FetchError(Reason.TOO_LARGE, f"more than {self._max_page_bytes} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._complete:
            return
        self._complete = True
        self.reusable = bool(self._parser.should_keep_alive())
