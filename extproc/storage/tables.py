"""The tables as this release reads and writes them. `migrations/` makes them; a test holds the two together.

The names begin with `extproc_`, for a database may be shared: MLflow has an `endpoints` of its own, and every user of
Alembic an `alembic_version`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

VERSION_TABLE: Final = "extproc_schema"
"""Where Alembic keeps the schema's version."""

METADATA: Final = MetaData()
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

STATE: Final = Table(
    "extproc_state",
    METADATA,
    Column("one", SmallInteger, CheckConstraint("one = 1", name="extproc_state_one"), primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("forgotten", BigInteger, nullable=False),
)
"""One row. `number` is that of the last revision, `forgotten` the highest of those that history no longer has."""

ENDPOINTS: Final = Table(
    "extproc_endpoints",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("number", BigInteger, nullable=False),
)
"""What is in force: each endpoint's document, and the number of the revision that it came with."""

REVISIONS: Final = Table(
    "extproc_revisions",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("endpoint", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("document", LargeBinary),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""History: never changed, and dropped at its old end."""

KEPT: Final = Table(
    "extproc_kept",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
)
"""What goes on beside the desired state, such as rollouts. It has no history."""

CHANGES: Final = Table(
    "extproc_changes",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("endpoint", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
"""The audit: a record of each change, chained by hashes. Never changed and never dropped."""

Index("extproc_changes_of_endpoint", CHANGES.c.endpoint, CHANGES.c.number)
Index("extproc_revisions_of_endpoint", REVISIONS.c.endpoint, REVISIONS.c.number)
Index(
    "extproc_revisions_deleting",
    REVISIONS.c.number,
    sqlite_where=REVISIONS.c.document.is_(None),
    postgresql_where=REVISIONS.c.document.is_(None),
)
