"""What Alembic runs: the steps that are missing, on the connection and in the transaction that `storage.migrate` has locked."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table=context.config.attributes["version_table"])
with context.begin_transaction():
    context.run_migrations()
