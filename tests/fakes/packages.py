"""Packages of plugins that are installed as far as Python sees it: modules, and metadata with their entry points."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a package, whose `pyproject.toml` names it; returns what to put on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return described(folder)


def described(folder: Path) -> Path:
    """Give a folder with a `pyproject.toml` the metadata that an installation would make of it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project.get("entry-points", {})
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def package(name: str, module: str, text: str, **points: str) -> dict[str, str]:
    """A package of one module; `points` are types, with _ for -, and what they are called in the module."""
    named = "\n".join(f'{kind.replace("_", "-")} = "{module}:{what}"' for kind, what in points.items())
    head = f'[project]\nname = "{name}"\nversion = "1.0"\n\n[project.entry-points."extproc.plugins"]\n{named}\n'
    return {"pyproject.toml": head, f"{module}.py": text}
