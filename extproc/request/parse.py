"""Head and body to InferenceRequest.

The model comes from the path when the path names one, from the field `model` of a form, from the key `model` of a JSON
object, or, when none of these names one, from the query. JSON is parsed whole, and the last of several `model` keys counts, as
model servers do it. Where the path is an API's that reads a model (`paths.BODY_PATHS`), what a request with this content type
can't be (broken JSON under `application/json`) is refused. Elsewhere a body may be anything, and passes.

JSON that orjson refuses is given to Python's own `json`, with which vLLM and SGLang read requests: what they would read is
read the same way here, and what they would refuse is refused. So a client sees no difference to a model server without a
gateway, and there is no body that means one model here and another one there. It takes NaN and Infinity (which `json.dumps`
writes), numbers beyond a double, halves of surrogate pairs (which JavaScript writes for a string that was cut), and UTF-8
with a byte order mark, UTF-16 and UTF-32. Only nesting has one limit of its own, because Python's differs between versions.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from extproc.document import Document
from extproc.domain import InferenceRequest, RequestHead
from extproc.errors import BodyTooLarge, InvalidBody, InvalidModel, Overloaded
from extproc.media import has_controls, is_json, media_type
from extproc.names import INVOCATIONS
from extproc.request.encoding import MAX_INFLATED_BYTES, codings_of, inflate
from extproc.request.form import model_of_form
from extproc.request.long_texts import loads
from extproc.request.paths import Api, api_of, model_of_path, model_of_query, without_query
from extproc.request.prefix import model_of_prefix

_SHORT: Final = 256
"""Longest path that is remembered: clients choose them."""

MAX_MODEL_BYTES: Final = 4096
"""Longest model name: Envoy fails a request whose headers outgrow its limit (60 KiB unless set) with a bare 500."""

FORM: Final = b"multipart/form-data"
CUT: Final = "the proxy sends only the beginning of the body"
NOT_JUDGED: Final = "passthrough-parser"


class ParseOptions(NamedTuple):
    """Switches for compatibility with the router's other generations."""

    invalid_json_passes: bool = False
    """A body that is not JSON goes on without a model, instead of 400."""
    text_of_other_types: bool = False
    """A model that is a number or a boolean counts as its JSON text, instead of 400."""
    max_inflated_bytes: int = MAX_INFLATED_BYTES
    """Largest body after its content-encoding is undone, instead of 413."""
    unread_bodies: bool = False
    """No body is read, whatever it is: models come from paths only (a picker with `passthrough-parser` alone)."""


def parse(
    head: RequestHead, body: bytes | None, *, complete: bool = True, options: ParseOptions = ParseOptions()
) -> InferenceRequest:
    """Read the request. `body` None: the proxy does not send it; `complete` False: it is only the beginning.

    Raises InvalidModel; and, where the path's API reads a model, InvalidBody, and BodyTooLarge for a body that is too large
    once inflated.
    """
    path, named, asked = read_path(head)
    if named is not None:
        model = checked_model(named, "path")
        if not body or options.unread_bodies or not path.endswith(INVOCATIONS):
            return InferenceRequest(head, path, model, len(body or b""), empty_model=not named)
        # What is asked of a serving endpoint, its body says alone. A model in it does not count, as the path names one.
        read = _of_any_body(head, path, body, complete, options)
        return read._replace(model=model, empty_model=not named)
    if not body:
        request = InferenceRequest(head, path, unread=_why_no_body(head, options) if body is None else None)
    elif options.unread_bodies:
        request = InferenceRequest(head, path, body_bytes=len(body), unread=NOT_JUDGED)
    elif api_of(path) is Api.UNKNOWN:
        request = _of_any_body(head, path, body, complete, options)
    else:
        request = _of_body(head, path, body, complete, options)
    if asked is not None and request.model is None:
        return request._replace(model=checked_model(asked, "query"), by_query=True)
    return request


def _why_no_body(head: RequestHead, options: ParseOptions) -> str | None:
    if options.unread_bodies:
        return NOT_JUDGED
    return None if is_upgrade(head) else "the proxy does not send the body"


