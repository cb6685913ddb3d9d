"""What every store agrees on: how much history is kept, and what text it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc.control.store import Change

MOST: Final = 2**63 - 1
"""Of a number or a time: what both databases can hold."""


class Keep(NamedTuple):
    """How much history there is at most. What is in force is never part of it.

    So a store has at most (endpoints + `deleted`) * `revisions` revisions, and whoever missed fewer changes than the smaller
    of the two can always catch up by `since`.
    """

    revisions: int = 1_000
    """Of each endpoint, the newest; at least 1."""
    deleted: int = 1_000
    """Endpoints that were deleted and keep their history, those deleted last; at least 1."""


def check(changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> None:
    """Raises ValueError for what one of the databases could not hold. Whoever decides on changes refuses it before."""
    if not 0 <= at_ms <= MOST:
        raise ValueError(f"at_ms: got {at_ms}; expected Unix milliseconds")
    texts = [("actor", actor), ("reason", reason)]
    for change in changes:
        texts += [("endpoint", change.endpoint), ("kind", change.kind)]
    for field, text in texts:
        if "\0" in text or not _is_unicode(text):
            raise ValueError(f"{field}: has NUL or half a surrogate pair; expected text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
