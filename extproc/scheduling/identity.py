"""Who a request is of, by what agents say in its headers: `agent-identity`, whose word is the request's fairness id too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.domain import RequestHead

AGENT_HEADERS: Final = ("x-claude-code-session-id", "x-session-affinity", "session-id", "session_id")
"""What agents are known to send (llm-d router `agentidentity`), the first that says something counts."""
LONGEST: Final = 256
"""Characters of an identity that count."""


def identity_of(head: RequestHead, headers: Sequence[str]) -> str:
    """What the first of these headers that says something says; '' when none does. Names are lower case."""
    for name in headers:
        said = head.text(name).strip()
        if said:
            return said[:LONGEST]
    return ""
