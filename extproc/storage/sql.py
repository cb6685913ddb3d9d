"""Desired state in a database: one row says the number, and every commit moves it on from the one that was expected."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from extproc.audit.changes import Link
from extproc.control.store import Change, Kept, Revision, State, StoreUnavailable
from extproc.storage import statements
from extproc.storage.dialect import Dialect, Limits
from extproc.storage.gate import Gate
from extproc.storage.keep import Keep, check
from extproc.storage.migrate import migrate
from extproc.storage.tables import STATE
from extproc.storage.worker import Turn, Worker

T = TypeVar("T")


class SqlStore:
    """A RevisionStore on a database. Its statements run in a thread of its own, one transaction after the other."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        keep: Keep = Keep(),
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._dialect = dialect
        self._keep = keep
        self._limits = limits
        self._engine = dialect.engine()
        self._worker: Worker[Any] = Worker("extproc-store", dialect.interrupt)
        self._gate = Gate(clock, draw)
        self._opened = False

    def __repr__(self) -> str:
        return f"<SqlStore {self._dialect.label} {'open' if self._opened else 'not open'}>"

    async def open(self) -> None:
        def bring_up_to_date(connection: Connection) -> None:
            self._dialect.lock_schema(connection)
            migrate(connection, self._dialect.label)

        await self._do(bring_up_to_date, self._dialect.writing, self._limits.migrate_s)
        self._opened = True

    async def load(self) -> State:
        return await self._read(statements.load)

    async def commit(self, expected: int, changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> int:
        check(changes, actor, reason, at_ms)

        def transaction(connection: Connection) -> int:
            number = statements.commit(connection, self._keep, expected, changes, (actor, reason, at_ms))
            if changes:
                self._dialect.tell(connection)
            return number

        return await self._write(transaction)

    async def since(self, number: int) -> Sequence[Revision]:
        return await self._read(lambda connection: statements.since(connection, number))

    async def history(self, endpoint: str, before: int | None = None, limit: int = 50) -> Sequence[Revision]:
        return await self._read(lambda connection: statements.history(connection, endpoint, before, limit))

    async def kept(self) -> Mapping[str, Kept]:
        return await self._read(statements.kept)

    async def keep(self, name: str, expected: int, document: bytes | None) -> int:
        return await self._write(lambda connection: statements.keep(connection, name, expected, document))

    async def changes(self, after: int = 0, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        return await self._read(lambda connection: statements.recorded(connection, after, endpoint, limit))

    async def latest_changes(self, before: int | None = None, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        return await self._read(lambda connection: statements.recorded_last(connection, before, endpoint, limit))

    async def watch(self, changed: Callable[[int], None]) -> None:
        await self._dialect.watch(self._number, changed, self._gate.worked)

    async def close(self) -> None:
        self._opened = False
        await self._worker.close(self._engine.dispose, self._limits.answer_s)

    async def _number(self) -> int:
        return await self._read(lambda connection: connection.execute(select(STATE.c.number)).scalar_one())

    async def _read(self, transaction: Callable[[Connection], T]) -> T:
        return await self._do(self._checked(transaction), self._dialect.reading, self._limits.answer_s)

    async def _write(self, transaction: Callable[[Connection], T]) -> T:
        return await self._do(self._checked(transaction), self._dialect.writing, self._limits.answer_s)

    def _checked(self, transaction: Callable[[Connection], T]) -> Callable[[Connection], T]:
        if not self._opened:
            raise StoreUnavailable(f"{self._dialect.label}: the store is not open")
        return transaction

    async def _do(self, transaction: Callable[[Connection], T], options: Mapping[str, Any], limit_s: float) -> T:
        try:
            answer: T = await self._worker.do(lambda turn: self._run(turn, transaction, options), limit_s)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self._dialect.label}: {error}") from None
        return answer

    def _run(self, turn: Turn, transaction: Callable[[Connection], T], options: Mapping[str, Any]) -> T:
        """In the thread. It is committed when this returns; what it raises of ours has changed nothing."""
        self._gate.check()
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                answer = transaction(connection)
                if turn.given_up:  # the connection that hung was replaced by one that works
                    raise StoreUnavailable("given up")
        except SQLAlchemyError as error:
            self._engine.dispose()  # whatever is wrong with the connection, the next one is another
            raise self._gate.failed(self._dialect.why(error)) from None
        self._gate.worked()
        return answer
