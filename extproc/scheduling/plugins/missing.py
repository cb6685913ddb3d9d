"""Types of upstream's that can't be had here, each with the reason. They load with --allow-missing-plugins, and do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_GPU_PAGES: Final = "an endpoint has one page here, its engine's; what DCGM's exporter says of its GPU is on another"

MISSING: Final[Mapping[str, str]] = {
    "dcgm-data-source": _GPU_PAGES,
    "dcgm-extractor": _GPU_PAGES,
}
"""By name."""
