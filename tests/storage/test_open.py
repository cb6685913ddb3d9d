"""`--database-url`: what each address means, and that no message has a secret of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.settings.base import SettingsError
from extproc.storage.memory import MemoryStore
from extproc.storage.open import open_store
from extproc.storage.sql import SqlStore


def problem(url: str) -> str:
    with pytest.raises(SettingsError) as caught:
        open_store(url)
    (line,) = caught.value.problems
    assert line.startswith("--database-url: ")
    assert caught.value.__cause__ is None
    return line.removeprefix("--database-url: ")


def test_each_scheme_has_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store("memory:"), MemoryStore)
    for url, shown in [
        ("sqlite:///state.db", "sqlite:///state.db"),
        (f"sqlite:///{tmp_path}/50% of it#.db", f"sqlite:///{tmp_path}/50% of it#.db"),
        ("postgresql://db/extproc", "postgresql://db/extproc"),
        ("postgres://ada:secret@db:5433/extproc?sslmode=require", "postgresql://ada@db:5433/extproc"),
        ("postgresql://ada:a%40b@one,two:5433/x?target_session_attrs=read-write", "postgresql://ada@one,two:,5433/x"),
        ("postgresql://ada:a?b@db/x", "postgresql://ada@db/x"),
        ("postgresql:///x?host=/run/postgresql&password=secret", "postgresql:///run/postgresql/x"),
    ]:
        store = open_store(url)
        assert isinstance(store, SqlStore)
        assert repr(store) == f"<SqlStore {shown} not open>"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["50% of it#.db", "state.db"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "has no scheme; expected memory:, sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("s3cret", "has no scheme; "),
        ("/var/lib/s3cret.db", "has no scheme; "),
        ("mysql://ada:s3cret@db/x", "has the unknown scheme 'mysql'; expected memory:, "),
        ("postgresql+asyncpg://ada:s3cret@db/x", "has the unknown scheme 'postgresql+asyncpg'; "),
        ("memory://s3cret", "has something after memory:"),
        ("sqlite:", "sqlite: takes a path and no parameters"),
        ("sqlite://", "sqlite: takes a path"),
        ("sqlite:///", "sqlite: takes a path"),
        ("sqlite:state.db", "sqlite: takes a path"),
        ("sqlite://var/state.db", "sqlite: takes a path"),
        ("sqlite:///:memory:", "sqlite: takes a path"),
        ("sqlite:///x.db?mode=s3cret", "sqlite: takes a path and no parameters"),
        ("postgresql://ada:s3cret/@db/x", "is not what libpq reads as an address; expected postgresql://USER:"),
        ("postgresql://ada:1/s3cret@db/x", "is not what libpq reads"),
        ("postgresql://ada:p@s3cret@db/x", "is not what libpq reads"),
        ("postgresql://ada:%zzs3cret@db/x", "is not what libpq reads"),
        ("postgresql://db/x?s3cret=1", "is not what libpq reads"),
        ("postgresql:db", "is not what libpq reads"),
    ],
)
def test_what_is_wrong_is_said_without_what_may_be_a_password(url: str, says: str) -> None:
    line = problem(url)
    assert line.startswith(says)
    assert "s3cret" not in line


def test_a_folder_that_is_not_there_or_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in [
        (tmp_path / "none/state.db", "No such file or directory"),
        (tmp_path / "file/state.db", "Not a directory"),
        (tmp_path, "Is a directory"),
    ]:
        assert problem(f"sqlite:///{path}") == f"{path} cannot be opened for writing: {why}"


def test_a_folder_that_is_not_writable_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.db").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))  # root may write everywhere

    assert problem(f"sqlite:///{tmp_path}/state.db") == (
        f"{tmp_path} is not writable, and SQLite keeps its log beside the file"
    )


WITHOUT = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""

EXTRAS = ("sqlalchemy", "alembic", "psycopg", "psycopg_binary", "starlette", "uvicorn")

OPENING = """
from extproc.settings.base import SettingsError
from extproc.storage.open import open_store

for url in sys.argv[1:]:
    try:
        print(type(open_store(url)).__name__)
    except SettingsError as error:
        print(error)
"""


def run(code: str, *blocked: str, arguments: tuple[str, ...] = ()) -> str:
    command = [sys.executable, "-c", WITHOUT.format(blocked=blocked) + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_extra_that_is_missing_says_how_to_install_it(tmp_path: Path) -> None:
    urls = ("memory:", f"sqlite:///{tmp_path}/state.db", "postgresql://ada:s3cret@db/x")

    assert run(OPENING, *EXTRAS, arguments=urls).splitlines() == [
        "MemoryStore",
        "--database-url: sqlite is asked for, and sqlalchemy is not installed: pip install 'extproc[serving]'",
        "--database-url: postgresql is asked for, and sqlalchemy is not installed: pip install 'extproc[serving,postgres]'",
    ]
    assert run(OPENING, "psycopg", arguments=urls).splitlines() == [
        "MemoryStore",
        "SqlStore",
        "--database-url: postgresql is asked for, and psycopg is not installed: pip install 'extproc[serving,postgres]'",
    ]


def test_everything_else_imports_without_the_extras() -> None:
    code = """
import extproc
needing = ("extproc.api", "extproc.storage.")
for module in pkgutil.walk_packages(extproc.__path__, "extproc."):
    if not module.name.startswith(needing) and module.name != "extproc.__main__":
        importlib.import_module(module.name)
from extproc.cli import main
import extproc.storage.open, extproc.storage.memory
print("imported")
"""
    assert run(code, *EXTRAS) == "imported\n"
