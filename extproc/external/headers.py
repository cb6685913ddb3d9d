"""Which of a client's headers go to a provider: a few that are known to be harmless, and none that may be anything.

So no credential of the client's, no cookie, and nothing that was said to the gateway (`x-gateway-*`, `x-llm-d-*`,
`x-databricks-*`, whatever names the user) leaves, under names that we know and under those that we don't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from extproc.credentials import Secret
from extproc.external.dialects import Dialect

_KEPT: Final = frozenset(
    {
        *("accept", "content-type", "user-agent", "idempotency-key"),
        *("host", "content-length", "transfer-encoding", "connection", "te"),  # the proxy's business
        *("x-request-id", "x-forwarded-proto"),  # the proxy's, and of no secret
    }
)
_KEPT_PREFIXES: Final = (
    ":",
    *("x-envoy-upstream-rq-", "x-envoy-expected-rq-", "x-envoy-max-retries", "x-envoy-retry-", "x-envoy-hedge-"),
)
"""Pseudo headers; what tells Envoy's router of timeouts and retries, which it takes out itself. Envoy says more about a client
under `x-envoy-`, its address for one."""
_OF_DIALECT: Final = {
    Dialect.OPENAI: frozenset({"openai-beta"}),
    Dialect.ANTHROPIC: frozenset({"anthropic-version", "anthropic-beta"}),
}
"""Said to a provider that speaks as the client does."""

ANSWER_PRIVATE: Final = (
    "set-cookie",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "location",
    "alt-svc",
    "www-authenticate",
    "authentication-info",
)
"""Headers of an answer that are between the provider and us: its cookies, the names of our accounts, where else it is, what it
wants to know of us."""


def removed(headers: Mapping[str, bytes], same: Dialect | None) -> list[str]:
    """The names of the request's headers that do not go to a provider. `same`: the dialect of both, None when they differ."""
    own = _OF_DIALECT[same] if same is not None else frozenset()
    return [name for name in headers if name not in _KEPT and name not in own and not name.startswith(_KEPT_PREFIXES)]


def private(headers: Mapping[str, bytes], secrets: Sequence[Secret]) -> list[str]:
    """The names of an answer's headers that do not go to the client; a header that quotes a secret of ours does not either."""
    quoted = [secret.reveal().encode() for secret in secrets]
    return [name for name, value in headers.items() if name in ANSWER_PRIVATE or any(each in value for each in quoted)]
