"""What a desk refuses, with Databricks' status and code for it.

    DeskError
    ├── InvalidParameter   400 INVALID_PARAMETER_VALUE   a rule is broken; all problems, each with its field
    ├── DoesNotExist       404 RESOURCE_DOES_NOT_EXIST
    ├── AlreadyExists      409 RESOURCE_ALREADY_EXISTS
    ├── Conflict           409 RESOURCE_CONFLICT         a stale `config_version`, or somebody else's endpoint
    └── Unavailable        503 TEMPORARILY_UNAVAILABLE   the store is away: nothing is changed, try again

Their clients go by the code before the status (databricks-sdk, `errors/platform.py`), and try again after a 503 by themselves:
so that is for what will pass, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final


class DeskError(Exception):
    """A change that was not made. The message is shown to whoever asked for it, and holds no secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems) or (message,)
        """A line each."""


class InvalidParameter(DeskError):
    """What is asked for breaks rules."""

    status = 400
    code = "INVALID_PARAMETER_VALUE"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems), problems)


class DoesNotExist(DeskError):
    """There is no such endpoint, or no such version of it."""

    status = 404
    code = "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(DeskError):
    """There is one of that name."""

    status = 409
    code = "RESOURCE_ALREADY_EXISTS"


class Conflict(DeskError):
    """Somebody else's: a change that was made meanwhile, or the endpoint itself."""

    status = 409
    code = "RESOURCE_CONFLICT"


class Unavailable(DeskError):
    """The store can't be asked now."""

    status = 503
    code = "TEMPORARILY_UNAVAILABLE"


TABLE: Final = (InvalidParameter, DoesNotExist, AlreadyExists, Conflict, Unavailable)
