"""Rollouts: which go on, how far one has come and what its measures say, and what people do with it, each after a question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from extproc.api.answers import Answer
from extproc.api.errors import invalid
from extproc.api.page.endpoints import live_address
from extproc.api.page.kept import Plot
from extproc.api.page.plots import answer
from extproc.api.page.visit import Visit, lines
from extproc.api.rollouts import ACTIONS
from extproc.control.errors import DeskError, DoesNotExist
from extproc.control.records import API, EndpointRecord
from extproc.rollouts.documents import Rollout
from extproc.rollouts.machine import HEALTHY, PAUSED
from extproc.rollouts.view import view
from extproc.settings.base import SettingsError, shown
from extproc.settings.document import load_document
from extproc.settings.tokens import Role

_MOST: Final = 200
_EVENTS: Final = 30
_FULL: Final = "promote-full"
_DO: Final = "do"
_WORDS: Final = {
    "pause": ("Pause", "The canary keeps its weight until somebody resumes. It is still watched, and taken back if it fails."),
    "resume": ("Resume", "The rollout goes on where it was."),
    "promote": ("Go on now", "The step that it stands in ends now."),
    _FULL: ("Promote to the end", "The canary takes over at once. No step and no measure that is left is waited for."),
    "abort": ("Abort", "The shares of before come back at once."),
    "undo": ("Undo", "The shares, and the names, of before the rollout come back."),
}


async def listed(visit: Visit) -> Answer:
    """All of endpoints that the visitor may see: those that go on before those that are over, the newest first."""
    standing = {name: each.rollout for name, each in (await visit.inside.rollouts.all()).items()}
    there = {record.name for record in visit.inside.desk.list()}
    names = await visit.caller.sees(sorted(standing.keys() & there))
    found = [standing[name] for name in names]
    found.sort(key=lambda each: (each.state.over, -each.state.began_s))
    return visit.show("rollouts.html", rows=[_summary(each) for each in found[:_MOST]], total=len(found))


def _summary(rollout: Rollout) -> dict[str, Any]:
    return {**view(rollout), "over": rollout.state.over, "began_ms": int(rollout.state.began_s * 1000)}


async def one(visit: Visit) -> Answer:
    """The endpoint's rollout, or how one begins."""
    record = visit.inside.desk.get(visit.name)
    rollout = await _of(visit, record.name)
    if visit.partly and visit.query("part"):
        actions = await _actions(visit, record, rollout)
        # Buttons are written anew when they are others: who has one in focus is to keep it.
        anew = visit.query("has") != _names(actions)
        return visit.show("rollout_news.html", **_told(rollout), record=record, actions=actions, has=_names(actions), anew=anew)
    return await _page(visit, record, rollout)


async def plots(visit: Visit) -> Answer:
    """Each comparison over time: the interval at each look, and what is tolerated."""
    record = visit.inside.desk.get(visit.name)
    rollout = await _of(visit, record.name)
    metrics = [] if rollout is None else view(rollout)["metrics"]
    return answer(visit, [_plot(each) for each in metrics if each.get("course")], _path(record.name))


def _plot(metric: Mapping[str, Any]) -> Plot:
    course = metric["course"]
    rate = course["measure"] == "error_rate"
    what = "how many more of the canary's requests fail" if rate else "how much longer the canary takes"
    lines = [
        {"label": "at most", "place": 0, "dashed": True, "values": course["high"]},
        {"label": "at least", "place": 0, "dashed": True, "values": course["low"]},
        {"label": "difference", "place": 0, "values": course["estimate"]},
        {"label": "tolerated", "place": 1, "line": True, "values": [course["tolerance"]] * len(course["at"])},
    ]
    plot = {"title": f"{metric['name']}: {what}", "unit": "points" if rate else "percent", "at": course["at"], "series": lines}
    return {**plot, "bands": [[0, 1]], "y": _around(course)}


def _around(course: Mapping[str, Any]) -> list[float]:
    """What is shown: all of the newer half, and what is tolerated. Of the first looks, which are wide, what fits."""
    half = len(course["at"]) // 2
    low = min([*course["low"][half:], *course["estimate"], 0.0])
    high = max([*course["high"][half:], *course["estimate"], course["tolerance"] * 1.5, 0.01])
    return [low * 1.1, high * 1.1]


async def _of(visit: Visit, name: str) -> Rollout | None:
    try:
        return await visit.inside.rollouts.get(name)
    except DoesNotExist:
        return None


