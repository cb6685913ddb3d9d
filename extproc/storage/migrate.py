"""The schema, brought up to date when a store is opened."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from extproc.control.store import SchemaTooNew
from extproc.storage.tables import VERSION_TABLE

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_alembic = threading.Lock()
"""Alembic's context is one for the process, and two stores may be opened at once."""


def migrate(connection: Connection, label: str, folder: Path = MIGRATIONS) -> None:
    """Run the steps of `folder` that the database has not had. `connection` is in a transaction that keeps others out.

    Raises SchemaTooNew when it has had a step that is not there. All of it is one transaction, in both databases: what fails
    half way leaves nothing.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    steps = ScriptDirectory.from_config(config)
    known = [step.revision for step in steps.walk_revisions()]  # the newest first
    found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if found is not None and found not in known:
        raise SchemaTooNew(
            f"{label}: its schema has version {found}, and this release of extproc knows versions up to {known[0]}; "
            "run the newer release, or restore a backup that was made before it"
        )
    if found != known[0]:
        with _alembic:
            command.upgrade(config, "head")
