"""Every call of the API, once: path, method, right, handler, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from extproc.api import (
    changed,
    decided,
    endpoints,
    measured,
    measures,
    pages,
    parts,
    pools,
    rights,
    rollouts,
    series,
    shadows,
    shapes,
    versions,
)
from extproc.api.answers import Answer
from extproc.api.ask import Ask
from extproc.settings.serving import parts as forms
from extproc.settings.serving.feedback import Feedback
from extproc.settings.tokens import Role

Handler = Callable[[Ask], Awaitable[Answer]]

BASE: Final = "/api/2.0/serving-endpoints"
TWIN: Final = f"{BASE}/pt"
"""Of what is for provisioned throughput."""
_PERMISSIONS: Final = "/api/2.0/permissions/serving-endpoints"
_POOLS: Final = "/api/2.0/pools"
_ONE: Final = f"{BASE}/{{name}}"
_ENTITY: Final = f"{_ONE}/served-models/{{entity}}"


class Call(NamedTuple):
    """One method of one path. A slash at the end of a path is no other path."""

    method: str
    path: str
    role: Role | None
    """What the caller may have to do; with an endpoint in the path that is checked before anything else, without
    one by the handler. None: nobody is asked for a token."""
    handler: Handler
    what: str
    takes: type[BaseModel] | None = None
    """The form of the body."""
    gives: Any = None
    """The type of the answer; None: any JSON."""
    ours: bool = False
    """Not in Databricks' API."""
    query: Mapping[str, str] | None = None
    """The words of its query, and what each means; None: those of a change, where the method makes one."""

    @property
    def name(self) -> str:
        """For metrics."""
        return f"{self.method} {self.path}"


_VIEW, _QUERY, _MANAGE = Role.VIEW, Role.QUERY, Role.MANAGE
_DETAILED, _HISTORY = shapes.Endpoint, dict[str, list[shapes.Revision]]

