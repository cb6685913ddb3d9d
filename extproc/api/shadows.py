"""What the shadows of an endpoint have shown so far."""

from __future__ import annotations

from typing import Final

from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask
from extproc.api.auth import require
from extproc.settings.tokens import Role

_USUAL: Final = 20
_MOST: Final = 200


async def shadows(ask: Ask) -> Answer:
    """Each shadow with its sums and last pairs, newest first. Bodies are what users wrote: who sees them must manage it."""
    record = ask.inside.desk.get(ask.name)
    limit = ask.number("limit")
    bodies = ask.flag("bodies")
    if bodies:
        await require(ask.caller, Role.MANAGE, ask.name)
    tell = ask.inside.shadows
    limit = _USUAL if limit is None else min(limit, _MOST)
    return Json({"shadows": [] if tell is None else tell(record.name, limit=limit, bodies=bodies)})
