"""What differs between the databases that a `SqlStore` may sit on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from extproc.control.store import StoreUnavailable


class WentBack(StoreUnavailable):
    """The state is an earlier one now: a backup was put back, or a standby that lagged has taken over.

    It ends a watch: whoever watches again takes the number that comes first for true, also when it is lower.
    """

    def __init__(self, label: str, told: int, now: int) -> None:
        super().__init__(f"{label}: its state went back from revision {told} to {now}")


class Limits(NamedTuple):
    """How long a database is waited for."""

    connect_s: float = 2.0
    """For a connection, an address. libpq takes at least 2."""
    statement_s: float = 5.0
    """For a statement, locks included."""
    migrate_s: float = 60.0
    """For the schema: other replicas may be at it, and a step may be long."""

    @property
    def answer_s(self) -> float:
        """For all that one call does."""
        return self.connect_s + self.statement_s


class Dialect(Protocol):
    """One database. All but `watch` and `interrupt` is called in the store's thread."""

    label: str
    """The address, for people: without a password."""
    reading: Mapping[str, Any]
    """SQLAlchemy's options of a connection on which a transaction only reads: it sees one moment."""
    writing: Mapping[str, Any]
    """... on which it changes the state."""

    def engine(self) -> Engine:
        """With one connection at a time, durable commits and `Limits`."""

    def lock_schema(self, connection: Connection) -> None:
        """Keep others from migrating until this transaction ends."""

    def tell(self, connection: Connection) -> None:
        """Let others know when this transaction is committed."""

    def why(self, error: Exception) -> str:
        """An error of SQLAlchemy or the driver in a line: no SQL, no values, no password."""

    def interrupt(self) -> None:
        """Make whatever the store's thread waits for fail."""

    async def watch(
        self, number: Callable[[], Awaitable[int]], changed: Callable[[int], None], worked: Callable[[], None]
    ) -> None:
        """As RevisionStore.watch. `number` asks the store; `worked` is to be called when the database was reached otherwise."""
