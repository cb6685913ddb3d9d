"""A request to a serving endpoint, as the model server of the served entity takes it: another path, another model's name.

Databricks' query API takes every body at `…/invocations`. Those in a shape of OpenAI's go to the API that has it; all others go
on byte for byte to the path that the entity's model server takes them at.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from extproc.domain import InferenceRequest, RequestHead
from extproc.errors import BodyNotSeen, UnreadableBody
from extproc.media import is_json, media_type
from extproc.names import INVOCATIONS
from extproc.request.parse import ParseOptions, is_upgrade, parse
from extproc.request.rename import PATHS, Renamed, renamed

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"


class Address(NamedTuple):
    """What a path of a serving endpoint says beside the endpoint's name."""

    entity: str = ""
    """The served entity that is asked alone, '' when the split decides."""
    api: str = ""
    """The model server's path when the path says it, '' when the body's shape does."""


_INVOCATIONS: Final = re.compile(
    r"/serving-endpoints/[^/]+(?:/served-(?:models|entities)/(?P<entity>[^/]+))?/invocations\Z"
    r"|/(?:endpoints|gateway)/[^/]+/invocations\Z"
)
_OPENAI: Final = re.compile(r"/serving-endpoints(?:/v1)?(?P<api>/(?:chat/completions|completions|embeddings|responses))\Z")


@lru_cache(maxsize=1024)
def address_of(path: str) -> Address | None:
    """What a path without its query string says; None when it is not of a serving endpoint's own."""
    if path.endswith(INVOCATIONS):
        match = _INVOCATIONS.search(path)
        return None if match is None else Address(entity=unquote(match["entity"] or ""))
    match = _OPENAI.search(path)
    return None if match is None else Address(api=f"/v1{match['api']}")


def as_served(
    request: InferenceRequest, body: bytes | None, complete: bool, model: str, others: str, options: ParseOptions
) -> Renamed:
    """The changes that make the request one for `model`. `request` is what `parse` made of `body` and `complete`.

    `others` is the model server's path for bodies that are in no shape of OpenAI's. Raises as `renamed` does, and
    UnreadableBody or BodyNotSeen when the shape of the body can't be told.
    """
    address = address_of(request.path) if request.path.endswith(INVOCATIONS) or "/serving-endpoints" in request.path else None
    if address is None:
        return Renamed() if model == request.model else renamed(request, body, complete, model, options)
    path = address.api or _api_of_body(request, body, complete, options)
    if not path:
        return Renamed(set_headers=(_with_query(request.head, others),))
    header = _with_query(request.head, path)
    named = request.model if address.api else _model_in(request)
    change = renamed(_at(request, header, path, named), body, complete, model, options)
    return change._replace(set_headers=(header, *change.set_headers))


def _api_of_body(request: InferenceRequest, body: bytes | None, complete: bool, options: ParseOptions) -> str:
    """The API whose shape the body has, '' for none."""
    payload = request.payload
    if payload is None:
        _refuse_if_shaped(request, body, complete, options)
        return ""
    if "messages" in payload:
        return CHAT
    if "prompt" in payload:
        return COMPLETIONS
    if "input" not in payload:
        return ""
    asked = payload["input"]
    is_turns = isinstance(asked, list) and bool(asked) and isinstance(asked[0], dict)
    return RESPONSES if is_turns else EMBEDDINGS


def _refuse_if_shaped(request: InferenceRequest, body: bytes | None, complete: bool, options: ParseOptions) -> None:
    """The body was not read: it must not go on as if it were in no shape when it may be in one."""
    head = request.head
    if body is None:
        if head.headers.get(":method") == b"POST":
            if is_upgrade(head):
                raise UnreadableBody("a serving endpoint is asked by the body, and a connection that is upgraded has none")
            raise BodyNotSeen(
                "a serving endpoint is asked by the body, and the proxy does not send request bodies; "
                "its request_body_mode must be FULL_DUPLEX_STREAMED or BUFFERED"
            )
        return
    kind = media_type(head.headers.get("content-type", b""))
    if not body or (kind and not is_json(kind)):
        return
    unread = request.unread or ""
    if not complete:
        raise UnreadableBody("a serving endpoint is asked by the whole body, and the proxy sends only its beginning")
    if unread.startswith("content-encoding"):
        raise UnreadableBody(f"a serving endpoint is asked by the body, which can't be read ({unread})")
    if unread:
        parse(_at(request, _with_query(head, CHAT), CHAT, None).head, body, options=options)  # raises, and says what is wrong


def _model_in(request: InferenceRequest) -> str | None:
    payload = request.payload
    model = None if payload is None else payload.get("model")
    return model if isinstance(model, str) and model else None


def _at(request: InferenceRequest, header: tuple[str, str], path: str, model: str | None) -> InferenceRequest:
    """The same request at another path."""
    headers = {**request.head.headers, header[0]: header[1].encode("latin-1")}
    return request._replace(head=request.head._replace(headers=headers), path=path, model=model, by_query=False)


def _with_query(head: RequestHead, path: str) -> tuple[str, str]:
    """The header that has the path, with another path and the same query string."""
    name = next((name for name in PATHS if head.headers.get(name)), PATHS[0])
    _, mark, query = head.text(name).partition("?")
    return name, f"{path}{mark}{query}"
