"""The reader of a provider's answer: it becomes the client's, as it passes.

| provider's answer | the client gets |
|---|---|
| a success in the client's dialect | the same bytes, with the client's name for the model |
| a success in the other dialect: a document, a stream | a document; a stream, event by event |
| an error | its status and message in the client's shape; 401 and 403 are 502 (`faults`) |
| a redirect, something compressed, what is neither JSON nor events | 502 |

Headers that are between the provider and us (`headers.private`) are removed from every answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

import orjson

from extproc.credentials import Secret
from extproc.domain import BodyPath, HeaderMutation
from extproc.external.answers import chat_answer, messages_answer
from extproc.external.call import ProviderCall
from extproc.external.chat_events import ChatChunks
from extproc.external.dialects import Asked, Dialect, ErrorShape
from extproc.external.faults import Fault, fault_of_answer, status_for_client, written
from extproc.external.headers import private
from extproc.external.message_events import MessageEvents
from extproc.external.naming import NameRestorer
from extproc.media import DIGEST_HEADERS, has_strong_tag, is_json, media_type
from extproc.response.reader import Measurement, is_encoded
from extproc.response.sse import EventStream
from extproc.response.usage import NO_USAGE, DocumentUsage, StreamUsage, Usage, usage_of

MAX_DOCUMENT_BYTES: Final = 32 * 2**20
"""Of an answer that is translated whole; a longer one is an error."""
MAX_ERROR_BYTES: Final = 64 * 1024
"""Of an error's body that is read; what follows is dropped."""
_EVENT_STREAM: Final = b"text/event-stream"
_BODY_HEADERS: Final = ("content-length", *DIGEST_HEADERS)


class _Way(Enum):
    """What becomes of the body."""

    PASS = 0
    RESTORE = 1
    DOCUMENT = 2
    EVENTS = 3
    ERROR = 4
    REPLACE = 5
    """Nothing of it is read: an error of ours stands in its place."""


