"""Where desired state is kept: `control.store.RevisionStore` in memory, in a SQLite file, in PostgreSQL.

`open_store(url)` is the way in. Nothing outside this room imports SQLAlchemy, Alembic or a driver, and this one does so only
when a URL asks for a database: the room itself imports without any extra. It knows nothing of what is in the documents.
"""
