"""Tokens on requests for serving endpoints."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from extproc.domain import RequestHead
from extproc.errors import AccessNotChecked, AccessUnknown, ExtProcError, PermissionDenied, Unauthenticated, UnknownEndpoint
from extproc.live import LiveWriter
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.request import parse
from extproc.settings.tokens import Grant, Role, TokenTable, digest_of
from extproc.stages import Bearer, CheckAccess, Draft
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session, reply_of
from tests.fakes import messages
from tests.fakes.deployment import Deployment
from tests.fakes.messages import answers
from tests.fakes.waiting import FakeCarrier
from tests.stages.running import explained, run
from tests.stages.test_serve import spec

ANN, BOB, EVE = "ann-has-a-long-token", "bob-has-a-long-token", "eve-has-a-long-token"
TABLE = TokenTable(
    {
        digest_of(ANN): Grant("ann", Role.QUERY, groups=("team",)),
        digest_of(BOB): Grant("bob", Role.MANAGE, ("other", "pre*")),
        digest_of(EVE): Grant("eve", Role.VIEW),
    }
)
PREFLIGHT = {"origin": "https://a.example", "access-control-request-method": "POST"}
PATH = "/serving-endpoints/chat/invocations"


def ask(
    path: str = PATH,
    headers: dict[str, str] = {},
    *,
    model: str | None = None,
    every_path: bool = False,
    attempt: int | None = None,
    method: str = "POST",
    body: bytes | None = None,
) -> Draft:
    stages = Deployment().serving(spec(a=100), names=False, pool=["model-a", "model-b"])
    check = CheckAccess(LiveWriter(TABLE).live, every_path=every_path)
    named = {":method": method, ":path": path, "content-type": "application/json", **headers}
    head = RequestHead({name: value.encode() for name, value in named.items()}, attempt=attempt)
    if body is None:
        body = orjson.dumps({"messages": []} if model is None else {"model": model})
    request = parse(head, body)
    draft = Draft(0.0, body, model=request.model)
    for stage in (stages[0], check):
        run(stage, request, draft)
    return draft


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_who_may_query_goes_on_without_the_token() -> None:
    draft = ask(headers=bearer(ANN))
    assert (draft.subject, draft.groups) == ("ann", ("team",))
    assert draft.remove_headers == ("authorization",)


@pytest.mark.parametrize("headers", [{"authorization": f"bearer  {ANN}"}, {"x-api-key": ANN}])
def test_a_token_may_come_as_clients_send_it(headers: dict[str, str]) -> None:
    assert ask(headers=headers).subject == "ann"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "a token is needed"),
        ({"authorization": "Basic YTpi"}, "expected a bearer token"),
        ({"authorization": "Bearer "}, "a token is needed"),
        ({"authorization": "Bearer nobody-has-this-token"}, "not known here"),
        ({"authorization": f"Bearer {ANN[:-1]}"}, "not known here"),
    ],
)
def test_who_is_not_known_is_401_without_a_quote(headers: dict[str, str], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as error:
        ask(headers=headers)
    error.value.answers(PATH.encode())
    reply = reply_of(error.value)
    assert reply.status == 401
    assert ("www-authenticate", "Bearer") in reply.headers
    assert ANN[:-1].encode() not in reply.body
    assert b"nobody-has" not in reply.body


@pytest.mark.parametrize("token", [BOB, EVE])
def test_who_may_not_query_it_is_403(token: str) -> None:
    with pytest.raises(PermissionDenied, match="has no right to query endpoint `chat`"):
        ask(headers=bearer(token))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ["chat", "nothing"])
def test_a_name_can_t_be_guessed_by_the_answer(name: str, method: str) -> None:
    """One that is not there is refused as one that is, but to who might query it if it were."""
    path = PATH.replace("chat", name)
    with pytest.raises(Unauthenticated, match=r"^a token is needed"):
        ask(path, method=method)
    with pytest.raises(Unauthenticated, match=r"^the token is not known here"):
        ask(path, bearer("dapi-nobody"), method=method)
    with pytest.raises(PermissionDenied, match=rf"^bob has no right to query endpoint `{name}`$"):
        ask(path, bearer(BOB), method=method)
    with pytest.raises(UnknownEndpoint, match=r"^Endpoint with name 'nothing' does not exist$"):
        ask(PATH.replace("chat", "nothing"), bearer(ANN), method=method)


def test_elsewhere_no_token_is_needed_unless_it_is_asked_for() -> None:
    assert ask("/v1/chat/completions", model="chat").subject == ""
    with pytest.raises(Unauthenticated):
        ask("/v1/chat/completions", model="chat", every_path=True)
    with pytest.raises(PermissionDenied, match="no right to query model `model-b`"):
        ask("/v1/chat/completions", model="model-b", every_path=True, headers=bearer(BOB))
    assert ask("/v1/chat/completions", model="model-b", every_path=True, headers=bearer(ANN)).subject == "ann"


@pytest.mark.parametrize("path", ["/llm" + PATH, "/" + PATH])
def test_what_stands_before_the_path_is_no_way_around(path: str) -> None:
    with pytest.raises(Unauthenticated):
        ask(path)


def test_a_token_that_is_not_checked_passes() -> None:
    assert ask("/v1/chat/completions", bearer("sk-somebody"), model="chat").remove_headers == ()


def test_a_browser_s_preflight_needs_none() -> None:
    assert ask(method="OPTIONS", headers=PREFLIGHT, body=b"").subject == ""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PREFLIGHT, b'{"messages":[]}'),
        (PREFLIGHT | {"upgrade": "websocket", "connection": "Upgrade"}, b""),
        (PREFLIGHT | {"content-length": "15"}, b""),
        (PREFLIGHT | {"transfer-encoding": "chunked"}, b""),
        ({}, b""),
        ({"origin": "https://a.example"}, b""),
        ({"access-control-request-method": "POST"}, b""),
    ],
)
def test_what_only_looks_like_a_preflight_is_no_way_around(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Unauthenticated):
        ask(method="OPTIONS", headers=headers, body=body)


def test_where_it_is_handed_over_the_token_is_checked_and_stays() -> None:
    draft = ask(attempt=0, headers=bearer(ANN))
    assert (draft.subject, draft.remove_headers) == ("ann", ())
    with pytest.raises(Unauthenticated):
        ask(attempt=0)


def test_it_explains_itself_without_the_token() -> None:
    check = CheckAccess(LiveWriter(TABLE).live)
    head = RequestHead({":method": b"POST", ":path": PATH.encode(), "authorization": f"Bearer {ANN}".encode()})
    assert explained(check, parse(head, b"{}")) == {"subject": "ann"}


class Elsewhere:
    """Somebody who knows tokens, and is asked."""

    def __init__(self, known: Bearer | ExtProcError | None = None) -> None:
        self.answer = known
        self.asked: list[tuple[str, str]] = []
        self.cancelled = 0
        self.resolve: Callable[[object], None] | None = None

    def known(self, token: str, name: str) -> Bearer | ExtProcError | None:
        return self.answer

    def ask(self, token: str, name: str, resolve: Callable[[object], None]) -> Callable[[], None]:
        self.asked.append((token, name))
        self.resolve = resolve
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1


class Through:
    """A session through the stage, and behind it what serves `chat`."""

    def __init__(self, elsewhere: Elsewhere, path: str = PATH) -> None:
        self.deployment = Deployment()
        stages = self.deployment.serving(spec(a=100), pool=["model-a"])
        director = self.deployment.director(stages[0], CheckAccess(None, elsewhere), *stages[1:])
        self.session = Session(director, Encoder(), StreamLimits())
        self.carrier = FakeCarrier(self.session)
        headers = {":method": b"POST", ":path": path.encode(), "content-type": b"application/json"}
        headers["authorization"] = b"Bearer " + ANN.encode()
        for raw in (messages.request_headers(headers), messages.request_body(b'{"messages":[]}', end=True)):
            self.carrier.answers += self.session.receive(raw)

    def answered(self) -> pb.ProcessingResponse | None:
        """The first answer; None when there is none yet."""
        found = answers([joined(each) for each in self.carrier.answers])
        return found[0] if found else None

    def refused(self) -> tuple[int, str, str]:
        """Status, code and message of the answer."""
        answer = self.answered()
        assert answer is not None
        said = orjson.loads(answer.immediate_response.body)
        return answer.immediate_response.status.code, said["error_code"], said["message"]


class TestTokensThatSomebodyElseKnows:
    def test_who_is_remembered_does_not_wait(self) -> None:
        elsewhere = Elsewhere(Bearer("ann", ("team",), True))
        answer = Through(elsewhere).answered()
        assert answer is not None
        assert "authorization" in answer.request_headers.response.header_mutation.remove_headers
        assert elsewhere.asked == []

    def test_a_request_waits_for_the_answer(self) -> None:
        elsewhere = Elsewhere()
        through = Through(elsewhere)
        assert (through.answered(), elsewhere.asked) == (None, [(ANN, "chat")])
        assert elsewhere.resolve is not None
        elsewhere.resolve(Bearer("ann", (), True))
        answer = through.answered()
        assert answer is not None
        assert "authorization" in answer.request_headers.response.header_mutation.remove_headers

    def test_who_may_not_is_refused(self) -> None:
        elsewhere = Elsewhere()
        through = Through(elsewhere)
        assert elsewhere.resolve is not None
        elsewhere.resolve(Bearer("ann", (), False))
        assert through.refused() == (403, "PERMISSION_DENIED", "ann has no right to query endpoint `chat`")

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (Unauthenticated("who?"), 401, "UNAUTHENTICATED"),
            (AccessUnknown("away"), 503, "TEMPORARILY_UNAVAILABLE"),
            (AccessNotChecked("not ours to ask"), 500, "INTERNAL_ERROR"),
        ],
    )
    @pytest.mark.parametrize("late", [False, True])
    def test_a_refusal_is_the_answer(self, error: ExtProcError, status: int, code: str, late: bool) -> None:
        elsewhere = Elsewhere(None if late else error)
        through = Through(elsewhere)
        if late:
            assert elsewhere.resolve is not None
            elsewhere.resolve(error)
        assert through.refused() == (status, code, error.message)

    def test_nobody_waits_for_long(self) -> None:
        elsewhere = Elsewhere()
        through = Through(elsewhere)
        assert [timer.delay_s for timer in through.carrier.timers] == [10.0]
        through.carrier.expire()
        said = "nothing was said of the token within 10 s"
        assert (through.refused(), elsewhere.cancelled) == ((503, "TEMPORARILY_UNAVAILABLE", said), 1)

    def test_a_client_that_leaves_ends_the_wait(self) -> None:
        elsewhere = Elsewhere()
        Through(elsewhere).session.closed()
        assert elsewhere.cancelled == 1

    def test_it_says_what_it_would_wait_for(self) -> None:
        elsewhere = Elsewhere()
        director = Deployment().director(CheckAccess(None, elsewhere, every_path=True))
        head = RequestHead({":method": b"POST", ":path": PATH.encode(), "authorization": f"Bearer {ANN}".encode()})
        told = director.explain(head, b"{}")
        assert told["CheckAccess"] == {"waits_for": "the word of Kubernetes on a token", "timeout_s": 10.0}
        assert (elsewhere.asked, ANN in str(told)) == ([], False)

    def test_without_a_token_nobody_is_asked(self) -> None:
        elsewhere = Elsewhere()
        with pytest.raises(Unauthenticated):
            run(CheckAccess(None, elsewhere), parse(RequestHead({":method": b"POST", ":path": PATH.encode()}), b"{}"))
        assert elsewhere.asked == []
