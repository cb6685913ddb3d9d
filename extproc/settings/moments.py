"""Times as people name them: a moment, or a duration before now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from extproc.settings.base import SettingsError, parse_duration_s, shown

_LAST_MS = 253_402_300_799_999
_MOST_MINUTES = 14 * 60


def moment_ms(field: str, text: str | None, now_s: float, ahead_minutes: int = 0) -> int | None:
    """In Unix milliseconds; None where nothing is said. A time without a zone is one of a zone that is so far ahead of UTC.

    Raises SettingsError that names the field.
    """
    if not text:
        return None
    try:
        return max(0, int((now_s - parse_duration_s(text)) * 1000))
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
        here = timezone(timedelta(minutes=ahead_minutes)) if 0 < abs(ahead_minutes) <= _MOST_MINUTES else UTC
        moment = int((at if at.tzinfo is not None else at.replace(tzinfo=here)).timestamp() * 1000)
    except (ValueError, OverflowError):
        words = f"{field}: got {shown(text)}; expected a time such as 2026-11-29T09:00:00Z, or a duration such as 2h"
        raise SettingsError([words]) from None
    return min(max(0, moment), _LAST_MS)
