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


@pytest.mark.long
@pytest.mark.timeout(300)  # mypy reads all of its imports anew
def test_its_tests_pass_and_its_config_is_right(tmp_path: Path) -> None:
    """One of each role; all at once, as types and tests of one take as long as those of all."""
    folders = {}
    for role in ROLES:
        done = run(f"my-own-{role}", "--role", role, "--into", str(tmp_path))
        assert done.exit_code == 0, done.output
        folders[role] = described(tmp_path / f"my-own-{role}")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders.values()))}
    modules = [str(folder / f"my_own_{role}.py") for role, folder in folders.items()]
    pickers = [str(folder / "picker.yaml") for folder in folders.values()]
    for command in (
        ["pytest", "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        ["extproc", "check", *pickers],
        ["mypy", "--strict", "--cache-dir", os.devnull, "--follow-imports", "silent", *modules],
        ["ruff", "check", "--no-cache", "--isolated", "--select", "E,F,W,B,UP", "--line-length", "128", "."],
    ):
        ran = subprocess.run([sys.executable, "-m", *command], env=environ, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        if command[0] == "pytest":
            assert " passed" in ran.stdout
        if command[0] == "extproc":
            assert {f"  my-own-{role} ({role}): mostWaiting 20" for role in ROLES} <= set(ran.stdout.splitlines())


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
