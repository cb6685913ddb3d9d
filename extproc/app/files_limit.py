"""How many files the process may have open: a proxy's connections, one for each endpoint's page, and a few."""

from __future__ import annotations

import resource
from typing import Final

from extproc.observability.logs import logger

_log = logger(__name__)

_MOST: Final = 2**20
"""Linux' own maximum unless it is told otherwise (`fs.nr_open`); where there is no limit, so many are plenty."""


def raise_open_files() -> None:
    """Up to the hard limit: the soft one is 1,024 on most machines, for programs that use select(2). Raises nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS has a limit of its own below "unlimited"
            _log.warning("the limit of open files stays as it is", soft=soft, wanted=wanted, error=str(error))


def open_files() -> int | None:
    """The limit in force, None for none."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
