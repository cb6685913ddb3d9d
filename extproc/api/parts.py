"""Parts of an endpoint that have calls of their own. Each answers the part as it is afterwards."""

from __future__ import annotations

from extproc.api import shapes
from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask
from extproc.api.endpoints import tried
from extproc.control.changes import PatchNotifications, PatchTags, PatchTelemetry, PutGateway, PutRateLimits
from extproc.control.records import EndpointRecord


async def tags(ask: Ask) -> Answer:
    """Tags that go and tags that come."""
    applied = await ask.change(PatchTags(ask.name, await ask.object()))
    return await tried(ask, applied) if ask.dry_run else Json({"tags": shapes.tags(_there(applied.record))})


async def rate_limits(ask: Ask) -> Answer:
    """The deprecated limits, whole."""
    applied = await ask.change(PutRateLimits(ask.name, await ask.object()))
    limits = [dict(limit) for limit in _there(applied.record).rate_limits]
    return await tried(ask, applied) if ask.dry_run else Json({"rate_limits": limits})


async def ai_gateway(ask: Ask) -> Answer:
    """Fallback, limits and usage, whole."""
    applied = await ask.change(PutGateway(ask.name, await ask.object()))
    return await tried(ask, applied) if ask.dry_run else Json(dict(_there(applied.record).ai_gateway))


async def notifications(ask: Ask) -> Answer:
    """Who wants mails, which nobody sends here."""
    applied = await ask.change(PatchNotifications(ask.name, await ask.object()))
    emails = dict(_there(applied.record).notifications)
    return await tried(ask, applied) if ask.dry_run else Json({"name": ask.name, "email_notifications": emails})


async def telemetry(ask: Ask) -> Answer:
    """Where telemetry would go."""
    applied = await ask.change(PatchTelemetry(ask.name, await ask.object()))
    config = dict(_there(applied.record).telemetry)
    return await tried(ask, applied) if ask.dry_run else Json({"name": ask.name, "telemetry_config": config})


def _there(record: EndpointRecord | None) -> EndpointRecord:
    assert record is not None, "a part changes and the endpoint stays"
    return record
