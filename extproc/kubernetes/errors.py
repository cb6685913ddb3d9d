"""What can go wrong with the API server.

KubeError
├── KubeConfigError     no usable credentials: found at start, one line that names the file or the variable
├── ApiUnreachable      no answer: refused, reset, timed out, TLS
└── ApiError            an answer that says no, by its HTTP status
"""

from __future__ import annotations


class KubeError(Exception):
    """Anything of this room."""


class KubeConfigError(KubeError):
    """Credentials that can't be found or read. The text is one line for whoever started us."""


class ApiUnreachable(KubeError):
    """There was no whole answer. The text says why in a few words."""


class ApiError(KubeError):
    """The API server's `Status` (or an answer that should have been one)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if message else f"{status} {reason}")
        self.status = status
        """HTTP status, 400..599."""
        self.reason = reason
        """Kubernetes' word for it: Forbidden, NotFound, Conflict, AlreadyExists, Expired, Gone, Unauthorized, ..."""
        self.message = message
