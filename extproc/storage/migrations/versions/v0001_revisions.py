"""Endpoints, their revisions, and the number of the whole state."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Three empty tables, and the state's one row."""
    state = op.create_table(
        "extproc_state",
        sa.Column("one", sa.SmallInteger(), sa.CheckConstraint("one = 1", name="extproc_state_one"), autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("forgotten", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(state, [{"one": 1, "number": 0, "forgotten": 0}])
    op.create_table(
        "extproc_endpoints",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "extproc_revisions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("extproc_revisions_of_endpoint", "extproc_revisions", ["endpoint", "number"])
    op.create_index(
        "extproc_revisions_deleting",
        "extproc_revisions",
        ["number"],
        sqlite_where=sa.text("document IS NULL"),
        postgresql_where=sa.text("document IS NULL"),
    )
