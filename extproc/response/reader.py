"""The reader of one answer: what a deployment wants to know of it, and the model's name put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from extproc.domain import NO_MUTATION, BodyPath, HeaderMutation
from extproc.media import DIGEST_HEADERS, NDJSON, has_strong_tag, is_json, media_type
from extproc.response.finish import FinishReason
from extproc.response.first import FirstPiece
from extproc.response.ids import ResponseId
from extproc.response.restore import ModelRestorer
from extproc.response.timing import Times
from extproc.response.usage import NO_USAGE, DocumentUsage, StreamUsage, Usage

_EVENT_STREAM: Final = b"text/event-stream"
_SEEN: Final = (BodyPath.FREE, BodyPath.PIECEWISE)


class Measurement:
    """What one answer says of itself: times, size, usage. Only answers with a status of 2xx are measured."""

    __slots__ = ("_clock", "_finish", "_on_gap", "_only_readable", "_usage", "size_bytes", "streaming", "times", "unread")

    def __init__(
        self,
        started_s: float,
        clock: Callable[[], float],
        on_gap: Callable[[float], None],
        *,
        only_readable: bool = False,
    ) -> None:
        """`on_gap` hears the inter-token latencies of a stream, in seconds, as they happen. `only_readable`: of an answer whose
        usage can't be read nothing is measured."""
        self._only_readable = only_readable
        self._clock = clock
        self._on_gap = on_gap
        self._usage: StreamUsage | DocumentUsage | None = None
        self._finish: FinishReason | None = None
        self.times = Times(started_s)
        self.streaming = False
        self.size_bytes = 0
        self.unread = ""
        """Why usage could not be read: 'body not sent', 'content-encoding', 'content-type'; '' when it could."""

    @property
    def usage(self) -> Usage:
        """What the answer said so far of its tokens."""
        return NO_USAGE if self._usage is None else self._usage.usage

    def read_finish_reason(self) -> None:
        """Somebody wants to know it; said before the answer comes."""
        self._finish = FinishReason()

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, as it says; '' when it does not, or nobody asked."""
        return "" if self._finish is None else self._finish.found()

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> bool:
        """Whether `piece` is to be told of the body."""
        if path is BodyPath.UNSEEN:
            self.unread = "body not sent"
        if path not in _SEEN or not 200 <= status < 300:
            return False
        kind = _media_type(headers)
        self.streaming = kind == _EVENT_STREAM
        if is_encoded(headers):
            self.unread = "content-encoding"
        elif self.streaming:
            self._usage = StreamUsage()
        elif _is_json(kind):
            self._usage = DocumentUsage()
        else:
            self.unread = "content-type"
        return not (self.unread and self._only_readable)

    def piece(self, piece: bytes) -> None:
        """A piece of the body came."""
        if not piece:
            return
        self.size_bytes += len(piece)
        gap_s = self.times.piece(self._clock())
        if gap_s is not None and self.streaming:
            self._on_gap(gap_s)
        if self._usage is not None:
            self._usage.feed(piece)
            if self._finish is not None:
                self._finish.feed(piece)

    def end(self) -> None:
        """The body is over."""
        if self._usage is not None:
            self._usage.end()


class Tap(Protocol):
    """Somebody who wants the body itself, as the model server sent it. Raises nothing."""

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> bool:
        """Whether `piece` is to be told of the body."""
        ...

    def piece(self, piece: bytes) -> None:
        """A piece of the body came."""
        ...


class AnswerReader:
    """A `ResponseReader` of the domain. `restore_model`: the served name, and the name that the client used."""

    __slots__ = ("_first", "_heard", "_measurement", "_response_id", "_restore_model", "_restorer", "_tap", "unrestored")

    def __init__(
        self,
        measurement: Measurement | None = None,
        restore_model: tuple[str, str] | None = None,
        response_id: ResponseId | None = None,
        first: FirstPiece | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._first = first
        self._tap = tap
        self._measurement = measurement
        self._response_id = response_id
        self._restore_model = restore_model
        self._restorer: ModelRestorer | None = None
        self._heard: Measurement | None = None
        self.unrestored = ""
        """Why the client's name could not be put back: 'body not sent', 'content-encoding'; '' when it was, or need not be."""

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> HeaderMutation:
        """Headers that no longer hold are removed: the length, if it may change, digests of the body, and its strong tag."""
        measurement = self._measurement
        if measurement is not None and measurement.headers(status, headers, path):
            self._heard = measurement
        first = self._first
        if first is not None and not first.headers(status, headers, path):
            self._first = None
        tap = self._tap
        if tap is not None and not tap.headers(status, headers, path):
            self._tap = None
        if path not in _SEEN or not 200 <= status < 300 or is_encoded(headers):
            self._response_id = None
        if self._restore_model is None or path is BodyPath.EMPTY or status == 206:
            return NO_MUTATION
        kind = _media_type(headers)
        if kind != _EVENT_STREAM and not _is_json(kind):
            return NO_MUTATION
        if path not in _SEEN or is_encoded(headers):
            self.unrestored = "content-encoding" if path in _SEEN else "body not sent"
            return NO_MUTATION
        served, client = self._restore_model
        restorer = ModelRestorer(served, client, event_stream=kind == _EVENT_STREAM, may_hold=path is BodyPath.FREE)
        self._restorer = restorer
        stale = DIGEST_HEADERS if restorer.keeps_length else ("content-length", *DIGEST_HEADERS)
        gone = [name for name in stale if name in headers]
        if has_strong_tag(headers):
            gone.append("etag")
        return HeaderMutation(tuple(gone)) if gone else NO_MUTATION

    @property
    def wants_body(self) -> bool:
        """Somebody measures, waits for the first piece, listens, looks for the id, or the model's name may have to be put
        back."""
        if self._heard is not None or self._first is not None or self._tap is not None:
            return True
        return self._response_id is not None or self._restorer is not None

    @property
    def only_listens(self) -> bool:
        """Nothing is put back."""
        return self._restorer is None

    def body(self, piece: bytes, last: bool) -> bytes:
        """What goes on instead of the piece."""
        first = self._first
        if first is not None and not first.piece(piece, last):
            self._first = None
        heard = self._heard
        if heard is not None:
            heard.piece(piece)
            if last:
                heard.end()
        if self._tap is not None:
            self._tap.piece(piece)
        if self._response_id is not None:
            self._response_id.piece(piece)
            if not self._response_id.searches:
                self._response_id = None
        return piece if self._restorer is None else self._restorer.feed(piece, last)

    def rest(self) -> bytes:
        """What is still held back."""
        if self._heard is not None:
            self._heard.end()
        return b"" if self._restorer is None else self._restorer.feed(b"", True)


def _media_type(headers: Mapping[str, bytes]) -> bytes:
    return media_type(headers.get("content-type", b""))


def _is_json(kind: bytes) -> bool:
    """JSON documents and lines of JSON."""
    return is_json(kind) or kind == NDJSON


def is_encoded(headers: Mapping[str, bytes]) -> bool:
    """Compressed, or otherwise not what its content type says."""
    return headers.get("content-encoding", b"").strip().lower() not in (b"", b"identity")
