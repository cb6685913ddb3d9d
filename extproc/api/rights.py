"""Who may do what: shown as Databricks shows it. It is said in the file of tokens, or in Kubernetes, and not over the API."""

from __future__ import annotations

from typing import Any, Final

from extproc.api.answers import Answer, Json
from extproc.api.ask import Ask
from extproc.api.auth import level_of, require
from extproc.api.errors import ApiError
from extproc.control.records import EndpointRecord
from extproc.settings.tokens import Role

_MEANING: Final = {
    Role.VIEW: "Can see the endpoint, its state and its history",
    Role.QUERY: "Can query the endpoint, and see it",
    Role.MANAGE: "Can change and delete the endpoint, query it and see it",
}


async def permissions(ask: Ask) -> Answer:
    """Who may what with an endpoint, which goes by its id; who may not manage it is shown his own rights."""
    record = await _record(ask, Role.VIEW)
    grants = {ask.caller.subject: await level_of(ask.caller, record.name)}
    if await ask.caller.may(Role.MANAGE, record.name):
        grants |= {subject: role.level for subject, role in ask.inside.guard.granted(record.name)}
    return Json(
        {
            "object_id": f"/serving-endpoints/{record.id}",
            "object_type": "serving-endpoint",
            "access_control_list": [_entry(subject, level) for subject, level in grants.items()],
        }
    )


def _entry(subject: str, level: str) -> dict[str, Any]:
    permission = {"permission_level": level, "inherited": False}
    return {"user_name": subject, "display_name": subject, "all_permissions": [permission]}


async def permission_levels(ask: Ask) -> Answer:
    """What there is to be allowed."""
    await _record(ask, Role.VIEW)
    levels = [{"permission_level": role.level, "description": meaning} for role, meaning in _MEANING.items()]
    return Json({"permission_levels": levels})


async def set_permissions(ask: Ask) -> Answer:
    """Refused: a right that is given over the API would not outlive the next look at the file."""
    await _record(ask, Role.MANAGE)
    raise ApiError(
        501,
        "NOT_IMPLEMENTED",
        "Rights are not given over the API: they stand in the file of --api-tokens-file, or in Kubernetes' RBAC with "
        "--api-auth=kubernetes",
    )


async def _record(ask: Ask, role: Role) -> EndpointRecord:
    record = ask.inside.desk.by_id(ask.word("id"))
    await require(ask.caller, role, record.name)
    return record


async def me(ask: Ask) -> Answer:
    """Whose token it is."""
    subject = ask.caller.subject
    return Json(
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "id": subject,
            "userName": subject,
            "displayName": subject,
            "active": True,
        }
    )
