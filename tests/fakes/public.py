"""Public files that are data beside the repository, not in it: where they are, or nowhere."""

from __future__ import annotations

from pathlib import Path

_DATA = Path("shared", "fixtures", "picker-configs")


def public_configs() -> list[Path]:
    """Upstream's and others' `EndpointPickerConfig`s, in a folder `shared` of some folder above."""
    folders = [parent / _DATA for parent in Path(__file__).resolve().parents]
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.yaml"))]