class ProviderReader:
    """A `ResponseReader` of the domain, for one answer of a provider. Raises nothing."""

    __slots__ = (
        "_asks",
        "_call",
        "_chunks",
        "_created_s",
        "_events",
        "_fault",
        "_heard",
        "_held",
        "_held_bytes",
        "_measurement",
        "_model",
        "_passing",
        "_restorer",
        "_said",
        "_secrets",
        "_status",
        "_usage",
        "_way",
        "untranslated",
    )

    def __init__(
        self, call: ProviderCall, asks: Asked, model: str, created_s: int, measurement: Measurement | None = None
    ) -> None:
        """`model` is the client's name for the model, `created_s` the Unix time that answers shall say.

        `measurement` hears the provider's bytes, as they came.
        """
        self._call = call
        self._asks = asks
        self._model = model
        self._created_s = created_s
        self._measurement = measurement
        self._secrets: tuple[Secret, ...] = () if call.credential is None else (call.credential[2],)
        self._heard = False
        self._way = _Way.PASS
        self._status = 0
        self._fault: Fault | None = None
        self._said = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._events = EventStream()
        self._chunks: ChatChunks | MessageEvents | None = None
        self._restorer: NameRestorer | None = None
        self._passing: StreamUsage | DocumentUsage | None = None
        self._usage = NO_USAGE
        self.untranslated = ""
        """Why the client gets what it can't read: 'body not sent'; '' when all is well."""

    def __repr__(self) -> str:
        return f"<ProviderReader of {self._call.model.provider} {self._way.name} {self._status}>"

    @property
    def usage(self) -> Usage:
        """The tokens that the provider stated so far, in its own numbers."""
        if self._chunks is not None:
            return self._chunks.usage
        return self._usage if self._passing is None else self._passing.usage

    # -- headers ---------------------------------------------------------------------------------------------------------

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> HeaderMutation:
        """The client's status, and headers that hold for what it gets."""
        self._status = status
        seen = path is BodyPath.FREE or path is BodyPath.PIECEWISE
        if self._measurement is not None:
            self._heard = self._measurement.headers(status, headers, path) and seen
        self._way = self._way_of(status, headers)
        kept_back = private(headers, self._secrets)
        told = self._told_status(status)
        set_headers: list[tuple[str, str]] = [] if told == status else [(":status", str(told))]
        if not seen:
            self.untranslated = "body not sent" if self._way is not _Way.PASS and path is BodyPath.UNSEEN else ""
            self._way = _Way.PASS
            self._passing = None
            return HeaderMutation(tuple(kept_back), tuple(set_headers))
        gone = [name for name in _BODY_HEADERS if name in headers] if self._way is not _Way.PASS else []
        if self._way is not _Way.PASS and has_strong_tag(headers):
            gone.append("etag")
        if self._way is _Way.REPLACE and "content-encoding" in headers:
            gone.append("content-encoding")
        if self._way in (_Way.DOCUMENT, _Way.ERROR, _Way.REPLACE):
            set_headers.append(("content-type", "application/json"))
        self._prepare(path)
        return HeaderMutation((*kept_back, *gone), tuple(set_headers))

    def _way_of(self, status: int, headers: Mapping[str, bytes]) -> _Way:
        provider = self._call.model.provider
        kind = media_type(headers.get("content-type", b""))
        is_events, is_document = kind == _EVENT_STREAM, is_json(kind)
        if not 200 <= status < 300:
            if status in (401, 403, 407) or not 400 <= status <= 599 or is_encoded(headers):
                self._fault = fault_of_answer(status, b"", provider)
                return _Way.REPLACE
            return _Way.ERROR
        if is_encoded(headers):
            self._fault = Fault(502, f"{provider} answered in a content-encoding that was not asked for", "provider_error")
            return _Way.REPLACE
        if self._same():
            if is_events:
                self._passing = StreamUsage()
            elif is_document:
                self._passing = DocumentUsage()
            return _Way.RESTORE if is_events or is_document else _Way.PASS
        if is_events:
            return _Way.EVENTS
        if is_document:
            return _Way.DOCUMENT
        self._fault = Fault(502, f"{provider} answered with something that is neither JSON nor events", "provider_error")
        return _Way.REPLACE

    def _told_status(self, status: int) -> int:
        if self._way is _Way.REPLACE and 200 <= status < 300:
            return 502
        return status if 200 <= status < 300 else status_for_client(status, self._asks.errors)

    def _prepare(self, path: BodyPath) -> None:
        model, provider = self._model, self._call.model.provider
        if self._way is _Way.RESTORE:
            events = isinstance(self._passing, StreamUsage)
            served = self._call.model.name
            self._restorer = NameRestorer(served, model, event_stream=events, may_hold=path is BodyPath.FREE)
        elif self._way is _Way.EVENTS:
            if self._asks.dialect is Dialect.OPENAI:
                self._chunks = ChatChunks(model, self._created_s, self._call.include_usage, provider, self._secrets)
            else:
                self._chunks = MessageEvents(model, provider, self._secrets)

    def _same(self) -> bool:
        return self._asks.dialect is self._call.model.dialect

    # -- body ------------------------------------------------------------------------------------------------------------

    @property
    def wants_body(self) -> bool:
        """Somebody measures, or something of the body changes."""
        return self._heard or self._passing is not None or self._way is not _Way.PASS

    @property
    def only_listens(self) -> bool:
        """Nothing of the body changes."""
        return self._way is _Way.PASS

    def body(self, piece: bytes, last: bool) -> bytes:
        """What goes on instead of the piece."""
        if self._heard and self._measurement is not None:
            self._measurement.piece(piece)
            if last:
                self._measurement.end()
        if self._passing is not None:
            self._passing.feed(piece)
            if last:
                self._passing.end()
        chunks = self._chunks
        if chunks is not None:
            return self._translated(chunks, piece, last)
        if self._restorer is not None:
            return self._restorer.feed(piece, last)
        return piece if self._way is _Way.PASS else self._collected(piece, last)

    def rest(self) -> bytes:
        """Trailers end the body."""
        if self._heard and self._measurement is not None:
            self._measurement.end()
        if self._passing is not None:
            self._passing.end()
        if self._chunks is not None:
            return self._translated(self._chunks, b"", True)
        if self._restorer is not None:
            return self._restorer.feed(b"", True)
        return b"" if self._way is _Way.PASS else self._collected(b"", True)

    def _translated(self, chunks: ChatChunks | MessageEvents, piece: bytes, last: bool) -> bytes:
        events = self._events
        found = events.feed(piece)
        if last:  # a last event may lack its blank line, or its end
            found += [event for event in events.feed(b"\n\n") if _is_whole(event.data)]
        if events.skipped and not chunks.over:  # it stood before all that was found
            return chunks.fault(Fault(502, f"{self._call.model.provider} sent an event that is too long", "provider_error"))
        if len(found) == 1 and not last:
            return chunks.event(found[0].data)
        out = b"".join([chunks.event(event.data) for event in found])
        return out + chunks.end() if last else out

    def _collected(self, piece: bytes, last: bool) -> bytes:
        if self._said:
            return b""
        if self._way is _Way.REPLACE:
            return self._say(self._fault or Fault(502, "", ""))
        bound = MAX_DOCUMENT_BYTES if self._way is _Way.DOCUMENT else MAX_ERROR_BYTES
        self._held_bytes += len(piece)
        if self._held_bytes <= bound:
            self._held.append(piece)
            if not last:
                return b""
        elif self._way is _Way.DOCUMENT:
            provider = self._call.model.provider
            return self._say(Fault(502, f"{provider} answered with more than {bound} bytes", "provider_error"))
        elif not last:
            return b""
        body = b"".join(self._held)
        self._held.clear()
        self._said = True
        return self._document(body) if self._way is _Way.DOCUMENT else self._error(body)

    def _say(self, fault: Fault) -> bytes:
        self._said = True
        self._held.clear()
        return written(fault, self._asks.errors)

    def _document(self, body: bytes) -> bytes:
        """The document in the client's dialect."""
        try:
            document = orjson.loads(body)
            self._usage = usage_of(document)
            if self._asks.dialect is Dialect.OPENAI:
                answer = chat_answer(document, self._model, self._created_s)
            else:
                answer = messages_answer(document, self._model)
            if answer is not None:
                return orjson.dumps(answer)
        except (ValueError, orjson.JSONEncodeError):
            pass
        return self._say(Fault(502, f"{self._call.model.provider} answered with something that is no answer", "provider_error"))

    def _error(self, body: bytes) -> bytes:
        """An error's document: as it is where the client reads it so, else in the client's shape."""
        fault = fault_of_answer(self._status, body, self._call.model.provider, self._secrets)
        if self._same() and self._held_bytes <= MAX_ERROR_BYTES and self._is_readable(body):
            for secret in self._secrets:
                body = body.replace(secret.reveal().encode(), b"[redacted]")
            return body
        return written(fault._replace(status=status_for_client(self._status, self._asks.errors)), self._asks.errors)

    def _is_readable(self, body: bytes) -> bool:
        """An error of JSON, which the client's library takes apart."""
        try:
            document = orjson.loads(body)
        except ValueError:
            return False
        return isinstance(document, dict) and bool(document.get("error") or self._asks.errors is ErrorShape.DATABRICKS)


def _is_whole(data: bytes) -> bool:
    if data == b"[DONE]":
        return True
    try:
        orjson.loads(data)
    except ValueError:
        return False
    return True
