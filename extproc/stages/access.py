"""Who may query a serving endpoint: bearer tokens on requests."""

from __future__ import annotations

from typing import Final

from extproc.domain import InferenceRequest
from extproc.errors import PermissionDenied, Unauthenticated
from extproc.live import Live
from extproc.request import is_upgrade
from extproc.settings.tokens import Grant, Role, TokenTable
from extproc.stages.draft import Draft
from extproc.stages.find import SERVING_PATH
from extproc.stages.stage import NO_HOOKS, Step

_BEARER: Final = b"bearer "


class CheckAccess:
    """Refuses who has no token, or one without the right to query the endpoint.

    It stands behind the finding of the endpoint and before all that costs anything. A token that was checked goes no further:
    it is ours and not the model server's.
    """

    def __init__(self, tokens: Live[TokenTable] | None, *, every_path: bool = False) -> None:
        """Without `tokens` everybody may. `every_path`: also elsewhere than below `/serving-endpoints/`, where tokens are for
        models by their names.
        """
        self._tokens = tokens
        self._every_path = every_path
        self.hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        tokens = self._tokens
        if tokens is None or not (self._every_path or SERVING_PATH in request.path):
            return None
        headers = request.head.headers
        if is_preflight(request):
            return None
        grant = _grant(tokens.value, headers.get("authorization"), headers.get("x-api-key"))
        name = draft.model if draft.endpoint is None else draft.endpoint.name
        if not grant.may(Role.QUERY, name or ""):
            what = (
                f"endpoint `{name}`"
                if draft.endpoint is not None
                else f"model `{name}`"
                if name
                else "requests without a model"
            )
            raise PermissionDenied(f"{grant.subject} has no right to query {what}")
        draft.subject = grant.subject
        draft.groups = grant.groups
        if request.head.attempt != 0:  # handed over as it is, it is checked again
            draft.remove_headers += tuple([header for header in ("authorization", "x-api-key") if header in headers])
        if draft.reasons is not None:
            draft.reasons.of(self, {"subject": grant.subject})
        return None


def is_preflight(request: InferenceRequest) -> bool:
    """A browser's question before a request, asked without credentials (Fetch, "CORS-preflight fetch"). It has no body: what
    has one, or is upgraded to another protocol, may be served as any other request is.
    """
    headers = request.head.headers
    return (
        headers.get(":method") == b"OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
        and not request.body_bytes
        and headers.get("content-length", b"0") == b"0"  # the proxy need not show it
        and "transfer-encoding" not in headers
        and not is_upgrade(request.head)
    )


def _grant(tokens: TokenTable, authorization: bytes | None, api_key: bytes | None) -> Grant:
    """What the request's token allows. Raises Unauthenticated."""
    given = api_key  # Anthropic's clients
    if authorization is not None:
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("authorization: expected a bearer token")
        given = authorization[len(_BEARER) :].strip()
    if not given:
        raise Unauthenticated("a token is needed: authorization: Bearer TOKEN")
    grant = tokens.grant(given.decode("latin-1"))
    if grant is None:
        raise Unauthenticated("the token is not known here, or is no longer good")
    return grant
