"""How long an answer took, by the definitions of the endpoint picker's metrics (llm-d router `metrics`).

    TTFT    from the request to the first piece of body that is not empty
    ITL     between two such pieces of a stream, one after the other
    TPOT    (whole time - TTFT) / (completion tokens - 1), of a stream with two tokens and more
    NTPOT   whole time / completion tokens

A piece is what Envoy sends at once; an engine under load may put several tokens into one.
"""

from __future__ import annotations


class Times:
    """The moments of one answer, in seconds of one clock that never goes back."""

    __slots__ = ("first_s", "last_s", "started_s")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.first_s: float | None = None
        self.last_s = started_s

    def piece(self, now_s: float) -> float | None:
        """A piece that is not empty came; the gap to the one before it, None for the first."""
        gap_s = None if self.first_s is None else now_s - self.last_s
        if self.first_s is None:
            self.first_s = now_s
        self.last_s = now_s
        return gap_s

    def ttft_s(self) -> float | None:
        """None when nothing came."""
        return None if self.first_s is None else self.first_s - self.started_s

    def tpot_s(self, ended_s: float, completion_tokens: int | None) -> float | None:
        """None when there are too few tokens to say, or nobody said how many."""
        if self.first_s is None or completion_tokens is None or completion_tokens < 2:
            return None
        return (ended_s - self.first_s) / (completion_tokens - 1)

    def ntpot_s(self, ended_s: float, completion_tokens: int | None) -> float | None:
        """None when there is no token, or nobody said how many."""
        return (ended_s - self.started_s) / completion_tokens if completion_tokens else None
