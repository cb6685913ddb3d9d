"""Parameters of what keeps the requests of a session together, and of who says which session a request is of."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from extproc.scheduling.facts import AGENT, SESSION
from extproc.scheduling.plugins.parameters import Parameters

ATTRIBUTES: Final = {"agent-identity": AGENT, "SessionID": SESSION, "session-id": SESSION}
"""Upstream's names of what a request is known by, and what provides them here."""
DEFAULT_TTL_S: Final = 300.0
DEFAULT_SWEEP_S: Final = 10.0
SESSION_HEADER: Final = "x-session-id"


class SessionSource(Parameters):
    """One place where a session's id may be. Exactly one of `header` and `attribute`."""

    header: str | None = None
    attribute: str | None = None
    producer: str | None = None
    """Whose attribute, by name; unset: the one that is listed."""

    @model_validator(mode="after")
    def _one(self) -> SessionSource:
        if (self.header is None) == (self.attribute is None):
            raise ValueError("expected one of header and attribute")
        if self.producer is not None and self.attribute is None:
            raise ValueError("producer: only an attribute has one")
        if self.attribute is not None and self.attribute not in ATTRIBUTES:
            raise ValueError(f"attribute: expected one of {', '.join(ATTRIBUTES)}")
        return self


class SessionIdConfig(Parameters):
    """Of the strategy `session_id`."""

    sources: list[SessionSource] = Field(default_factory=lambda: [SessionSource(header=SESSION_HEADER)], max_length=100)
    """The first that says something counts."""
    eviction_ttl_seconds: float = Field(DEFAULT_TTL_S, alias="evictionTtlSeconds", ge=0, allow_inf_nan=False)
    """How long a session is kept that is not heard of; 0 is the default, as upstream has it."""
    eviction_sweep_seconds: float = Field(DEFAULT_SWEEP_S, alias="evictionSweepSeconds", ge=0, allow_inf_nan=False)
    """How often those are looked for; 0 is the default."""
    max_sessions: int = Field(100_000, alias="maxSessions", ge=1, le=10_000_000)
    """So many are kept at most; of more, those that were not heard of for longest go. Ours."""

    @field_validator("sources")
    @classmethod
    def _some(cls, value: list[SessionSource]) -> list[SessionSource]:
        return value or [SessionSource(header=SESSION_HEADER)]

    @property
    def ttl_s(self) -> float:
        return self.eviction_ttl_seconds or DEFAULT_TTL_S

    @property
    def sweep_s(self) -> float:
        return self.eviction_sweep_seconds or DEFAULT_SWEEP_S


class EncodedEndpointHeaderConfig(Parameters):
    """Of the strategy `encoded_endpoint_header`."""

    header: str = "x-session-token"

    @field_validator("header")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        name = value.strip().lower()
        if not name or not all(character.isascii() and (character.isalnum() or character in "-_.") for character in name):
            raise ValueError("expected the name of a header")
        return name


class SessionAffinityParameters(Parameters):
    """Parameters of `session-affinity-filter`, `session-affinity-scorer` and `multicluster-session-affinity-filter`."""

    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: EncodedEndpointHeaderConfig = Field(
        default_factory=lambda: EncodedEndpointHeaderConfig.model_validate({}), alias="encodedEndpointHeaderConfig"
    )
    session_id_config: SessionIdConfig = Field(
        default_factory=lambda: SessionIdConfig.model_validate({}), alias="sessionIdConfig"
    )
    profile_name: str | None = Field(None, alias="profileName")
    """Whose pick the session keeps to; unset: the one that serves the request."""


class SessionIdParameters(Parameters):
    """Parameters of `session-id-producer`. Without any, the header `x-session-id`."""

    header_name: str | None = Field(None, alias="headerName")
    cookie_name: str | None = Field(None, alias="cookieName")
    body_field: str | None = Field(None, alias="bodyField")
    """A field of the JSON body, at the top; it comes before the header or the cookie."""

    @model_validator(mode="after")
    def _one(self) -> SessionIdParameters:
        if self.header_name is not None and self.cookie_name is not None:
            raise ValueError("headerName and cookieName exclude each other")
        return self


class AgentIdentityParameters(Parameters):
    """Parameters of `agent-identity`."""

    additional_session_headers: list[str] = Field([], alias="additionalSessionHeaders", max_length=100)
    """These come before the ones that agents are known to send."""
