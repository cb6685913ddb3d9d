"""`--database-url`: which store it means."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Final

from extproc.audit.journal import Journal
from extproc.control.store import Store
from extproc.settings.base import SettingsError
from extproc.storage.keep import Keep
from extproc.storage.memory import MemoryStore

EXPECTED: Final = "expected memory:, sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_PORTS: Final = re.compile(r"[0-9]*(,[0-9]*)*")


def open_store(url: str, keep: Keep = Keep(), journal: Journal | None = None) -> Store:
    """The store of this address; `Store.open` connects it. A SQLite file is made when it is not there. `journal`: where changes
    are recorded when there is no database to do that.

    Raises SettingsError, which never has more of the address in it than is no secret.
    """
    found = _SCHEME.match(url)
    if found is None:
        raise _problem(f"has no scheme; {EXPECTED}")
    match found[1].lower():
        case "memory":
            if url.partition(":")[2]:
                raise _problem("has something after memory:, which takes nothing; a file is sqlite:///PATH")
            return MemoryStore(keep, journal)
        case "sqlite":
            return _sqlite(url, keep)
        case "postgresql" | "postgres":
            return _postgres(url, keep)
        case other:
            raise _problem(f"has the unknown scheme {other!r}; {EXPECTED}")


def _problem(what: str) -> SettingsError:
    return SettingsError([f"--database-url: {what}"])


def _needs(scheme: str, module: str, extras: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing = f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else f"{module} cannot be used"
        raise _problem(f"{scheme} is asked for, and {missing}: pip install 'extproc[{extras}]'") from None


def _sqlite(url: str, keep: Keep) -> Store:
    slashes, _, path = url.partition(":")[2].partition("///")
    if slashes or not path or path == ":memory:" or "?" in path:
        raise _problem(
            "sqlite: takes a path and no parameters; expected sqlite:///PATH, with four slashes when it begins at the root, "
            "or memory: for a state that ends with the process"
        )
    _needs("sqlite", "extproc.storage.sqlite", "serving")
    file = Path(path)
    try:
        # As its owner's alone: it may hold what only administrators of the API are to see.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _problem(f"{file} cannot be opened for writing: {error.strerror}") from None
    if not os.access(file.parent, os.W_OK):
        raise _problem(f"{file.parent} is not writable, and SQLite keeps its log beside the file")
    from extproc.storage.sql import SqlStore
    from extproc.storage.sqlite import Sqlite

    return SqlStore(Sqlite(file), keep=keep)


def _postgres(url: str, keep: Keep) -> Store:
    _needs("postgresql", "extproc.storage.sql", "serving,postgres")
    _needs("postgresql", "psycopg", "serving,postgres")
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from extproc.storage.postgres import Postgres
    from extproc.storage.sql import SqlStore

    unreadable = _problem(
        "is not what libpq reads as an address; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, in which special "
        "characters of a password are percent-encoded: @ is %40, / is %2F, : is %3A, ? is %3F, % is %25"
    )
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise unreadable from None
    # A password with a bare / or @ in it is read as something else, and that something must not be shown.
    if not _PORTS.fullmatch(str(given.get("port") or "")) or "@" in f"{given.get('host')}{given.get('dbname')}":
        raise unreadable
    return SqlStore(Postgres(url), keep=keep)
