"""Who may query a serving endpoint: bearer tokens on requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from extproc.domain import InferenceRequest
from extproc.errors import AccessUnknown, ExtProcError, PermissionDenied, Unauthenticated
from extproc.live import Live
from extproc.request import is_upgrade
from extproc.settings.tokens import Grant, Role, TokenTable
from extproc.stages.draft import Draft
from extproc.stages.find import SERVING_PATH, unknown
from extproc.stages.stage import NO_HOOKS, Pending, Step

_BEARER: Final = b"bearer "
_PATIENCE_S: Final = 10.0
"""Two questions of at most 5 s, who it is and what they may."""
WAITS_FOR: Final = "the word of Kubernetes on a token"


class Bearer(NamedTuple):
    """Who has a token, and whether they may query what they ask for."""

    subject: str
    groups: tuple[str, ...]
    may: bool


class Reviewers(Protocol):
    """Somebody elsewhere who knows tokens. `name` is of an endpoint or a model, '' where the request names none."""

    def known(self, token: str, name: str) -> Bearer | ExtProcError | None:
        """What was said of the token lately, or why it is refused; None when it has to be asked about."""
        ...

    def ask(self, token: str, name: str, resolve: Callable[[object], None]) -> Callable[[], None]:
        """As `Pending.begin`; the outcome is a Bearer or an ExtProcError."""
        ...


class CheckAccess:
    """Refuses who has no token, or one without the right to query the endpoint.

    It stands behind the finding of the endpoint and before all that costs anything. A token that was checked goes no further:
    it is ours and not the model server's.
    """

    def __init__(
        self, tokens: Live[TokenTable] | None, reviewers: Reviewers | None = None, *, every_path: bool = False
    ) -> None:
        """By a table of tokens, or by whoever else knows them; without either everybody may. `every_path`: also elsewhere than
        below `/serving-endpoints/`, where tokens are for models by their names.
        """
        self._tokens = tokens
        self._reviewers = reviewers
        self._every_path = every_path
        self.hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        tokens, reviewers = self._tokens, self._reviewers
        if (tokens is None and reviewers is None) or not (self._every_path or SERVING_PATH in request.path):
            return None
        headers = request.head.headers
        if is_preflight(request):
            _refuse_unknown(draft)
            return None
        token = _token(headers.get("authorization"), headers.get("x-api-key"))
        name = _name(draft)
        if tokens is not None:
            return self._admit(request, draft, _by_table(tokens.value, token, name))
        assert reviewers is not None
        known = reviewers.known(token, name)
        if known is None:
            return self._ask(request, draft, reviewers, token, name)
        return self._admit(request, draft, known)

    def _ask(self, request: InferenceRequest, draft: Draft, reviewers: Reviewers, token: str, name: str) -> Step:
        def begin(resolve: Callable[[object], None]) -> Callable[[], None]:
            return reviewers.ask(token, name, resolve)

        def then(outcome: object) -> Step:
            assert isinstance(outcome, Bearer)
            return self._admit(request, draft, outcome)

        late = AccessUnknown(f"nothing was said of the token within {_PATIENCE_S:g} s")
        return Pending(WAITS_FOR, begin, then, timeout_s=_PATIENCE_S, fallback=late)

    def _admit(self, request: InferenceRequest, draft: Draft, bearer: Bearer | ExtProcError) -> Step:
        if isinstance(bearer, ExtProcError):
            raise bearer
        if not bearer.may:
            raise PermissionDenied(f"{bearer.subject} has no right to query {_what(draft)}")
        _refuse_unknown(draft)
        draft.subject = bearer.subject
        draft.groups = bearer.groups
        if request.head.attempt != 0:  # handed over as it is, it is checked again
            headers = request.head.headers
            draft.remove_headers += tuple([header for header in ("authorization", "x-api-key") if header in headers])
        if draft.reasons is not None:
            draft.reasons.of(self, {"subject": bearer.subject})
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


def _token(authorization: bytes | None, api_key: bytes | None) -> str:
    """What the request has. Raises Unauthenticated."""
    given = api_key  # Anthropic's clients
    if authorization is not None:
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("authorization: expected a bearer token")
        given = authorization[len(_BEARER) :].strip()
    if not given:
        raise Unauthenticated("a token is needed: authorization: Bearer TOKEN")
    return given.decode("latin-1")


def _by_table(tokens: TokenTable, token: str, name: str) -> Bearer:
    """What the token allows. Raises Unauthenticated."""
    grant: Grant | None = tokens.grant(token)
    if grant is None:
        raise Unauthenticated("the token is not known here, or is no longer good")
    return Bearer(grant.subject, grant.groups, grant.may(Role.QUERY, name))


def _name(draft: Draft) -> str:
    """Of what is asked for."""
    return (draft.model or "") if draft.endpoint is None else draft.endpoint.name


def _refuse_unknown(draft: Draft) -> None:
    """An endpoint that is not there is told to who might query it, and to nobody else. Raises UnknownEndpoint."""
    if draft.unknown:
        raise unknown(draft.model or "")


def _what(draft: Draft) -> str:
    if draft.endpoint is not None or draft.unknown:
        return f"endpoint `{_name(draft)}`"
    return f"model `{draft.model}`" if draft.model else "requests without a model"
