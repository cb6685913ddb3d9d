"""Tokens for tests, and a guard that knows them."""

from __future__ import annotations

from extproc.api.auth import Tokens
from extproc.live import LiveWriter
from extproc.settings.tokens import TokenTable, read_tokens
from tests.fakes.clock import FakeClock

ALICE, VICTOR, QUENTIN, TEAM = "dapi-token-of-alice", "dapi-token-of-victor", "dapi-token-of-quentin", "dapi-token-of-team"

ROWS = [
    {"token": ALICE, "subject": "alice@example.com", "role": "manage"},
    {"token": VICTOR, "subject": "victor@example.com", "role": "view"},
    {"token": QUENTIN, "subject": "quentin@example.com", "role": "query", "endpoints": ["chat"]},
    {"token": TEAM, "subject": "team-a", "role": "manage", "endpoints": ["a-*", "shared"]},
]


class Door:
    """A guard, its clock, and the writer of its table."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tokens: LiveWriter[TokenTable] = LiveWriter(read_tokens({"tokens": ROWS}), "API tokens")
        self.guard = Tokens(self.tokens.live, self.clock)
