"""Copies of requests to another entity of the endpoint, whose answers nobody gets: what is copied, and what that may cost."""

from __future__ import annotations

from typing import NamedTuple


class ShadowSpec(NamedTuple):
    """One shadow as it was asked for."""

    entity: str
    """The served entity that gets the copies."""
    share: float
    """Of the endpoint's requests, 0 to 1."""
    salt: str
    """Which requests are copied depends on it; '' takes the endpoint's and the entity's name."""
    max_in_flight: int
    max_bytes: int
    """Of requests and answers that are held for copies under way and not yet compared."""
    max_per_second: float
    timeout_s: float
    """From a copy's being sent to the end of its answer."""
    max_answer_bytes: int
    max_saturation: float
    """How full the pool may be (0 idle, 1 full) for a copy to be sent there."""
    min_similarity: float | None
    """How alike texts must be to be the same, 0 to 1; None: texts are measured, and don't judge."""
    max_difference: float
    """Between numbers that are the same."""
    copy_headers: tuple[str, ...]
    """Of the client, beside those that every copy has; in lower case."""
    kept_body_bytes: int
    """Of each body and text that is kept with a pair; 0 keeps none."""
    kept_body_s: float
    """For how long."""

    def salt_of(self, endpoint: str) -> bytes:
        """What its choice of requests depends on, at this endpoint."""
        return (self.salt or f"{endpoint}/{self.entity}").encode()
