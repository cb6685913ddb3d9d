"""Another model's name in a request: exactly the bytes of the old name change.

In a JSON object these are the values of all its keys `model`, because readers differ on which of several counts; in a form
all fields of that name; in a path the segment; in a query all parameters. A compressed body is inflated and goes on plain.
What can't be changed for
certain is refused, so no request reaches a model server under a name that it was not to have.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Final, NamedTuple

import orjson

from extproc.domain import InferenceRequest, RequestHead, Splice, spliced
from extproc.errors import BodyNotSeen, InvalidModel, UnreadableBody
from extproc.media import DIGEST_HEADERS, media_type
from extproc.request.encoding import codings_of, inflate
from extproc.request.form import model_fields
from extproc.request.parse import CUT, FORM, NOT_JUDGED, ParseOptions, is_upgrade, read_path
from extproc.request.paths import Api, api_of, renamed_path, requires_model
from extproc.request.prefix import begin_of_object, models_of_prefix
from extproc.request.scan import ModelScanner

PATHS: Final = (":path", "x-original-path", "x-forwarded-path")
_KEY: Final = b'"model"'
_ESCAPED: Final = b"\\u"
_ONLY: Final = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Renamed(NamedTuple):
    """What changes in a request; nothing when it names no model and needs none."""

    splices: tuple[Splice, ...] = ()
    """Of the body as it came."""
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()


def renamed(request: InferenceRequest, body: bytes | None, complete: bool, model: str, options: ParseOptions) -> Renamed:
    """The changes that give the request another model's name. `request` is what `parse` made of `body` and `complete`.

    A request that names no model gets one when it is a JSON object for an API that needs a model; else it stays. Raises
    UnreadableBody and BodyNotSeen when the request may name a model that can't be changed, and what `parse` raises.
    """
    head = request.head
    if read_path(head).model is not None:
        return Renamed(set_headers=_new_path(head, model))
    if not request.by_query:
        return _in_body(request, body, complete, model, options)
    rest = _in_body(request._replace(model=None), body, complete, model, options)
    return rest._replace(set_headers=_new_path(head, model))


def _in_body(request: InferenceRequest, body: bytes | None, complete: bool, model: str, options: ParseOptions) -> Renamed:
    if body is None or request.unread is not None:
        _refuse_if_named(request, body)
        return Renamed()
    if not body:
        return Renamed()
    head = request.head
    codings = codings_of(head.headers.get("content-encoding", b""))
    if codings:
        return _compressed(request, body, complete, model, options, codings)
    return _with_headers(head, _splices(request, body, complete, model))


def _compressed(
    request: InferenceRequest, body: bytes, complete: bool, model: str, options: ParseOptions, codings: tuple[bytes, ...]
) -> Renamed:
    if not complete:
        coding = request.head.text("content-encoding")
        raise UnreadableBody(f"this pool rewrites models, and of a body with content-encoding {coding} only the beginning came")
    plain = inflate(body, codings, max_bytes=options.max_inflated_bytes)
    splices = _splices(request, plain, complete, model)
    if not splices:
        return Renamed()
    changed = _with_headers(request.head, (Splice(0, len(body), spliced(plain, splices)),))
    return changed._replace(remove_headers=("content-encoding", *changed.remove_headers))


def _splices(request: InferenceRequest, body: bytes, complete: bool, model: str) -> tuple[Splice, ...]:
    content_type = request.head.headers.get("content-type", b"")
    if media_type(content_type) == FORM:
        fields = model_fields(content_type, body, complete=complete)
        return tuple([Splice(begin, end, _encoded(model, charset)) for begin, end, charset in fields])
    if request.model is None and (request.payload is None or not requires_model(request.path)):
        return ()
    named = request.model is not None
    wide = _wide_encoding(body)
    return _json_splices(body, orjson.dumps(model), named) if wide is None else _wide_splices(body, model, named, *wide)


def _json_splices(body: bytes, quoted: bytes, named: bool) -> tuple[Splice, ...]:
    spans = model_spans(body, named)
    if spans:
        return tuple([Splice(begin, end, quoted) for begin, end in spans])
    at = begin_of_object(body)
    assert at is not None, "what was read as an object begins as one"
    assert not named, "what was read as a model stands somewhere"
    is_empty = body[at:].lstrip(b" \t\r\n")[:1] == b"}"
    return (Splice(at, at, b'"model":' + quoted + (b"" if is_empty else b",")),)


def model_spans(body: bytes, named: bool) -> list[tuple[int, int]]:
    """Of the values of all top-level keys `model`, as far as the body goes. `named`: there is such a key."""
    if named and body.count(_KEY) == 1 and _ESCAPED not in body:
        # The key is there, and no escape spells it in another way: so this is it, and its value is a string.
        only = _ONLY.search(body)
        if only is not None:
            return [only.span(1)]
    scanner = ModelScanner()
    # The scanner is fast, and stops at what is rare: models that differ, a byte order mark, a model that is no string.
    return scanner.spans if scanner.feed(body) is None else list(models_of_prefix(body))


def _wide_encoding(body: bytes) -> tuple[str, int] | None:
    """For JSON in UTF-16 or UTF-32: Python's name of the encoding, and the length of its mark. As json.loads finds it."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return name, len(mark)
    detected = json.detect_encoding(body)
    return None if detected.startswith("utf-8") else (detected, 0)


