"""A request that somebody only asks about, as JSON: `/debug/explain`, and the API's dry run."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from extproc.domain import RequestHead
from extproc.settings.base import shown

MOST_HEADERS: Final = 100
"""As many as Envoy takes of a request (`max_headers_count`, its default)."""
HELP: Final = (
    'expected a JSON object such as {"path": "/v1/chat/completions", "headers": {}, "body": {"model": "..."}}; '
    "body may also be a string"
)


def problem_of(asked: Any) -> str | None:
    """What is wrong with such a question, None when nothing is."""
    if not isinstance(asked, dict):
        return "not an object"
    unknown = set(asked) - {"path", "method", "headers", "body", "subset"}
    if unknown:
        return f"unknown key {shown(min(unknown))}"
    headers = asked.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        return "headers: expected an object of strings"
    if len(headers) > MOST_HEADERS:
        return f"headers: got {len(headers)}; expected at most {MOST_HEADERS}"
    subset = asked.get("subset")
    if subset is not None and not (isinstance(subset, list) and all(isinstance(hint, str) for hint in subset)):
        return "subset: expected a list of ip:port"
    if not isinstance(asked.get("path", ""), str) or not isinstance(asked.get("method", ""), str):
        return "path and method: expected strings"
    return None


def request_of(asked: dict[str, Any]) -> tuple[RequestHead, bytes | None]:
    """The request in a question that has no problem."""
    body = asked.get("body")
    encoded = b"" if body is None else _bytes_of(body)
    headers = {
        ":method": asked.get("method", "POST" if encoded else "GET"),
        ":path": asked.get("path", "/v1/chat/completions"),
        "content-type": "application/json",
        **{name.lower(): value for name, value in asked.get("headers", {}).items()},
    }
    subset = asked.get("subset")
    head = RequestHead(
        {name: value.encode("latin-1", "replace") for name, value in headers.items()},
        None if subset is None else tuple([_whole(hint) for hint in subset]),
        attempt=1,  # of a serving endpoint: who would be asked first, wherever that is decided
    )
    return head, encoded


def _bytes_of(body: Any) -> bytes:
    """As a client would send it, also what orjson writes not: whole numbers beyond 64 bits and halves of surrogate pairs."""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, separators=(",", ":")).encode()


def _whole(text: str) -> str:
    """Halves of surrogate pairs can't be told in an answer."""
    return text.encode("utf-8", "replace").decode()