UPGRADE_MARKS: Final = (b"upgrade", b"CONNECT")
"""The headers of an upgrade hold one of these: the header's name as Envoy writes it, or the method."""


def is_upgrade(head: RequestHead) -> bool:
    """Whether the request asks for another protocol (WebSocket, say): what follows its headers is no body and has no end.

    As Envoy shows it: CONNECT, or `Upgrade` with a `Connection` that names it, which it also makes of HTTP/2's extended
    CONNECT (RFC 8441). A client's offer to go on in h2c is none: servers are free to ignore it, and the body is as ever.
    """
    headers = head.headers
    if headers.get(":method") == b"CONNECT":
        return True
    wanted = headers.get("upgrade")
    if not wanted or b"upgrade" not in headers.get("connection", b"").lower():
        return False
    return wanted.strip().lower() != b"h2c"


def _of_any_body(head: RequestHead, path: str, body: bytes, complete: bool, options: ParseOptions) -> InferenceRequest:
    """The path is no API's that we know: the body may name a model, and if it can't be read it is not at fault."""
    try:
        return _of_body(head, path, body, complete, options)
    except BodyTooLarge:
        unread = f"content-encoding {head.text('content-encoding')}"
    except InvalidModel:
        unread = "its model is no name"
    except InvalidBody:
        unread = "not what its content-type says"
    return InferenceRequest(head, path, body_bytes=len(body), unread=unread)


def _of_body(head: RequestHead, path: str, body: bytes, complete: bool, options: ParseOptions) -> InferenceRequest:
    headers = head.headers
    content_type = headers.get("content-type", b"")
    if "content-encoding" in headers:
        return _encoded(head, path, body, content_type, complete, options)
    return _plain(head, path, body, content_type, complete, options)


def _encoded(
    head: RequestHead, path: str, body: bytes, content_type: bytes, complete: bool, options: ParseOptions
) -> InferenceRequest:
    """What is not read because of its encoding is told; a body that we would not read anyway may be anything."""
    why = f"content-encoding {head.text('content-encoding')}"
    codings = codings_of(head.headers["content-encoding"])
    if codings is None:
        return InferenceRequest(head, path, body_bytes=len(body), unread=why)
    try:
        inflated = inflate(body, codings, complete=complete, max_bytes=options.max_inflated_bytes)
    except (InvalidBody, BodyTooLarge) as error:
        kind = media_type(content_type)
        is_read = (not kind or is_json(kind)) or kind == FORM
        if not is_read or (options.invalid_json_passes and isinstance(error, InvalidBody)):
            return InferenceRequest(head, path, body_bytes=len(body), unread=why)
        raise
    if not inflated:
        return InferenceRequest(head, path, body_bytes=len(body), unread=None if complete else CUT)
    return _plain(head, path, inflated, content_type, complete, options)._replace(body_bytes=len(body))


def _plain(
    head: RequestHead, path: str, body: bytes, content_type: bytes, complete: bool, options: ParseOptions
) -> InferenceRequest:
    kind = media_type(content_type)
    if kind == FORM:
        model = model_of_form(content_type, body, complete=complete)
        unread = CUT if model is None and not complete else None
        return InferenceRequest(
            head, path, checked_model(model, "form field"), len(body), unread=unread, empty_model=model == ""
        )
    return _json(head, path, body, kind, complete, options)


class PathRead(NamedTuple):
    """What is known from the path alone."""

    path: str
    """Without its query string."""
    model: str | None
    """The model that the path names, '' and halves of surrogate pairs included; None when it names none."""
    asked: str | None
    """The model that the query names: it counts when neither the path nor the body names one."""


def read_path(head: RequestHead) -> PathRead:
    """The request's path, read."""
    headers = head.headers
    raw = headers.get(":path") or headers.get("x-original-path") or headers.get("x-forwarded-path") or b""
    return (_seen_path if len(raw) <= _SHORT else _read_path)(raw)


# A server sees few different paths and content types, again and again.


