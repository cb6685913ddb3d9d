"""SQLite: one file, one machine. Several processes may share it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from extproc.storage.dialect import Limits, WentBack

POLL_S: Final = 0.25
"""Between two looks at the number: others have no way to call us."""
_WAL_BYTES: Final = 16 * 2**20
"""What the log may keep of the disk once it has been larger."""


class Sqlite:
    """The Dialect of SQLite.

    In WAL mode with synchronous=FULL a commit is synced before it returns, and readers and the one writer don't wait for each
    other (https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    reading: Mapping[str, Any] = {}
    writing: Mapping[str, Any] = {"begin": "BEGIN IMMEDIATE"}  # waits for the lock here, where waiting can't deadlock

    def __init__(
        self, path: Path, *, limits: Limits = Limits(), sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """The file must be there; an empty one is a new database."""
        self.label = f"sqlite:///{path}"
        self._path = path
        self._limits = limits
        self._sleep = sleep
        self._connected: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def engine(self) -> Engine:
        engine = create_engine(
            "sqlite://", creator=self._connect, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True
        )
        event.listen(engine, "begin", _begin)
        event.listen(engine, "checkout", self._checkout)
        return engine

    def _connect(self) -> sqlite3.Connection:
        """mode=rw: a file that was removed is not made anew, for then everything would be gone and nobody would know."""
        self._opened = self._identity()
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",
            uri=True,
            timeout=self._limits.statement_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        self._connected = connection
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        give_up = time.monotonic() + self._limits.statement_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                break
            except sqlite3.OperationalError as error:  # another process is at it, for which SQLite does not wait by itself
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise sqlite3.OperationalError(f"its file system allows journal mode {mode} only, and wal is needed")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # of macOS
        connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")

    def _checkout(self, connection: object, record: object, proxy: object) -> None:
        """Nobody finds again what is written to a file that was removed or replaced meanwhile. SQLAlchemy connects anew."""
        if self._identity() != self._opened:
            raise DisconnectionError("the file at this path is another one now")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def lock_schema(self, connection: Connection) -> None:
        """The transaction has the write lock already."""

    def tell(self, connection: Connection) -> None:
        """Others look by themselves."""

    def why(self, error: Exception) -> str:
        return " ".join(str(getattr(error, "orig", None) or error).split())

    def interrupt(self) -> None:
        if self._connected is not None:
            with suppress(sqlite3.ProgrammingError):  # closed
                self._connected.interrupt()

    async def watch(
        self, number: Callable[[], Awaitable[int]], changed: Callable[[int], None], worked: Callable[[], None]
    ) -> None:
        told = -1
        while True:
            now = await number()
            if now < told:
                raise WentBack(self.label, told, now)
            if now != told:
                told = now
                changed(now)
            await self._sleep(POLL_S)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
