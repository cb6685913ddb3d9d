"""Desired state: which serving endpoints there are, who said so, and what was there before.

Files, ConfigMaps and the REST API feed one desk. It validates, compiles, stores, and then swaps the table that requests read.
This room knows no SQL and no HTTP: where the state lies is behind `store.RevisionStore`, who asks for a change is above.
"""