async def _page(
    visit: Visit,
    record: EndpointRecord,
    rollout: Rollout | None,
    *,
    status: int = 200,
    panel: str = "",
    values: Mapping[str, Any] = {},
) -> Answer:
    manages = await _manages(visit, record)
    actions = await _actions(visit, record, rollout)
    plan = record.delivery.get("rollout") or _usual_plan(record)
    text = orjson.dumps(plan, option=orjson.OPT_INDENT_2).decode()
    return visit.show(
        "rollout.html",
        status,
        **_told(rollout),
        record=record,
        manages=manages,
        actions=actions,
        has=_names(actions),
        starts=manages and (rollout is None or rollout.state.over) and len(record.entities) > 1,
        live=live_address([record.name]),
        panel=panel,
        **{"plan": text, "force": False, **values},
    )


async def _manages(visit: Visit, record: EndpointRecord) -> bool:
    return record.owner == API and await visit.caller.may(Role.MANAGE, record.name)


async def _actions(visit: Visit, record: EndpointRecord, rollout: Rollout | None) -> list[tuple[str, str]]:
    """What the visitor may do now: the word, and what stands on its button."""
    return [(action, _WORDS[action][0]) for action in _possible(rollout)] if await _manages(visit, record) else []


def _names(actions: Sequence[tuple[str, str]]) -> str:
    return ",".join([action for action, _ in actions])


def _told(rollout: Rollout | None) -> dict[str, Any]:
    if rollout is None:
        return {"rollout": None, "over": True}
    told = _summary(rollout)
    events = [{**each, "at_ms": int(each["at_s"] * 1000)} for each in told["events"][-_EVENTS:]]
    return {"rollout": {**told, "events": events[::-1]}, "over": rollout.state.over}


def _possible(rollout: Rollout | None) -> list[str]:
    if rollout is None:
        return []
    state = rollout.state
    if state.over:
        return ["undo"] if state.phase == HEALTHY else []
    # Where its plan pauses, it goes on by `promote`.
    return ["resume" if state.phase == PAUSED and state.manual else "pause", "promote", _FULL, "abort"]


def _usual_plan(record: EndpointRecord) -> dict[str, Any]:
    """For who has no plan yet: from the entity with the most requests to the next one, watched all along."""
    names = sorted(record.percentages, key=lambda name: -record.percentages[name])
    weights = [weight for weight in (10, 50) if len(names) > 1 and weight > record.percentages[names[1]]]
    steps: list[dict[str, Any]] = []
    for weight in weights or [100]:
        steps += [{"setWeight": weight}, {"pause": {"duration": "10m"}}]
    return {"baseline": names[0], "canary": names[1] if len(names) > 1 else "", "steps": steps}


async def start(visit: Visit) -> Answer:
    """Begin one by the plan in the form: what it would be, or begun."""
    record = visit.inside.desk.get(visit.name)
    text, force = visit.form.get("plan", ""), visit.form.get("force") == "yes"
    does = visit.form.get("step") == _DO
    values = {"plan": text, "force": force}
    try:
        document = (await asyncio.to_thread(load_document, text.encode())).value
        rollouts, who = visit.inside.rollouts, visit.caller.subject
        begun = await rollouts.start(visit.name, document, who, force=force, dry_run=not does)
    except (DeskError, SettingsError) as error:
        status = error.status if isinstance(error, DeskError) else 400
        return await _panel(visit, record, "problems.html", status, {**values, "problems": lines(error.problems)})
    if does:
        return visit.go(_path(visit.name))
    return await _panel(
        visit, record, "rollout_start.html", 200, {**values, "to_be": view(begun), "watched": list(begun.plan.metrics)}
    )


async def command(visit: Visit) -> Answer:
    """What people do with a rollout: first the question whether they mean it."""
    record = visit.inside.desk.get(visit.name)
    action = visit.form.get("action", "")
    if action not in _WORDS:
        raise invalid(f"action: got {shown(action)}; expected one of {', '.join(_WORDS)}")
    title, words = _WORDS[action]
    if visit.form.get("step") != _DO:
        values = {"action": action, "title": title, "words": words}
        return await _panel(visit, record, "rollout_sure.html", 200, values)
    name = "promote" if action == _FULL else action
    assert name in ACTIONS, "the API has it, too"
    force = visit.form.get("force") == "yes"
    try:
        await visit.inside.rollouts.command(visit.name, name, visit.caller.subject, full=action == _FULL, force=force)
    except DeskError as error:
        return await _panel(visit, record, "problems.html", error.status, {"problems": lines(error.problems)})
    return visit.go(_path(visit.name))


def _path(name: str) -> str:
    return f"/ui/endpoints/{name}/rollout"


async def _panel(visit: Visit, record: EndpointRecord, template: str, status: int, values: Mapping[str, Any]) -> Answer:
    """A part of the page that is open; without scripts, the page with that part in it."""
    if visit.partly:
        return visit.show(template, status, record=record, **values)
    return await _page(visit, record, await _of(visit, record.name), status=status, panel=template, values=values)
