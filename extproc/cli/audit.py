"""`extproc audit`: which config served this request, who moved this user, and whether the record of changes is whole."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
import orjson

from extproc.app.asking import Answer, Audit, Told, where
from extproc.audit.changes import ChangeRecord, Verdict
from extproc.cli.options import command
from extproc.settings.audit import AuditQuery

_JSON: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
_STANDARD_INPUT: Final = "-"
_LONGEST_VALUE: Final = 200


def run(query: AuditQuery) -> int:
    """Ask, and tell; the exit code."""
    if query.user_key == _STANDARD_INPUT:
        query = query.model_copy(update={"user_key": sys.stdin.readline().rstrip("\n")})
    return asyncio.run(_asked(query))


async def _asked(query: AuditQuery) -> int:
    audit = Audit(where(query))
    try:
        if query.verify:
            verdict = await audit.verify(query.head)
            _say(as_json_verdict(verdict) if query.json_ else "\n".join(verdict_lines(verdict)))
            return 1 if verdict.faults else 0
        answer = await audit.answer(query)
    finally:
        await audit.close()
    if query.json_:
        _say(as_json(answer))
        return 0
    for line in lines(answer, why=query.why or bool(query.request_id)):
        click.echo(line)
    for note in answer.notes:
        click.echo(f"extproc: {note}", err=True)
    return 0


def _say(what: object) -> None:
    click.echo(what if isinstance(what, str) else orjson.dumps(what, option=_JSON).decode(), nl=isinstance(what, str))


def as_json(answer: Answer) -> dict[str, Any]:
    """What a program reads."""
    return {
        "bucket": answer.bucket,
        "decisions": [
            {**told.row, "made_by": None if told.made_by is None else _change(told.made_by)} for told in answer.decisions
        ],
        "changes": [_change(record) for record in answer.changes],
        "notes": answer.notes,
    }


def _change(record: ChangeRecord) -> dict[str, Any]:
    diff = [{"path": path, "before": before, "after": after} for path, before, after in record.diff]
    moved = [{"first": a, "last": b, "before": before, "after": after} for a, b, before, after in record.moved]
    return {**record._asdict(), "diff": diff, "moved": moved}


def as_json_verdict(verdict: Verdict) -> dict[str, Any]:
    """The same of a chain."""
    return {**verdict._asdict(), "head": verdict.head.hex(), "whole": not verdict.faults}


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What a person reads of a chain."""
    yield from (f"wrong: {fault}" for fault in verdict.faults)
    yield from (f"note: {note}" for note in verdict.notes)
    yield f"{_number(verdict.records, 'change')}: {'NOT whole' if verdict.faults else 'whole'}; last hash {verdict.head.hex()}"


def lines(answer: Answer, *, why: bool) -> Iterator[str]:
    """What a person reads, newest first."""
    if answer.bucket is not None:
        yield f"bucket {answer.bucket}"
    for told in answer.decisions:
        yield decision_line(told)
        if why:
            yield from (f"    {line}" for line in decision_reasons(told))
    for record in answer.changes:
        yield change_line(record)
        moved = None if answer.bucket is None else record.owner_moved(answer.bucket)
        if moved is not None:
            yield f"    moved bucket {answer.bucket} from {moved[0]} to {moved[1]}"
        if why:
            yield from (f"    {line}" for line in change_reasons(record))
    if not answer.decisions and not answer.changes:
        yield "nothing found"


def decision_line(told: Told) -> str:
    """One decision."""
    row = told.row
    who = f"{row['endpoint']}/{row.get('entity', '-')}" if row.get("endpoint") else row.get("target") or row.get("model") or "-"
    version = f" v{row['version']}" if row.get("version") else ""
    attempt = f" (attempt {row['attempt']})" if row.get("attempt", 0) > 1 else ""
    at = " ".join(filter(None, (row.get("pool"), row.get("server"))))
    return f"{_time(row['at_ms'])}  {row['id'] or '-'}{attempt}  {who}{version}  {_outcome(row)}{'  ' + at if at else ''}"


def _outcome(row: Any) -> str:
    status = str(row.get("status", "no answer"))
    return f"{status}{' ' + row['error'] if row.get('error') else ''}{' cut' if row.get('cut') else ''} {row.get('ms', 0):g} ms"


def decision_reasons(told: Told) -> Iterator[str]:
    """Why it was so, a line for each reason."""
    row = told.row
    why = [row["why"]] if row.get("why") else []
    if row.get("rule"):
        why.append(f"rule {row['rule']}")
    if row.get("bucket") is not None:
        why.append(f"bucket {row['bucket']}")
    why += [f"experiment {arm}" for arm in row.get("arms", ())]
    if row.get("spill"):
        cost = f" at {row['spill_cost']:g}" if row.get("spill_cost") else ""
        why.append(f"region {row.get('region') or 'none'}: {row['spill']}{cost}")
    if why:
        yield f"entity   {', '.join(why)}"
    if row.get("score") is not None:
        second = f", the best other had {row['second']:g}" if row.get("second") is not None else ", the only candidate"
        yield f"server   {row.get('server', '?')} with {row['score']:g} points{second}"
    measured = [
        f"{text.format(row[name])}"
        for name, text in (
            ("ttft_ms", "first token after {:g} ms"),
            ("tpot_ms", "{:g} ms a token"),
            ("in_tokens", "{} tokens in"),
            ("out_tokens", "{} tokens out"),
        )
        if row.get(name) is not None
    ]
    if measured:
        yield f"answer   {', '.join(measured)}"
    if told.made_by is not None:
        yield f"config   {change_line(told.made_by)}"
    elif row.get("version"):
        yield f"config   v{row['version']}, of whose change there is no record here"


def change_line(record: ChangeRecord) -> str:
    """One change: who, from where, when, what, why."""
    version = "" if record.config_version is None else f" v{record.config_version}"
    origin = f" from {record.origin}" if record.origin else ""
    approved = f", approved by {record.approved_by}" if record.approved_by else ""
    reason = f": {record.reason}" if record.reason else ""
    what = f"{record.kind} {record.endpoint}{version}"
    return f"{_time(record.at_ms)}  change {record.number}  {what}  by {record.actor or '-'}{origin}{approved}{reason}"


def change_reasons(record: ChangeRecord) -> Iterator[str]:
    """What it changed."""
    for path, before, after in record.diff:
        yield f"{path}: {_value(before)} -> {_value(after)}"
    for first, last, before, after in record.moved:
        yield f"buckets {first} to {last}: {before} -> {after}"


def _value(value: object) -> str:
    text = "nothing" if value is None else orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


COMMAND = command(AuditQuery, run, name="audit", short_help="What was decided and changed, by whom and why.")
