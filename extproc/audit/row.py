"""A decision as it is kept: its fields, and the line that holds one.

    Words ─ said ─▶ what many rows have in common, made once ─╮
    numbers of one row ───────────────────────── line_of ─────┴▶ a line

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


NO_POINTS: Final = float("nan")


class Words(NamedTuple):
    """What a decision was, which many rows have in common; '' and 0 say nothing."""

    endpoint: str = ""
    entity: str = ""
    why: str = ""
    rule: str = ""
    arms: tuple[str, ...] = ()
    version: int = 0
    region: str = ""
    spill: str = ""
    spill_cost: float = 0.0
    model: str = ""
    target: str = ""
    pool: str = ""


_TEXTS: Final = ("endpoint", "entity", "why", "rule", "region", "spill", "model", "target", "pool")


def said(words: Words) -> str:
    """A decision's part of a line: JSON with a comma before each field."""
    texts = dict(zip(Words._fields, words, strict=True))
    row: dict[str, object] = {name: texts[name] for name in _TEXTS if texts[name]}
    if words.arms:
        row["arms"] = words.arms
    if words.version:
        row["version"] = words.version
    if words.spill_cost:
        row["spill_cost"] = words.spill_cost
    return _fields(row)


def served_by(server: str, status: int = 0, error: str = "", *, complete: bool = True) -> str:
    """Who answered how, why not, and whether the end was seen, likewise."""
    row: dict[str, object] = {name: text for name, text in (("server", server), ("error", error)) if text}
    if status:
        row["status"] = status
    if not complete:
        row["cut"] = 1
    return _fields(row)


def answer_of(ttft_s: float | None, tpot_s: float | None, in_tokens: int | None, out_tokens: int | None) -> str:
    """What was measured of an answer, None where nobody could; likewise."""
    text = ""
    if ttft_s is not None:
        text += f',"ttft_ms":{_tenths(ttft_s * 1000.0)}'
    if tpot_s is not None:
        text += f',"tpot_ms":{_hundredths(tpot_s * 1000.0)}'
    if in_tokens is not None:
        text += f',"in_tokens":{in_tokens}'
    if out_tokens is not None:
        text += f',"out_tokens":{out_tokens}'
    return text


def ids_of(raw: list[bytes]) -> list[str]:
    """Request ids, which are headers' values, as they stand in JSON, without the quotes. Many at once cost a third each."""
    joined = b"\n".join(raw)
    if joined.find(b"\\") < 0:
        texts = orjson.dumps(joined.decode("latin-1")).decode()[1:-1].split("\\n")
        if len(texts) == len(raw):
            return texts
    return [orjson.dumps(each.decode("latin-1")).decode()[1:-1] for each in raw]


def line_of(
    at_ms: int,
    request_id: str,
    said: str,
    served: str,
    ms: float,
    attempt: int = 0,
    bucket: int = -1,
    score: float = NO_POINTS,
    second: float = NO_POINTS,
    answer: str = "",
) -> str:
    """A row: JSON, with the newline behind it. `request_id` is of `ids_of`; `said`, `served` and `answer` are what the
    functions above say. Of an attempt of 0, a bucket below 0 and points that are NaN nothing is said.

    It is made for each request, so it is put together at once, with numbers from tables where they are what most are.
    """
    key = f',"bucket":{bucket}' if bucket >= 0 else ""
    if attempt > 0:
        key += f',"attempt":{attempt}'
    if 0.0 <= ms < _MOST and 0.0 <= score < _LOW and 0.0 <= second < _LOW:
        took, one, two = int(ms * 10.0 + 0.5), int(score * 10000.0 + 0.5), int(second * 10000.0 + 0.5)
        return (
            f'{{"at_ms":{at_ms},"id":"{request_id}"{said}{served},"ms":{took // 10}{_TENTHS[took % 10]}{key}'
            f',"score":{_PLAIN[one // 10000]}.{_TWO[one // 100 % 100]}{_TWO[one % 100]}'
            f',"second":{_PLAIN[two // 10000]}.{_TWO[two // 100 % 100]}{_TWO[two % 100]}{answer}}}\n'
        )
    points = f',"score":{_fine(score)}' if score == score else ""
    if second == second:
        points += f',"second":{_fine(second)}'
    return f'{{"at_ms":{at_ms},"id":"{request_id}"{said}{served},"ms":{_tenths(ms)}{key}{points}{answer}}}\n'


_MOST: Final = 1e12
_SMALL: Final = 1000
_LOW: Final = 999.0
_PLAIN: Final[tuple[str, ...]] = tuple([str(number) for number in range(_SMALL)])
_TWO: Final[tuple[str, ...]] = tuple([f"{number:02}" for number in range(100)])
_TENTHS: Final[tuple[str, ...]] = (".0", ".1", ".2", ".3", ".4", ".5", ".6", ".7", ".8", ".9")


def _fields(row: dict[str, object]) -> str:
    return "," + orjson.dumps(row).decode()[1:-1] if row else ""


def _tenths(value: float) -> str:
    """A number of JSON with one place."""
    if not 0.0 <= value < _MOST:
        return _rounded(value, 1)
    number = int(value * 10.0 + 0.5)
    return f"{number // 10}{_TENTHS[number % 10]}"


def _hundredths(value: float) -> str:
    """A number of JSON with two places."""
    if not 0.0 <= value < _MOST:
        return _rounded(value, 2)
    number = int(value * 100.0 + 0.5)
    return f"{number // 100}.{str(100 + number % 100)[1:]}"


def _fine(value: float) -> str:
    """A number of JSON with four places."""
    if not 0.0 <= value < _MOST:
        return _rounded(value, 4)
    number = int(value * 10000.0 + 0.5)
    return f"{number // 10000}.{str(10000 + number % 10000)[1:]}"


def _rounded(value: float, places: int) -> str:
    """Of what is below 0, huge, or no number (null)."""
    return orjson.dumps(round(value, places)).decode()
