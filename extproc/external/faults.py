"""What went wrong at a provider, in the client's words.

A provider that refuses our credential is our fault and not the client's: 401 and 403 become 502, and nothing of what the
provider says about the key is told. Other errors keep their status and their message; 529 (Anthropic's "overloaded") is 503 to
who does not speak Anthropic's dialect.

https://platform.openai.com/docs/guides/error-codes, https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from extproc.credentials import Secret, redacted
from extproc.external.dialects import ErrorShape

_MOST_CHARS: Final = 2000
"""Of a provider's message."""
OVERLOADED: Final = 529

_ANTHROPIC: Final = {
    400: "invalid_request_error",
    402: "billing_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    503: "overloaded_error",
    OVERLOADED: "overloaded_error",
}
_DATABRICKS: Final = {
    400: "INVALID_PARAMETER_VALUE",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": OVERLOADED,
}
"""For errors inside a stream, which have no status."""


class Fault(NamedTuple):
    """One error, of no dialect."""

    status: int
    message: str
    code: str = ""
    """The provider's own word for it, where it has one."""


def status_for_client(status: int, shape: ErrorShape) -> int:
    """The status that the client gets for a provider's that is no success."""
    if status in (401, 403, 407) or not 400 <= status <= 599:
        return 502
    if status == OVERLOADED and shape is not ErrorShape.ANTHROPIC:
        return 503
    return status


def fault_of_answer(status: int, body: bytes, provider: str, secrets: tuple[Secret, ...] = ()) -> Fault:
    """From an answer that is no success. `body` may be anything."""
    if status in (401, 403, 407):
        return Fault(502, f"{provider} refused the gateway's credential ({status})", "provider_auth")
    if not 400 <= status <= 599:
        return Fault(502, f"{provider} answered {status}", "provider_error")
    message, code = said(_loaded(body))
    return Fault(status, redacted(message, secrets) or f"{provider} answered {status}", code)


def fault_of_event(document: dict[str, Any], provider: str, secrets: tuple[Secret, ...] = ()) -> Fault:
    """From an error event inside a stream."""
    error = document.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    status = _STATUS_OF_TYPE.get(kind, 500) if isinstance(kind, str) else 500
    if status in (401, 403):
        return fault_of_answer(status, b"", provider)
    message, code = said(document)
    return Fault(status, redacted(message, secrets) or f"{provider} ended the stream with an error", code)


def said(document: object) -> tuple[str, str]:
    """The message and the code of an error in any of the shapes; '' for what it does not say."""
    if not isinstance(document, dict):
        return "", ""
    error = document.get("error")
    if isinstance(error, str):
        return error[:_MOST_CHARS], ""
    inner = error if isinstance(error, dict) else document
    message = inner.get("message") or inner.get("detail")
    code = inner.get("code") or inner.get("error_code")
    return (message[:_MOST_CHARS] if isinstance(message, str) else ""), (code[:64] if isinstance(code, str) else "")


def written(fault: Fault, shape: ErrorShape) -> bytes:
    """The document that the client gets."""
    status = fault.status
    if shape is ErrorShape.ANTHROPIC:
        kind = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": fault.message}})
    if shape is ErrorShape.DATABRICKS:
        code = _DATABRICKS.get(status, "INVALID_PARAMETER_VALUE" if status < 500 else "INTERNAL_ERROR")
        return orjson.dumps({"error_code": code, "message": fault.message})
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    code_or_none = fault.code or None
    return orjson.dumps({"error": {"message": fault.message, "type": kind, "param": None, "code": code_or_none}})


def _loaded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        return None
