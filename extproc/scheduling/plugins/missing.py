"""Types of upstream's that can't be had here, each with the reason. They load with --allow-missing-plugins, and do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MISSING: Final[Mapping[str, str]] = {}
"""By name. There is none at present."""