def _read_path(raw: bytes) -> PathRead:
    text = raw.decode("latin-1")
    path = without_query(text)
    return PathRead(path, model_of_path(path), model_of_query(text))


_seen_path = lru_cache(maxsize=1024)(_read_path)


def _json(head: RequestHead, path: str, body: bytes, kind: bytes, complete: bool, options: ParseOptions) -> InferenceRequest:
    declared = not kind or is_json(kind)
    if not declared and body.lstrip()[:1] != b"{":
        return InferenceRequest(head, path, body_bytes=len(body), unread=f"content-type {kind.decode('latin-1')}")
    payload: object
    try:
        payload = _loads(body)
    except orjson.JSONDecodeError as error:
        if not complete:
            named = model_of_prefix(body)
            model = _model(named, options)
            unread = CUT if named is None else None
            return InferenceRequest(head, path, model, len(body), unread=unread, empty_model=named == "")
        if options.invalid_json_passes or not declared:
            return InferenceRequest(head, path, body_bytes=len(body), unread="not JSON")
        if _is_too_deep(error):
            raise InvalidBody("request body is JSON with more than 1024 levels of nesting") from error
        # orjson's message quotes nothing of the body.
        raise InvalidBody(f"request body is not valid JSON: {error.msg} at byte {_byte(body, error)}") from error
    if not isinstance(payload, (dict, Document)):
        if payload is None or not declared or options.invalid_json_passes:
            return InferenceRequest(head, path, body_bytes=len(body))
        raise InvalidBody(f"request body must be a JSON object, not {_kind_of(payload)}")
    named = payload.get("model")
    return InferenceRequest(head, path, _model(named, options), len(body), payload, None, named == "")


_LARGE: Final = 2**20
_PARSING: Final = 4
"""Bytes that orjson asks for at first, for each of a body: a copy, and 16 for each sixth of it."""


def _loads(body: bytes) -> object:
    """Raises orjson.JSONDecodeError for what Python's json refuses too, and for more than 1024 levels; Overloaded for
    a large body that there is no memory to parse."""
    if len(body) > _LARGE:
        try:
            bytearray(len(body) * _PARSING)  # orjson ends the process where it gets none; asking costs no page
        except MemoryError:
            raise Overloaded("there is no memory to read this body now, try again later") from None
    try:
        return loads(body)
    except orjson.JSONDecodeError as error:
        if not _is_too_deep(error):
            # It raises more than JSONDecodeError: for bytes of no encoding, an int of thousands of digits, nesting.
            with suppress(ValueError, RecursionError):
                return json.loads(body)
        raise


def _is_too_deep(error: orjson.JSONDecodeError) -> bool:
    return "limit exceeded" in error.msg


def _byte(body: bytes, error: orjson.JSONDecodeError) -> int:
    """JSONDecodeError counts characters, people count bytes of what they sent."""
    return len(body.decode("utf-8", "replace")[: error.pos].encode("utf-8", "replace"))


def _model(value: object, options: ParseOptions) -> str | None:
    if isinstance(value, str):
        return checked_model(value, "model")
    if value is None:
        return None
    if options.text_of_other_types and isinstance(value, int | float):
        with suppress(ValueError):  # NaN and Infinity have no text in JSON, and very long integers none in Python
            return checked_model(json.dumps(value, allow_nan=False), "model")
    raise InvalidModel(f"'model' must be a string, not {_kind_of(value)}", param="model")


def checked_model(model: str | None, source: str) -> str | None:
    """The model if it can be a header's value, None when it is empty."""
    if not model:
        return None
    try:
        size = len(model) if model.isascii() else len(model.encode())
    except UnicodeEncodeError as error:
        fault = "is not UTF-8" if source in ("path", "query") else "has half a surrogate pair"
        raise InvalidModel(f"{source}: the model's name {fault}", param="model") from error
    if size > MAX_MODEL_BYTES:
        raise InvalidModel(f"{source}: the model's name is longer than {MAX_MODEL_BYTES} bytes", param="model")
    if has_controls(model):
        raise InvalidModel(f"{source}: the model's name has control characters", param="model")
    return model


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
