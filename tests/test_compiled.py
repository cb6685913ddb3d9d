"""What `scripts/compile` makes: the hot path as machine code, and nothing else."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from extproc import compiled
from extproc.cli import main

ROOT = Path(__file__).parents[1]


def hook() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: dict[str, Any] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    return found


def chosen() -> list[Path]:
    """The modules that are to be compiled."""
    found: list[Path] = []
    for pattern in hook()["include"]:
        path = ROOT / pattern.strip("/")
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    excluded = {pattern.strip("/") for pattern in hook()["exclude"]}
    return [path for path in found if path.name not in excluded and str(path.relative_to(ROOT)) not in excluded]


def test_every_pattern_names_something() -> None:
    for pattern in (*hook()["include"], *hook()["exclude"]):
        assert pattern == "__init__.py" or (ROOT / pattern.strip("/")).exists(), pattern


def test_it_is_off_unless_asked_for() -> None:
    """An editable install and a wheel made on a machine without a compiler must work."""
    assert hook()["enable-by-default"] is False


@pytest.mark.skipif(not compiled(), reason="for scripts/test-compiled")
def test_all_that_was_chosen_is_compiled() -> None:
    assert len(chosen()) > 40
    for path in chosen():
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert module.__file__ is not None
        assert module.__file__.endswith(".so"), path


def test_the_version_says_which() -> None:
    said = CliRunner().invoke(main, ["--version"]).output
    assert said.endswith("(compiled)\n" if compiled() else "(not compiled)\n")
    assert compiled() == bool(list((ROOT / "extproc" / "transport").glob("session.*.so")))
