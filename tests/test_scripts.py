"""`--help` of every script says how it is called and does nothing else; the README knows them all."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix != ".md")


@pytest.mark.parametrize("asked", ["--help", "-h"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_help_prints_the_usage_and_does_nothing_else(name: str, asked: str, tmp_path: Path) -> None:
    # A copy of the scripts alone: whatever one began to do would fail here, or leave a file.
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(tmp_path.rglob("*"))
    script = tmp_path / "scripts" / name
    command = [sys.executable, "-B", str(script)] if name.endswith(".py") else [str(script)]
    done = subprocess.run([*command, asked], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    usage, _, says = done.stdout.partition("\n")
    assert re.fullmatch(rf"usage: .*scripts/{re.escape(name)}( .*)?", usage)
    assert len(says.split()) >= 5
    assert sorted(tmp_path.rglob("*")) == before


def test_the_readme_has_a_line_for_each_script() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", (ROOT / "scripts/README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == SCRIPTS
