"""Rows field by field, for tests: the gateway puts them together of parts."""

from __future__ import annotations

from dataclasses import dataclass

from extproc.audit.row import NO_POINTS, Words, answer_of, ids_of, line_of, said, served_by


@dataclass
class Row:
    """All that a row may say."""

    at_ms: int
    request_id: str
    attempt: int = 0
    endpoint: str = ""
    entity: str = ""
    why: str = ""
    bucket: int = -1
    rule: str = ""
    arms: tuple[str, ...] = ()
    version: int = 0
    region: str = ""
    spill: str = ""
    spill_cost: float = 0.0
    model: str = ""
    target: str = ""
    pool: str = ""
    server: str = ""
    score: float | None = None
    second: float | None = None
    status: int = 0
    error: str = ""
    complete: bool = True
    ms: float = 0.0
    ttft_s: float | None = None
    tpot_s: float | None = None
    in_tokens: int | None = None
    out_tokens: int | None = None

    def line(self) -> bytes:
        """As the stage makes it."""
        words = Words(**{name: getattr(self, name) for name in Words._fields})
        answer = answer_of(self.ttft_s, self.tpot_s, self.in_tokens, self.out_tokens)
        return line_of(
            self.at_ms,
            ids_of([self.request_id.encode("latin-1")])[0],
            said(words),
            served_by(self.server, self.status, self.error, complete=self.complete),
            self.ms,
            self.attempt,
            self.bucket,
            NO_POINTS if self.score is None else self.score,
            NO_POINTS if self.second is None else self.second,
            answer,
        ).encode()
