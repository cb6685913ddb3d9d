"""The rules about imports bite, and the docs are what the code says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from extproc.cli.options import flag_of, is_hidden
from extproc.settings.commands import SERVERS

ROOT = Path(__file__).resolve().parent.parent


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder), "NO_COLOR": "1"}, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "extproc", tmp_path / "extproc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("extproc/protocol/stream.py", "import asyncio"),
        ("extproc/scheduling/scheduler.py", "from extproc.pool import PoolStore"),
        ("extproc/domain.py", "from extproc.settings import base"),
        ("extproc/pool/store.py", "import structlog"),
    ],
)
def test_a_planted_violation_is_found(copy: Path, module: str, line: str) -> None:
    path = copy / module
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def test_each_flag_of_a_server_stands_once_in_the_docs() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    tables = re.findall(r"<!-- generated: \w+-flags -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = Counter(re.findall(r"^\| `--([\w-]+)`", "".join(tables), re.MULTILINE))
    taken = {
        flag_of(field, info) for model in SERVERS.values() for field, info in model.model_fields.items() if not is_hidden(info)
    }
    assert set(rows) == taken
    assert {flag for flag, times in rows.items() if times > 1} == {"config-file"}, "another file for each of two commands"


def test_generated_docs_are_current() -> None:
    done = subprocess.run([sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
