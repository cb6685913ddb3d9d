"""A decision as it is kept: its fields, and the line that holds one.

This table is the schema of JSONL and of Parquet. A field that has nothing to say is absent from a line (null in Parquet), which
is most of a file's size. What changes a field's meaning is another version, which file names have; a new field is not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

VERSION: Final = 1


class Field(NamedTuple):
    """One column."""

    name: str
    kind: str
    """`text`, `whole`, `number` or `texts` (a list)."""
    doc: str


FIELDS: Final = (
    Field("at_ms", "whole", "When it was decided, in Unix milliseconds."),
    Field("id", "text", "The request's id (`x-request-id`)."),
    Field("attempt", "whole", "Which attempt at the request it is, where the proxy makes several; from 1."),
    Field("endpoint", "text", "The serving endpoint."),
    Field("entity", "text", "The served entity that was chosen."),
    Field(
        "why",
        "text",
        "Why that one: by a key (`sticky: header x-user-id`), a draw, a fallback; never the key itself.",
    ),
    Field("bucket", "whole", "Of the key, 0 to 9,999: who has the key finds it again, and nobody learns the key from it."),
    Field("rule", "text", "The rule that sent it there."),
    Field("arms", "texts", "Experiments and the arm in each, as `experiment/arm`."),
    Field("version", "whole", "The endpoint's config version that decided."),
    Field("region", "text", "The region that served."),
    Field("spill", "text", "Why that is not the request's own region."),
    Field("spill_cost", "number", "What the way there costs."),
    Field("model", "text", "As the client named it, where that is not the endpoint."),
    Field("target", "text", "The model that was asked for instead of it."),
    Field("pool", "text", "The pool."),
    Field(
        "server",
        "text",
        "The model server, `ip:port`: the one that answered where the proxy tells, else the picked one.",
    ),
    Field("score", "number", "The points of the one that was picked."),
    Field("second", "number", "The best points of the others."),
    Field("status", "whole", "Of the answer, or of our refusal; absent when there was none."),
    Field("error", "text", "Why we refused it, in a word."),
    Field("cut", "whole", "1: the end of the answer was not seen."),
    Field("ms", "number", "From the whole request to the end of the answer, in milliseconds."),
    Field("ttft_ms", "number", "To the first piece of the answer, in milliseconds, where answers are seen."),
    Field("tpot_ms", "number", "For each token after the first, in milliseconds, of streams."),
    Field("in_tokens", "whole", "Tokens of the prompt, as the answer says."),
    Field("out_tokens", "whole", "Tokens of the answer, as it says."),
)


class Row:
    """A decision; what is empty, None or negative is left out."""

    __slots__ = (
        "arms",
        "at_ms",
        "attempt",
        "bucket",
        "complete",
        "endpoint",
        "entity",
        "error",
        "in_tokens",
        "model",
        "ms",
        "out_tokens",
        "pool",
        "region",
        "request_id",
        "rule",
        "score",
        "second",
        "server",
        "spill",
        "spill_cost",
        "status",
        "target",
        "tpot_s",
        "ttft_s",
        "version",
        "why",
    )

    def __init__(self, at_ms: int, request_id: str, attempt: int = 0) -> None:
        self.at_ms = at_ms
        self.request_id = request_id
        self.attempt = attempt
        self.endpoint = ""
        self.entity = ""
        self.why = ""
        self.bucket = -1
        self.rule = ""
        self.arms: tuple[str, ...] = ()
        self.version = 0
        self.region = ""
        self.spill = ""
        self.spill_cost = 0.0
        self.model = ""
        self.target = ""
        self.pool = ""
        self.server = ""
        self.score: float | None = None
        self.second: float | None = None
        self.status = 0
        self.error = ""
        self.complete = True
        self.ms = 0.0
        self.ttft_s: float | None = None
        self.tpot_s: float | None = None
        self.in_tokens: int | None = None
        self.out_tokens: int | None = None

    def line(self) -> bytes:
        """JSON, with the newline behind it."""
        row: dict[str, object] = {"at_ms": self.at_ms, "id": self.request_id}
        if self.attempt > 0:
            row["attempt"] = self.attempt
        if self.endpoint:
            row["endpoint"] = self.endpoint
        if self.entity:
            row["entity"] = self.entity
        if self.why:
            row["why"] = self.why
        if self.bucket >= 0:
            row["bucket"] = self.bucket
        if self.rule:
            row["rule"] = self.rule
        if self.arms:
            row["arms"] = self.arms
        if self.version:
            row["version"] = self.version
        if self.region:
            row["region"] = self.region
        if self.spill:
            row["spill"] = self.spill
        if self.spill_cost:
            row["spill_cost"] = self.spill_cost
        if self.model:
            row["model"] = self.model
        if self.target:
            row["target"] = self.target
        if self.pool:
            row["pool"] = self.pool
        if self.server:
            row["server"] = self.server
        self._measured(row)
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    def _measured(self, row: dict[str, object]) -> None:
        if self.score is not None:
            row["score"] = round(self.score, 4)
        if self.second is not None:
            row["second"] = round(self.second, 4)
        if self.status:
            row["status"] = self.status
        if self.error:
            row["error"] = self.error
        if not self.complete:
            row["cut"] = 1
        row["ms"] = round(self.ms, 1)
        if self.ttft_s is not None:
            row["ttft_ms"] = round(self.ttft_s * 1000, 1)
        if self.tpot_s is not None:
            row["tpot_ms"] = round(self.tpot_s * 1000, 2)
        if self.in_tokens is not None:
            row["in_tokens"] = self.in_tokens
        if self.out_tokens is not None:
            row["out_tokens"] = self.out_tokens
