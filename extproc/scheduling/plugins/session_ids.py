"""Which session a request is of, and which agent."""

from __future__ import annotations

from typing import Final

from extproc.candidates import Candidates
from extproc.domain import RequestHead
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import AGENT, SESSION
from extproc.scheduling.identity import AGENT_HEADERS, identity_of
from extproc.scheduling.plugins.base import PRODUCER, Kit, PluginType
from extproc.scheduling.plugins.parameters_sessions import SESSION_HEADER, AgentIdentityParameters, SessionIdParameters


def cookie(head: RequestHead, name: str) -> str:
    """The first cookie of this name (RFC 6265, section 4.2.1), without quotes around it; '' when there is none."""
    for pair in head.text("cookie").split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            value = value.strip()
            return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return ""


class SessionId:
    """`session-id-producer`."""

    def __init__(self, header: str, cookie_name: str, body_field: str) -> None:
        """'' for where it is not looked for."""
        self._header = header.lower()
        self._cookie = cookie_name
        self._field = body_field

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        asked = cycle.asked
        if self._field and asked.payload is not None:
            value = asked.payload.get(self._field)
            if isinstance(value, str) and value.strip():
                return value.strip()
        if self._header:
            return asked.head.text(self._header).strip()
        return cookie(asked.head, self._cookie) if self._cookie else ""


class AgentIdentity:
    """`agent-identity`."""

    def __init__(self, headers: tuple[str, ...]) -> None:
        self._headers = headers

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        return identity_of(cycle.asked.head, self._headers)


def agent_headers(parameters: AgentIdentityParameters) -> tuple[str, ...]:
    """Where an agent's identity is looked for, in order."""
    return (*[name.strip().lower() for name in parameters.additional_session_headers], *AGENT_HEADERS)


def _session_id(parameters: SessionIdParameters, kit: Kit) -> SessionId:
    header, name, field = parameters.header_name, parameters.cookie_name, parameters.body_field
    if header is None and name is None and field is None:
        header = SESSION_HEADER
    return SessionId((header or "").strip(), (name or "").strip(), (field or "").strip())


TYPES: Final = (
    PluginType(
        "session-id-producer",
        PRODUCER,
        "the body's `bodyField`, else the header or cookie",
        SessionIdParameters,
        _session_id,
        provides=SESSION,
    ),
    PluginType(
        "agent-identity",
        PRODUCER,
        "the first of `additionalSessionHeaders` and of what agents send that says something: `x-claude-code-session-id`, "
        "`x-session-affinity`, `session-id`, `session_id`; it is "
        "the fairness id of requests without one",
        AgentIdentityParameters,
        lambda parameters, kit: AgentIdentity(agent_headers(parameters)),
        provides=AGENT,
    ),
)
