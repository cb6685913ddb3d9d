"""Times as people name them."""

from __future__ import annotations

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.moments import moment_ms

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "ahead_minutes", "expected"),
    [
        ("", 0, None),
        (None, 0, None),
        ("2h", 0, (1_800_000_000 - 7200) * 1000),
        ("2026-11-29T09:00:00Z", 330, 1_795_942_800_000),
        ("2026-11-29 09:00", 0, 1_795_942_800_000),
        ("2026-11-29 09:00", 330, 1_795_942_800_000 - 330 * 60_000),
        ("2026-11-29 09:00", -90, 1_795_942_800_000 + 90 * 60_000),
        ("2026-11-29T11:00:00+02:00", -90, 1_795_942_800_000),
        ("2026-11-29 09:00", 100_000, 1_795_942_800_000),
        ("900000000h", 0, 0),
        ("0001-01-01", 0, 0),
    ],
)
def test_moments(text: str | None, ahead_minutes: int, expected: int | None) -> None:
    assert moment_ms("since", text, NOW_S, ahead_minutes) == expected


@pytest.mark.parametrize("text", ["soon", "2026-13-01", "12", "-1h", "0001-01-01T00:00:00+14:00" * 2])
def test_what_is_none_is_told_with_the_field(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^since: got .*; expected a time such as 2026-11-29T09:00:00Z, or a duration such as 2h$"
    ):
        moment_ms("since", text, NOW_S)
