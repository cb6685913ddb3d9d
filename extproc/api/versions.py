"""What was before, and how to get back to it; and endpoints taken along from one gateway to another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from extproc.api import shapes
from extproc.api.answers import Answer, Json, Sliced, json_list
from extproc.api.ask import Ask, whole
from extproc.api.auth import require
from extproc.api.endpoints import NAME, answered
from extproc.api.errors import invalid, malformed
from extproc.control.changes import Declare, Revert
from extproc.control.exchange import KEY, exported, of_yaml, to_yaml
from extproc.control.records import API, EndpointRecord
from extproc.settings.base import SettingsError, shown
from extproc.settings.tokens import Role

_USUAL: Final = 50
_MOST: Final = 200
_YAML: Final = "application/yaml"


async def history(ask: Ask) -> Answer:
    """The last changes, newest first; also of an endpoint that was deleted."""
    limit = ask.number("limit")
    limit = _USUAL if limit is None else max(1, min(limit, _MOST))
    entries = await ask.inside.desk.history(ask.name, ask.number("before"), limit)
    more = entries[-1].revision if len(entries) == limit else None
    return Json({"history": [shapes.revision(entry) for entry in entries], "next_before": more})


async def revert(ask: Ask) -> Answer:
    """The config of before, as a new version."""
    document = await ask.object()
    if "config_version" not in document:
        raise invalid("config_version: got nothing; expected the version to go back to, as the history has it")
    version = whole("config_version", document["config_version"], 1)
    reason = document.get("reason")
    if not isinstance(reason, str | None):
        raise malformed("reason: got no text; expected why the config is changed, in words")
    applied = await ask.change(Revert(ask.name, version), reason=f"back to version {version}" if reason is None else reason)
    return await answered(ask, applied)


async def exports(ask: Ask) -> Answer:
    """All endpoints that the caller may see, as documents: for a file, or another gateway's import."""
    wanted = ask.request.query_params.get("format", "json")
    if wanted not in ("json", "yaml"):
        raise invalid(f"format: got {shown(wanted)}; expected json or yaml")
    known = {record.name: record for record in ask.inside.desk.list()}
    owner = ask.request.query_params.get("owner")
    records = [known[name] for name in await ask.caller.sees(list(known)) if owner in (None, known[name].owner)]
    if wanted == "yaml":
        return Sliced(ask.inside.slices, _as_yaml(records), _YAML)
    return Sliced(ask.inside.slices, json_list(KEY, map(exported, records)))


def _as_yaml(records: Sequence[EndpointRecord]) -> Iterator[bytes]:
    """`to_yaml`, record by record."""
    beginning = f"{KEY}:\n"
    yield beginning.encode() if records else to_yaml([]).encode()
    for record in records:
        yield to_yaml([record]).removeprefix(beginning).encode()


async def imports(ask: Ask) -> Answer:
    """Create or change the endpoints of these documents, in JSON or YAML: all of them or none. Others stay."""
    data = await ask.data()
    try:
        documents = await asyncio.to_thread(of_yaml, data)
    except SettingsError as error:
        raise malformed(f"body: {'; '.join(error.problems)}") from None
    for each in documents:
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str) and NAME.fullmatch(name):
            await require(ask.caller, Role.MANAGE, name)
    applied = await ask.change(Declare(API, documents, KEY, whole=False))
    effects = [shapes.effect(each) for each in applied.effects]
    return Json({"dry_run": ask.dry_run, "revision": applied.revision, "effects": effects})
