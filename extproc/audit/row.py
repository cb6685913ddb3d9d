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
        """JSON, with the newline behind it.

        Made of pieces: rows repeat their words, so these are made once for many rows; the numbers are written by hand.
        """
        words = (
            self.endpoint,
            self.entity,
            self.why,
            self.rule,
            self.arms,
            self.version,
            self.region,
            self.spill,
            self.spill_cost,
            self.model,
            self.target,
            self.pool,
            self.server,
            self.status,
            self.error,
            self.complete,
        )
        said = _said.get(words)
        if said is None:
            if len(_said) >= _KEPT:
                _said.clear()
            said = _said[words] = self._words()
        text = f'{{"at_ms":{self.at_ms},"id":{_quoted(self.request_id)}{said},"ms":{_tenths(self.ms)}'
        if self.attempt > 0:
            text += f',"attempt":{self.attempt}'
        if self.bucket >= 0:
            text += f',"bucket":{self.bucket}'
        score, second = self.score, self.second
        if score is not None:
            text += f',"score":{_fine(score)}'
        if second is not None:
            text += f',"second":{_fine(second)}'
        return (text + self._measured() + "}\n").encode()

    def _words(self) -> str:
        """What many rows have in common, with a comma before each."""
        words = (
            ("endpoint", self.endpoint),
            ("entity", self.entity),
            ("why", self.why),
            ("rule", self.rule),
            ("region", self.region),
            ("spill", self.spill),
            ("model", self.model),
            ("target", self.target),
            ("pool", self.pool),
            ("server", self.server),
            ("error", self.error),
        )
        row: dict[str, object] = {name: text for name, text in words if text}
        if self.arms:
            row["arms"] = self.arms
        if self.version:
            row["version"] = self.version
        if self.spill_cost:
            row["spill_cost"] = self.spill_cost
        if self.status:
            row["status"] = self.status
        if not self.complete:
            row["cut"] = 1
        return "," + orjson.dumps(row).decode()[1:-1] if row else ""

    def _measured(self) -> str:
        text = ""
        if self.ttft_s is not None:
            text += f',"ttft_ms":{_tenths(self.ttft_s * 1000.0)}'
        if self.tpot_s is not None:
            text += f',"tpot_ms":{_hundredths(self.tpot_s * 1000.0)}'
        if self.in_tokens is not None:
            text += f',"in_tokens":{self.in_tokens}'
        if self.out_tokens is not None:
            text += f',"out_tokens":{self.out_tokens}'
        return text


_KEPT: Final = 4096
"""Words of rows that are remembered: as a rule, each server with each status."""
_said: Final[dict[tuple[object, ...], str]] = {}


def _quoted(text: str) -> str:
    """A text as JSON. Most ids are letters, figures and dashes, which stand for themselves."""
    if text.isascii() and text.replace("-", "").isalnum():
        return f'"{text}"'
    return orjson.dumps(text).decode()


def _tenths(value: float) -> str:
    """A number of JSON with one place."""
    if not 0.0 <= value < 1e12:
        return _rounded(value, 1)
    number = int(value * 10.0 + 0.5)
    return f"{number // 10}.{number % 10}"


def _hundredths(value: float) -> str:
    """A number of JSON with two places."""
    if not 0.0 <= value < 1e12:
        return _rounded(value, 2)
    number = int(value * 100.0 + 0.5)
    return f"{number // 100}.{str(100 + number % 100)[1:]}"


def _fine(value: float) -> str:
    """A number of JSON with four places."""
    if not 0.0 <= value < 1e12:
        return _rounded(value, 4)
    number = int(value * 10000.0 + 0.5)
    return f"{number // 10000}.{str(10000 + number % 10000)[1:]}"


def _rounded(value: float, places: int) -> str:
    """Of what is below 0, huge, or no number (null)."""
    return orjson.dumps(round(value, places)).decode()
