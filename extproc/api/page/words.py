"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "–"
"""Where nobody knows."""


def rate(per_s: float | None) -> str:
    """Of something a second."""
    if per_s is None:
        return NOTHING
    return f"{per_s:.1f}" if per_s < 10 else f"{per_s:,.0f}"


def percent(part: float | None) -> str:
    """A part of 1."""
    if part is None:
        return NOTHING
    return f"{100 * part:.1f} %" if 0 < part < 0.0995 else f"{100 * part:.0f} %"


def seconds(time_s: float | None) -> str:
    """A time of an answer."""
    if time_s is None:
        return NOTHING
    return f"{time_s * 1e3:.0f} ms" if time_s < 0.9995 else f"{time_s:.2f} s"


def count(number: float | None) -> str:
    """Of something that is counted, or the mean of such."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def age(age_s: float | None) -> str:
    """Of something that should be new. Below a second it is, and does not flicker."""
    if age_s is None:
        return "never"
    if age_s < 1:
        return "< 1 s"
    return f"{age_s:.0f} s" if age_s < 120 else f"{age_s / 60:,.0f} min"


def buckets(number: int) -> str:
    """Of 10,000, in percent."""
    return f"{number / 100:g} %"


def moment(at_ms: int) -> str:
    """ISO 8601, for `<time datetime>`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(at_ms: int) -> str:
    """For who has no script that puts it into the reader's own zone."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
