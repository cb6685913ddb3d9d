"""`extproc new-plugin`: what it writes works as it is, and nothing is written over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extproc.cli import main
from extproc.cli.skeleton import ROLES
from tests.fakes.packages import described


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new-plugin", *arguments])


@pytest.mark.parametrize("role", ROLES)
def test_its_test_passes_and_its_config_is_right(tmp_path: Path, role: str) -> None:
    done = run("my-own", "--role", role, "--into", str(tmp_path))
    assert done.exit_code == 0, done.output
    folder = described(tmp_path / "my-own")
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    for command in (
        ["pytest", "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        ["extproc", "check", "picker.yaml"],
        ["mypy", "--strict", "--cache-dir", os.devnull, "--follow-imports", "silent", "my_own.py"],
        ["ruff", "check", "--no-cache", "--isolated", "--select", "E,F,W,B,UP", "--line-length", "128", "."],
    ):
        ran = subprocess.run([sys.executable, "-m", *command], env=environ, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        if command[0] == "pytest":
            assert " passed" in ran.stdout
        if command[0] == "extproc":
            assert f"  my-own ({role}): mostWaiting 20" in ran.stdout.splitlines()


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = run("mine", "--into", str(tmp_path))
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["Mine", "my_own", "-x", "my--own", "1st", "", "queue-scorer", "class", "test"])
def test_names_that_can_be_none(tmp_path: Path, name: str) -> None:
    done = run("--into", str(tmp_path), "--", name)
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("mine", "--into", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "Traceback" not in done.output
