"""A body whose dialect stays: another model's name, and without the fields that no provider is to see. All else stays."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Mapping
from typing import Final

import orjson

from extproc.domain import RequestHead, Splice
from extproc.errors import InvalidBody, UnreadableBody
from extproc.request.encoding import MAX_INFLATED_BYTES, codings_of, inflate
from extproc.request.prefix import Member, begin_of_object, members_of_prefix
from extproc.request.rename import model_spans

_BOM: Final = codecs.BOM_UTF8
_SPACE: Final = b" \t\r\n"


def plain_json(head: RequestHead, body: bytes, max_bytes: int = MAX_INFLATED_BYTES) -> bytes:
    """The body as JSON in UTF-8 without a mark: itself, when it is that. Raises what `parse` raises for such a body."""
    coding = head.headers.get("content-encoding", b"")
    if coding:
        codings = codings_of(coding)
        if codings is None:
            raise UnreadableBody(
                f"an external model needs the body, and content-encoding {head.text('content-encoding')} hides it"
            )
        if codings:
            body = inflate(body, codings, max_bytes=max_bytes)
    if body.startswith(_BOM):
        return body[len(_BOM) :]
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeError as error:
        raise InvalidBody("the request body has half a surrogate pair, which UTF-8 can't spell") from error


def edits(body: bytes, payload: Mapping[str, object], model: str | None, drop: Collection[str]) -> tuple[Splice, ...]:
    """What changes in `body`, JSON in UTF-8, that `payload` was read from. `model` None: it shall name none.

    All keys of a name change or go, because readers differ on which of several counts.
    """
    gone = [field for field in drop if field in payload]
    if model is None and "model" in payload:
        gone.append("model")
    quoted = None if model is None else orjson.dumps(model)
    if gone:
        return _without(body, set(gone), quoted)
    if quoted is None:
        return ()
    spans = model_spans(body, True) if "model" in payload else []
    if spans:
        return tuple([Splice(begin, end, quoted) for begin, end in spans])
    at = _begin(body)
    return (Splice(at, at, b'"model":' + quoted + (b"" if body[at:].lstrip(_SPACE)[:1] == b"}" else b",")),)


def _without(body: bytes, gone: set[str], quoted: bytes | None) -> tuple[Splice, ...]:
    members = list(members_of_prefix(body))
    kept = [_name(member) not in gone for member in members]
    out: list[Splice] = []
    named = False
    first = next((at for at, keeps in enumerate(kept) if keeps), None)
    if first is None:
        inside = b"" if quoted is None else b'"model":' + quoted
        return (Splice(members[0].begin, members[-1].end, inside),)
    if first > 0:
        out.append(Splice(members[0].begin, members[first].begin, b""))
    for at in range(first, len(members)):
        member = members[at]
        if not kept[at]:
            _remove(out, members[at - 1].end, member.end)
        elif quoted is not None and _name(member) == "model":
            out.append(Splice(member.value, member.end, quoted))
            named = True
    if quoted is not None and not named:
        begin = members[0].begin
        put = b'"model":' + quoted + b","
        if out and out[0].begin == begin:
            out[0] = Splice(begin, out[0].end, put)
        else:
            out.insert(0, Splice(begin, begin, put))
    return tuple(out)


def _remove(out: list[Splice], begin: int, end: int) -> None:
    """Splices stand apart: what touches the one before becomes part of it."""
    if out and out[-1].end == begin:
        last = out.pop()
        out.append(Splice(last.begin, end, last.data))
    else:
        out.append(Splice(begin, end, b""))


def _begin(body: bytes) -> int:
    at = begin_of_object(body)
    assert at is not None, "what was read as an object begins as one"
    return at


def _name(member: Member) -> str:
    if b"\\" not in member.key:
        return member.key[1:-1].decode("utf-8", "replace")
    try:
        return str(orjson.loads(member.key))
    except ValueError:  # half a surrogate pair: none of the names that are looked for
        return ""
