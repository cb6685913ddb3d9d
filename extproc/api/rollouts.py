"""Rollouts of an endpoint over REST: the plan goes in, how far it has come comes out."""

from __future__ import annotations

from typing import Any, Final

from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask
from extproc.api.errors import invalid
from extproc.rollouts.documents import Rollout
from extproc.rollouts.view import view
from extproc.settings.base import shown

ACTIONS: Final = ("promote", "pause", "resume", "abort", "undo")


async def status(ask: Ask) -> Answer:
    """The rollout that goes on, or the last one."""
    return _answer(await ask.inside.rollouts.get(ask.name))


async def start(ask: Ask) -> Answer:
    """Begin one. The body is the plan; with nothing in it but `{}`, the endpoint's own is taken."""
    document: dict[str, Any] = await ask.object()
    plan = document or ask.inside.desk.get(ask.name).delivery.get("rollout")
    if plan is None:
        raise invalid("rollout: got no plan, and the endpoint has none of its own; expected baseline, canary and steps")
    rollouts, who = ask.inside.rollouts, ask.caller.subject
    return _answer(await rollouts.start(ask.name, plan, who, force=ask.flag("force"), dry_run=ask.dry_run))


async def command(ask: Ask) -> Answer:
    """`promote` (`?full=true`: to the end), `pause`, `resume` (`?force=true`: past its guards), `abort`, `undo`."""
    action = ask.word("action")
    if action not in ACTIONS:
        raise invalid(f"action: got {shown(action)}; expected one of {', '.join(ACTIONS)}")
    rollouts, who = ask.inside.rollouts, ask.caller.subject
    return _answer(await rollouts.command(ask.name, action, who, full=ask.flag("full"), force=ask.flag("force")))


def _answer(rollout: Rollout) -> Answer:
    return Json(view(rollout))
