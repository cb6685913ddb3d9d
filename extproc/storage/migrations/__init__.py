"""The schema's steps, run by Alembic when a store is opened: `versions/`, a file each, numbered in the order that they run.

A step may only add: while replicas are replaced one by one, the release before it goes on reading and writing.
"""
