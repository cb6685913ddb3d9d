"""Try it: what a request would be told now, without sending it."""

from __future__ import annotations

import re
from typing import Any, Final

from extproc.api.answers import Answer
from extproc.api.decided import explained
from extproc.api.errors import ApiError, invalid
from extproc.api.page import decided
from extproc.api.page.visit import Visit, lines
from extproc.api.page.visitor import token_of
from extproc.control.errors import DeskError
from extproc.request.asked import MOST_HEADERS, request_of
from extproc.settings.base import shown

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_LONGEST: Final = 2048
_FEW: Final = 20
_CHAT: Final = """{
  "messages": [{"role": "user", "content": "Hello"}],
  "max_tokens": 64
}"""
_COMPLETION: Final = """{
  "prompt": "Once upon a time",
  "max_tokens": 64
}"""
_STREAM: Final = """{
  "messages": [{"role": "user", "content": "Hello"}],
  "stream": true
}"""
EXAMPLES: Final = {
    "chat": ("a chat", "x-user-id: ada", _CHAT),
    "stream": ("a stream", "x-user-id: grace", _STREAM),
    "completion": ("a completion", "", _COMPLETION),
}
"""What each is called, its headers and its body."""


async def form(visit: Visit) -> Answer:
    """The form, with an example for the endpoint in the query."""
    endpoint = visit.query("endpoint")[:256]
    name = visit.query("example") if visit.query("example") in EXAMPLES else "chat"
    _, headers, body = EXAMPLES[name]
    if not endpoint:
        names = list(await visit.caller.sees([each.name for each in visit.inside.desk.list()[:_FEW]]))
        endpoint = names[0] if names else ""
    path = f"/serving-endpoints/{endpoint}/invocations" if endpoint else "/v1/chat/completions"
    return _page(visit, {"path": path, "headers": headers, "body": body}, endpoint)


async def tried(visit: Visit) -> Answer:
    """What would be decided."""
    given = {name: visit.form.get(name, "") for name in ("path", "headers", "body")}
    try:
        head, body = request_of(_question(given))
        token = token_of(visit.request.headers)
        told = await explained(visit.inside, visit.caller, head, body, f"Bearer {token}".encode("latin-1") if token else b"")
    except (ApiError, DeskError) as error:
        if visit.partly:
            return visit.show("problems.html", error.status, problems=lines([error.message]))
        return _page(visit, given, "", error.status, problems=lines([error.message]))
    endpoint = told.get("FindEndpoint", {}).get("endpoint") or ""
    record = next((each for each in visit.inside.desk.list() if each.name == endpoint), None)
    detail = decided.of_told(told, 0 if record is None else record.config_version)
    if visit.partly:
        return visit.show("decided.html", details=[detail], request_id="", notes=[])
    return _page(visit, given, endpoint, details=[detail])


def _page(visit: Visit, given: dict[str, str], endpoint: str, status: int = 200, **more: Any) -> Answer:
    examples = [(name, words) for name, (words, _, _) in EXAMPLES.items()]
    values = {"details": [], "problems": [], "request_id": "", "notes": [], **more}
    return visit.show("try.html", status, given=given, endpoint=endpoint, examples=examples, **values)


def _question(given: dict[str, str]) -> dict[str, Any]:
    """As `POST :try` has it. Raises ApiError with the field."""
    path = given["path"].strip()
    if not path.startswith("/") or len(path) > _LONGEST or any(ord(letter) < 33 for letter in path):
        raise invalid(f"path: got {shown(path)}; expected one such as /serving-endpoints/NAME/invocations")
    headers: dict[str, str] = {}
    for number, line in enumerate(given["headers"].splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()):
            raise invalid(f"headers: line {number}: got {shown(line.strip())}; expected `name: value`")
        headers[name.strip().lower()] = value.strip()
    if len(headers) > MOST_HEADERS:
        raise invalid(f"headers: got {len(headers)}; expected at most {MOST_HEADERS}")
    body = given["body"]
    return {"path": path, "headers": headers, **({"body": body} if body.strip() else {})}
