"""PostgreSQL: one database for several replicas."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, func, select
from sqlalchemy.pool import QueuePool

from extproc.control.store import StoreUnavailable
from extproc.storage.dialect import Limits, WentBack
from extproc.storage.listener import CHANNEL, Listener

_LOCK: Final = int.from_bytes(b"extproc")
"""Of migrations, among the advisory locks of the database."""
_LONGEST_WORDS: Final = 300


class Postgres:
    """The Dialect of PostgreSQL, from 12 on.

    The address goes to libpq as it is, so all of its parameters may be used: several hosts, TLS, a password file.
    """

    reading: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ"}
    writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}  # who waited for the row sees it as it is then

    def __init__(self, url: str, *, limits: Limits = Limits()) -> None:
        """Raises psycopg.ProgrammingError, whose text may have the password in it."""
        given = conninfo_to_dict(url)
        self.label = label_of(given)
        self._limits = limits
        self._secrets = [str(given[key]) for key in ("password", "sslpassword") if given.get(key)]
        self._parameters: dict[str, Any] = {
            "application_name": "extproc",
            "connect_timeout": max(2, round(limits.connect_s)),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": round(limits.statement_s * 1000),
            **given,
            "client_encoding": "utf8",
        }
        self._connected: psycopg.Connection[Any] | None = None

    def engine(self) -> Engine:
        return create_engine(
            "postgresql+psycopg://",  # the address stays out of what SQLAlchemy shows
            creator=self._connect_for_store,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            use_native_hstore=False,
            hide_parameters=True,
        )

    def _connect_for_store(self) -> psycopg.Connection[Any]:
        self._connected = self._connect()
        return self._connected

    def _connect(self) -> psycopg.Connection[Any]:
        """Set up by statements: poolers such as PgBouncer refuse them among the parameters of a connection."""
        connection = psycopg.connect(**self._parameters, prepare_threshold=None)
        try:
            statement_ms = round(self._limits.statement_s * 1000)
            for name, value in (("statement", statement_ms), ("idle_in_transaction_session", 2 * statement_ms)):
                connection.execute("SELECT set_config(%s, %s, false)", [f"{name}_timeout", str(value)])
            # Whoever has set more than `on`, such as remote_apply, keeps that.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            )
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def lock_schema(self, connection: Connection) -> None:
        connection.execute(select(func.set_config("statement_timeout", str(round(self._limits.migrate_s * 1000)), True)))
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))

    def tell(self, connection: Connection) -> None:
        connection.execute(select(func.pg_notify(CHANNEL, "")))

    def why(self, error: Exception) -> str:
        words = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in self._secrets:
            words = words.replace(secret, "***")
        return words if len(words) <= _LONGEST_WORDS else words[:_LONGEST_WORDS] + "..."

    def interrupt(self) -> None:
        if self._connected is not None:
            cut(self._connected)

    async def watch(
        self, number: Callable[[], Awaitable[int]], changed: Callable[[int], None], worked: Callable[[], None]
    ) -> None:
        told = -1
        while True:
            connected = False
            try:
                async with aclosing(Listener(self._connect, cut, self._limits.answer_s).numbers()) as numbers:
                    async for now in numbers:
                        worked()
                        if now < told:
                            raise WentBack(self.label, told, now)
                        if now > told or not connected:
                            changed(now)
                        told, connected = now, True
            except WentBack:
                raise
            except (psycopg.Error, OSError, StoreUnavailable) as error:
                if not connected:
                    raise StoreUnavailable(f"{self.label}: {self.why(error)}") from None
                # It worked, so it may work again: a restart, a failover, a connection that somebody ended.


def label_of(parameters: Mapping[str, Any]) -> str:
    """The address for people, made of what is no secret."""
    user, host, port = (parameters.get(key) for key in ("user", "host", "port"))
    return "postgresql://{}{}{}/{}".format(
        f"{user}@" if user else "", host or "", f":{port}" if port else "", parameters.get("dbname") or ""
    )


def cut(connection: psycopg.Connection[Any]) -> None:
    """Let whoever waits for an answer on it see that it is closed. From any thread."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
