"""What is changed on pages: a new endpoint, another split, a version of before. Each is shown before it is done.

A form has the config version that its maker has seen. Where somebody was faster, nothing is changed, and both changes are shown
beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from extproc.api.answers import Answer
from extproc.api.auth import require
from extproc.api.endpoints import NAME
from extproc.api.errors import ApiError, invalid, told
from extproc.api.page.merging import merged
from extproc.api.page.one import endpoint_page, meanwhile
from extproc.api.page.visit import Visit, lines, words_of
from extproc.control.changes import Create, DeskChange, Revert, UpdateConfig
from extproc.control.effects import Effect
from extproc.control.errors import Conflict, DeskError
from extproc.control.guarding import Wish
from extproc.control.records import EndpointRecord
from extproc.settings.base import SettingsError, shown
from extproc.settings.tokens import Role

_APPLY: Final = "apply"
_ROWS: Final = 20
_FIRST_ROWS: Final = 2


async def split(visit: Visit) -> Answer:
    """Another split: what it would do, or done."""
    record = visit.inside.desk.get(visit.name)
    shares = {name: _percent(name, text) for name, text in words_of(visit.form, "share:").items()}
    began = {name: _percent(name, text) for name, text in words_of(visit.form, "began:").items()}
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
    change = UpdateConfig(visit.name, {"traffic_config": {"routes": routes}}, Wish(forced=visit.form.get("force") == "yes"))
    context = {"shares": shares, "began": began, "step": "split"}
    return await _change(visit, record, change, context)


async def revert(visit: Visit) -> Answer:
    """Back to a version of before: what that would do, or done."""
    record = visit.inside.desk.get(visit.name)
    back_to = _number(visit.form, "back_to")
    usual = {"reason": f"back to version {back_to}", "back_to": back_to, "step": "revert"}
    return await _change(visit, record, Revert(visit.name, back_to), usual)


async def _change(visit: Visit, record: EndpointRecord, change: DeskChange, context: Mapping[str, Any]) -> Answer:
    """Preview or apply, by the button that was pressed."""
    expected, applies = _number(visit.form, "version"), visit.form.get("step") == _APPLY
    reason = visit.form.get("reason", str(context.get("reason", ""))).strip()
    context = {**context, "record": record, "version": expected, "reason": reason}
    try:
        applied = await visit.change(change, expected=expected, reason=reason, dry_run=not applies)
    except Conflict as error:
        now = visit.inside.desk.get(visit.name)
        if now.config_version == expected or "shares" not in context:
            return await _panel(visit, "problems.html", 409, {**context, "problems": lines(error.problems)})
        return await _panel(visit, "merge.html", 409, {**context, **await _merge(visit, now, context)})
    except DeskError as error:
        return await _panel(visit, "problems.html", error.status, {**context, "problems": lines(error.problems)})
    if applies:
        version = "" if applied.record is None else applied.record.config_version
        return visit.go(f"/ui/endpoints/{visit.name}?done={version}")
    effect = _effect(applied.effect, visit.site.figures.requests_per_s(visit.name))
    if effect is not None and applied.against:
        effect["notes"] += [f"This is refused here: {why}" for why in applied.against]
    return await _panel(visit, "preview.html", 200, {**context, "effect": effect, "guarded": bool(applied.against)})


async def _merge(visit: Visit, now: EndpointRecord, context: Mapping[str, Any]) -> dict[str, Any]:
    entries = await visit.inside.desk.history(now.name)
    merge = merged(context["began"], now.percentages, context["shares"])
    shares = dict(now.percentages)
    return {
        "record": now,
        "began": shares,
        "merge": merge,
        "who": meanwhile(entries, now, context["version"]),
        "version": now.config_version,
    }


async def _panel(visit: Visit, template: str, status: int, context: Mapping[str, Any]) -> Answer:
    """A part of the page that is open; without scripts, the page with that part in it."""
    if visit.partly:
        return visit.show(template, status, **context)
    values = {key: value for key, value in context.items() if key != "record"}
    return await endpoint_page(visit, visit.inside.desk.get(visit.name), status=status, panel=template, values=values)


def _effect(effect: Effect | None, per_s: float | None) -> dict[str, Any] | None:
    """What a change does, in the order in which people ask: who moves, and what pools get of it."""
    if effect is None:
        return None
    names = list(dict.fromkeys([*effect.before, *effect.after]))
    entities = [(name, effect.before.get(name, 0), effect.after.get(name, 0)) for name in names]
    pools = [
        {
            "name": ", ".join((name, *pool.beside)),
            "before": pool.before,
            "after": pool.after,
            "rate_before": None if per_s is None else per_s * pool.before / 100,
            "rate_after": None if per_s is None else per_s * pool.after / 100,
            "load": dict(pool.load),
        }
        for name, pool in effect.pools.items()
    ]
    return {"moved": effect.moved, "entities": entities, "pools": pools, "notes": list(effect.notes)}


async def new(visit: Visit) -> Answer:
    """The form of a new endpoint."""
    rows = min(max(_FIRST_ROWS, visit.number("rows", _FIRST_ROWS)), _ROWS)
    return visit.show("new.html", **_draft({}, rows), problems=[])


async def create(visit: Visit) -> Answer:
    """A new endpoint: what it would be, or there."""
    form = visit.form
    rows = min(max(1, len(words_of(form, "name:"))), _ROWS)
    draft = _draft(form, rows)
    if form.get("step") == "more":
        return visit.show("new.html", **_draft(form, min(rows + 1, _ROWS)), problems=[])
    name = draft["name"]
    if NAME.fullmatch(name):  # any other name is refused by the desk
        await require(visit.caller, Role.MANAGE, name)
    try:
        await visit.change(Create(_document(draft)), expected=None, reason=draft["reason"], dry_run=False)
    except (ApiError, DeskError, SettingsError) as error:
        refused = told(error)
        problems = error.problems if isinstance(error, DeskError) else [refused.message]
        return visit.show("new.html", refused.status, **draft, problems=lines(problems))
    return visit.go(f"/ui/endpoints/{name}?done=1")


def _document(draft: Mapping[str, Any]) -> dict[str, Any]:
    """As the API takes it. Raises ApiError."""
    given = [row for row in draft["rows"] if row["name"] or row["model"]]
    routes = [{"served_entity_name": row["name"], "traffic_percentage": _percent(row["name"], row["share"])} for row in given]
    entities = [{"name": row["name"], "entity_name": row["model"], **_version(row["version"])} for row in given]
    config = {"served_entities": entities, "traffic_config": {"routes": routes}}
    return {"name": draft["name"], "description": draft["description"], "config": config}


def _version(text: str) -> dict[str, str]:
    return {"entity_version": text} if text else {}


def _draft(form: Mapping[str, str], rows: int) -> dict[str, Any]:
    columns = {what: words_of(form, f"{what}:") for what in ("name", "model", "version", "share")}
    given = [{what: column.get(str(number), "") for what, column in columns.items()} for number in range(rows)]
    texts = {what: form.get(what, "").strip() for what in ("name", "description", "reason")}
    return {**texts, "rows": given, "most": _ROWS}


def _percent(name: str, text: str) -> int:
    """Raises ApiError."""
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise invalid(f"{name or 'share'}: got {shown(text)}; expected a share in percent, a whole number from 0 to 100")
    return int(text)


def _number(form: Mapping[str, str], field: str) -> int:
    """Raises ApiError."""
    text = form.get(field, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise invalid(f"{field}: got {shown(text)}; expected a version, as the page has it")
    return int(text)