CALLS: Final = (
    Call("GET", BASE, _VIEW, endpoints.listed, "All endpoints that the caller may see", gives=dict[str, list[shapes.Summary]]),
    Call("POST", BASE, _MANAGE, endpoints.create, "Create an endpoint", forms.Endpoint, _DETAILED),
    Call("GET", _ONE, _VIEW, endpoints.get, "One endpoint with its state", gives=_DETAILED),
    Call("DELETE", _ONE, _MANAGE, endpoints.delete, "Delete an endpoint; its history stays"),
    Call("PUT", f"{_ONE}/config", _MANAGE, endpoints.update, "Change entities, split or both", forms.CoreConfig, _DETAILED),
    Call("PATCH", f"{_ONE}/tags", _MANAGE, parts.tags, "Delete and add tags", forms.TagsPatch),
    Call("PUT", f"{_ONE}/rate-limits", _MANAGE, parts.rate_limits, "Replace the deprecated limits", forms.RateLimits),
    Call("PUT", f"{_ONE}/ai-gateway", _MANAGE, parts.ai_gateway, "Replace fallback, limits and usage tracking", forms.Gateway),
    Call("PATCH", f"{_ONE}/notifications", _MANAGE, parts.notifications, "Kept and shown", forms.Notifications),
    Call("PATCH", f"{_ONE}/telemetry-config", _MANAGE, parts.telemetry, "Kept and shown", forms.Telemetry),
    Call("GET", f"{_ONE}/metrics", _VIEW, pages.metrics, "Its series in Prometheus' text"),
    Call("GET", f"{_ONE}/openapi", _VIEW, pages.openapi, "How it is queried, as OpenAPI 3.1"),
    Call("GET", f"{_ENTITY}/logs", _VIEW, pages.logs, "How a served entity is"),
    Call("GET", f"{_ENTITY}/build-logs", _VIEW, pages.build_logs, "That nothing is built"),
    Call("POST", TWIN, _MANAGE, endpoints.create, "Create, as for provisioned throughput", forms.Endpoint, _DETAILED),
    Call("PUT", f"{TWIN}/{{name}}/config", _MANAGE, endpoints.update_provisioned, "Change, `config` in the body"),
    Call("GET", f"{_PERMISSIONS}/{{id}}", _VIEW, rights.permissions, "Who may what; by the endpoint's id"),
    Call("GET", f"{_PERMISSIONS}/{{id}}/permissionLevels", _VIEW, rights.permission_levels, "The levels that there are"),
    Call("PUT", f"{_PERMISSIONS}/{{id}}", _MANAGE, rights.set_permissions, "501: rights stand in the file of tokens"),
    Call("PATCH", f"{_PERMISSIONS}/{{id}}", _MANAGE, rights.set_permissions, "501: rights stand in the file of tokens"),
    Call("GET", "/api/2.0/preview/scim/v2/Me", _VIEW, rights.me, "Whose token it is"),
    Call("GET", "/.well-known/databricks-config", None, pages.discovery, "`{}`: what each client asks for first"),
    Call("GET", f"{_ONE}/rollouts", _VIEW, rollouts.status, "Its rollout, or its last one", ours=True),
    Call(
        "POST",
        f"{_ONE}/rollouts",
        _MANAGE,
        rollouts.start,
        "Begin a rollout by this plan, `?force=true` past guards",
        ours=True,
    ),
    Call(
        "POST", f"{_ONE}/rollouts/{{action}}", _MANAGE, rollouts.command, "promote, pause, resume, abort or undo it", ours=True
    ),
    Call(
        "GET",
        f"{_ONE}/measures",
        _VIEW,
        measures.shown,
        "How its entities and arms are doing",
        gives=measured.Answer,
        ours=True,
        query={"window": measures.WINDOW},
    ),
    Call(
        "GET",
        f"{_ONE}/measures/series",
        _VIEW,
        measures.series,
        "Its entities' requests, errors and times to the first token over time",
        gives=series.Series,
        ours=True,
        query={"window": measures.SLOTS_WINDOW},
    ),
    Call(
        "POST", f"{_ONE}/feedback", Role.QUERY, measures.feedback, "How good an answer was", Feedback, measured.Said, True, {}
    ),
    Call("GET", _POOLS, _VIEW, pools.listed, "All pools as they are now", gives=pools.PoolsAnswer, ours=True),
    Call(
        "GET",
        f"{_POOLS}/{{pool}}/endpoints",
        _VIEW,
        pools.endpoints,
        "A pool's endpoints: health, signals and their age, what goes there",
        gives=pools.EndpointsAnswer,
        ours=True,
        query={
            "filter": pools.FILTER,
            "sort": pools.SORT,
            "limit": f"At most so many, 100 by default and {pools.MOST} at most",
            "offset": "Behind so many",
        },
    ),
    Call(
        "GET",
        f"{_POOLS}/{{pool}}/history",
        _VIEW,
        pools.history,
        "A measure over the last 15 minutes, of a pool or an endpoint",
        gives=pools.HistoryAnswer,
        ours=True,
        query={"measure": pools.MEASURE, "endpoint": "The address of one; else it is over all of the pool"},
    ),
    Call("GET", f"{_ONE}/history", _VIEW, versions.history, "Its changes, newest first", gives=_HISTORY, ours=True),
    Call("GET", f"{_ONE}/shadows", _VIEW, shadows.shadows, "What its shadows showed; `?bodies=true` to manage", ours=True),
    Call("POST", f"{_ONE}/revert", _MANAGE, versions.revert, "Back to a config of before", gives=_DETAILED, ours=True),
    Call("GET", f"{BASE}:decisions", _VIEW, decided.search, "The last decisions, searched", ours=True, query=decided.QUERY),
    Call(
        "POST",
        f"{BASE}:try",
        Role.QUERY,
        decided.tried,
        "What a request would be told now; nothing is sent",
        ours=True,
        query={},
    ),
    Call(
        "GET",
        f"{BASE}:changes",
        _VIEW,
        changed.changes,
        "The record of changes, also as a table",
        ours=True,
        query=changed.QUERY,
    ),
    Call("GET", f"{BASE}:changes-check", _VIEW, changed.check, "Whether that record's chain is whole", ours=True),
    Call("GET", f"{BASE}:export", _VIEW, versions.exports, "Endpoints as documents, `?format=yaml` for a file", ours=True),
    Call("POST", f"{BASE}:import", _MANAGE, versions.imports, "Create and change from documents, all or none", ours=True),
)
