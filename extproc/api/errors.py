"""What a caller is told when a call fails: `{"error_code", "message"}`, whatever it was.

Databricks' clients go by `error_code` before the status (databricks-sdk, `errors/platform.py`), and try again by themselves
after 429 and 503: so these are for what will pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from extproc.control.errors import DeskError, Unavailable
from extproc.settings.base import SettingsError

RETRY_S: Final = 1
"""After which a store, or an API server, that was away is worth another try."""


class ApiError(Exception):
    """A call that was not done. The message is shown to whoever asked: nothing secret is in it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers)


def malformed(message: str) -> ApiError:
    """The body is not the JSON that it should be."""
    return ApiError(400, "MALFORMED_REQUEST", message)


def invalid(message: str) -> ApiError:
    """A rule is broken; the message names the field."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def denied(message: str) -> ApiError:
    """The caller is known, and may not."""
    return ApiError(403, "PERMISSION_DENIED", message)


def missing(message: str) -> ApiError:
    """What the call is about is not there."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def unavailable(message: str) -> ApiError:
    """Somebody who has to be asked can't be asked now."""
    return ApiError(503, "TEMPORARILY_UNAVAILABLE", message, {"Retry-After": str(RETRY_S)})


def internal() -> ApiError:
    """A fault of ours, kept from the caller."""
    return ApiError(500, "INTERNAL_ERROR", "The call failed by a fault of the gateway; its log says more")


def told(error: ApiError | DeskError | SettingsError) -> ApiError:
    """The same error, as callers are told it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Unavailable):
        return unavailable(error.message)
    if isinstance(error, DeskError):
        return ApiError(error.status, error.code, error.message)
    return invalid("; ".join(error.problems))
