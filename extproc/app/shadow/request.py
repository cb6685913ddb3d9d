"""A client's request as its shadow's model server gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from extproc import names
from extproc.app.shadow.place import NotSent
from extproc.domain import InferenceRequest, spliced
from extproc.errors import ExtProcError
from extproc.names import SHADOW_HEADER
from extproc.request import ParseOptions, as_served
from extproc.stages import Copy, PoolOfEndpoints

UNREADABLE: Final = "unreadable"
COPIED: Final = (
    "content-type",
    "content-encoding",
    "content-language",
    "accept",
    "accept-language",
    "user-agent",
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
)
"""Headers of the client that every copy has: what says how the body is to be read. No credentials, cookies or addresses."""
_PATH: Final = ":path"
_NO_LINE: Final = frozenset(map(chr, (*range(0x21), 0x7F)))


class Served(NamedTuple):
    """A copy as far as it is known before somebody is chosen to serve it."""

    request: InferenceRequest
    """With the model that serves, for the scheduler."""
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


def served(copy: Copy, pool: PoolOfEndpoints, draw: Callable[[], float], options: ParseOptions) -> Served:
    """The copy with the model, the path and the body that the shadow's model server takes. Raises NotSent."""
    request, entity = copy.request, copy.entity
    split = pool.traffic.rewrites.value.split_of(entity.model)
    target = entity.model if split is None else split.draw(draw) or entity.model
    try:
        change = as_served(request, copy.body, True, target, entity.path, options)
    except ExtProcError:
        raise NotSent(UNREADABLE) from None
    given = dict(change.set_headers)
    path = next((value for name, value in given.items() if name.lower() == _PATH), request.head.text(_PATH))
    if not path.startswith("/") or not _NO_LINE.isdisjoint(path):
        raise NotSent(UNREADABLE)
    wanted = (*COPIED, *copy.shadow.copy_headers)
    kept = [(name, request.head.text(name)) for name in wanted if name in request.head.headers]
    headers = [(name, value) for name, value in kept if name not in change.remove_headers]
    body = spliced(copy.body, change.splices) if change.splices else copy.body
    return Served(request._replace(model=target), path, body, tuple(headers))


def written(asked: Served, copy: Copy, authority: str, more: tuple[tuple[str, str], ...]) -> bytes:
    """The request's bytes; `more` headers are the scheduler's."""
    request_id = copy.request.head.text(names.REQUEST_ID_HEADER)
    headers = [
        ("host", authority),
        *asked.headers,
        ("content-length", str(len(asked.body))),
        ("accept-encoding", "identity"),
        (SHADOW_HEADER, f"{copy.endpoint.name}/{copy.entity.name}"),
        *([(names.REQUEST_ID_HEADER, f"{request_id}-shadow")] if request_id else []),
        *more,
    ]
    lines = [f"POST {asked.path} HTTP/1.1", *[f"{name}: {_one_line(value)}" for name, value in headers], "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + asked.body


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