def _wide_splices(body: bytes, model: str, named: bool, encoding: str, mark_bytes: int) -> tuple[Splice, ...]:
    narrow = body[mark_bytes:].decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")

    def place(at: int) -> int:
        before = narrow[:at].decode("utf-8", "surrogatepass")
        return mark_bytes + len(before.encode(encoding, "surrogatepass"))

    splices = _json_splices(narrow, json.dumps(model).encode(), named)
    return tuple([Splice(place(begin), place(end), data.decode().encode(encoding)) for begin, end, data in splices])


def _with_headers(head: RequestHead, splices: tuple[Splice, ...]) -> Renamed:
    if not splices:
        return Renamed()
    stale = (
        ("content-length", *DIGEST_HEADERS) if any(len(data) != end - begin for begin, end, data in splices) else DIGEST_HEADERS
    )
    return Renamed(splices, remove_headers=tuple([name for name in stale if name in head.headers]))


def _new_path(head: RequestHead, model: str) -> tuple[tuple[str, str], ...]:
    name = next(name for name in PATHS if head.headers.get(name))
    path = renamed_path(head.headers[name], model)
    assert path is not None, "a path that names a model has a place for it"
    return ((name, path),)


def _encoded(model: str, charset: str) -> bytes:
    try:
        return model.encode(charset)
    except UnicodeEncodeError as error:
        raise InvalidModel(f"form field 'model': its charset {charset} can't spell {model!r}", param="model") from error


def _refuse_if_named(request: InferenceRequest, body: bytes | None) -> None:
    """The body was not read. A model server may still find a model in it: in another encoding, in what was not sent to us."""
    if body is None:
        if request.head.headers.get(":method") == b"POST":
            if is_upgrade(request.head):
                raise UnreadableBody("the model is to be renamed in the body, and a connection that is upgraded has none")
            raise BodyNotSeen(
                "this pool rewrites models, and the proxy does not send request bodies; "
                "its request_body_mode must be FULL_DUPLEX_STREAMED or BUFFERED"
            )
        return
    unread = request.unread or ""
    if unread == NOT_JUDGED:
        return
    api = api_of(request.path)
    says_type = unread.startswith("content-type")
    may_name = api is Api.NEEDS_MODEL or (api is Api.READS_MODEL and not says_type)
    if may_name or unread.startswith("content-encoding") or unread == CUT:
        raise UnreadableBody(f"this pool rewrites models, and the body can't be read for its model ({unread})")
