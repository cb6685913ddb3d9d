"""Limits on a serving endpoint, as its requests see them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from extproc.domain import BodyPath, RequestHead
from extproc.errors import RateLimited
from extproc.live import LiveWriter
from extproc.observability.serving import LimitMetrics
from extproc.request import KeyFinder, parse
from extproc.stages import Draft, Ending, FindEndpoint, LimitRate
from extproc.traffic import Catalog, EndpointSpec, EntitySpec, RateLimit, Route, RouteTable, ServingEndpoint, TrafficTable
from extproc.transport.session import reply_of
from tests.fakes.deployment import Deployment
from tests.stages.running import counts, run

REFUSED, TOKENS = "extproc_serving_rate_limited_total", "extproc_serving_tokens_total"
CATALOG = Catalog(routes=RouteTable([Route(("m",), "pool")]))


def chat(*limits: RateLimit, **more: Any) -> ServingEndpoint:
    return ServingEndpoint(EndpointSpec("chat", (EntitySpec("a", "m"),), (100,), rate_limits=limits, **more), CATALOG)


class Limited:
    """The two stages, over a table that may change."""

    def __init__(self, endpoint: ServingEndpoint) -> None:
        self.deployment = Deployment()
        self.writer = LiveWriter(TrafficTable([endpoint]))
        self.find = FindEndpoint(self.writer.live)
        metrics = LimitMetrics(self.deployment.instruments)
        self.stage = LimitRate(self.writer.live, metrics, KeyFinder(), clock=self.deployment.clock)

    def ask(
        self,
        user: str = "",
        body: str = "{}",
        *,
        attempt: int | None = None,
        subject: str = "",
        groups: tuple[str, ...] = (),
    ) -> Draft:
        headers = {":method": b"POST", ":path": b"/serving-endpoints/chat/invocations", "x-user-id": user.encode()}
        head = RequestHead(headers, attempt=attempt)
        draft = Draft(0.0, body.encode())
        draft.subject, draft.groups = subject, groups
        for stage in (self.find, self.stage):
            assert run(stage, parse(head, body.encode()), draft)[1] is None
        return draft

    def end(self, draft: Draft, status: int = 200, answer: dict[str, Any] | None = None) -> None:
        if draft.measurement is not None and answer is not None:
            draft.measurement.headers(status, {"content-type": b"application/json"}, BodyPath.FREE)
            draft.measurement.piece(orjson.dumps(answer))
            draft.measurement.end()
        if draft.endpoint is not None:
            draft.entity = draft.endpoint.entities[0]
        assert self.stage.hooks.ended is not None
        self.stage.hooks.ended(draft, Ending(status, True))

    def room(self, user: str = "") -> bool:
        try:
            self.ask(user)
        except RateLimited:
            return False
        return True


def test_what_is_over_the_limit_is_429_with_its_name_and_when_to_come_again() -> None:
    limited = Limited(chat(RateLimit("user", calls=2)))
    assert [limited.room("u") for _ in range(2)] == [True, True]
    with pytest.raises(RateLimited) as error:
        limited.ask("u")
    error.value.answers(b"/serving-endpoints/chat/invocations")
    reply = reply_of(error.value)
    assert (reply.status, dict(reply.headers)) == (429, {"retry-after": "30"})
    assert orjson.loads(reply.body) == {
        "error_code": "REQUEST_LIMIT_EXCEEDED",
        "message": "Endpoint `chat`: the limit of 2 calls per minute for each user is used up; try again in 30 s",
    }
    assert counts(limited.deployment, REFUSED) == {f'{REFUSED}{{key="user",serving_endpoint="chat",what="calls"}}': 1}
    assert limited.room("other")
    limited.deployment.clock.advance(30)
    assert limited.room("u")


def test_another_attempt_at_the_same_call_counts_once() -> None:
    limited = Limited(chat(RateLimit("endpoint", calls=2)))
    for attempt in (0, 1, 2, 3, 4):
        limited.ask(attempt=attempt)
    assert limited.room()
    assert not limited.room()


def test_what_is_handed_over_is_limited_where_it_comes_again() -> None:
    limited = Limited(chat(RateLimit("endpoint", calls=1)))
    for _ in range(3):
        assert limited.ask(attempt=0).charge is None
    limited.ask(attempt=1)
    limited.ask(attempt=0)
    with pytest.raises(RateLimited):
        limited.ask(attempt=1)


def test_a_further_attempt_is_not_refused_and_its_tokens_count() -> None:
    limited = Limited(chat(RateLimit("endpoint", tokens=100)))
    limited.end(limited.ask(attempt=1), 503)
    assert limited.room()
    draft = limited.ask(attempt=2)
    limited.end(draft, answer={"usage": {"prompt_tokens": 90, "completion_tokens": 20}})
    assert not limited.room()
    limited.ask(attempt=2)


def test_tokens_are_those_that_the_answer_says() -> None:
    limited = Limited(chat(RateLimit("endpoint", tokens=100), usage_tracking=True))
    draft = limited.ask(body='{"messages":"' + "x" * 200 + '"}')
    assert draft.charge is not None
    assert draft.charge.tokens == 54
    limited.end(draft, answer={"usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    labels = 'served_entity="a",serving_endpoint="chat"}'
    assert counts(limited.deployment, TOKENS) == {
        f'{TOKENS}{{kind="prompt",{labels}': 7,
        f'{TOKENS}{{kind="completion",{labels}': 3,
    }
    draft = limited.ask()
    limited.end(draft, answer={"usage": {"prompt_tokens": 89, "completion_tokens": 1}})
    assert not limited.room(), "7 + 3 + 89 + 1"


def test_where_the_answer_says_nothing_its_size_is_the_estimate() -> None:
    limited = Limited(chat(RateLimit("endpoint", tokens=100)))
    limited.end(limited.ask(), answer={"text": "x" * 400})
    assert not limited.room()


def test_a_failure_costs_a_call_and_no_tokens() -> None:
    limited = Limited(chat(RateLimit("endpoint", tokens=10, calls=2)))
    draft = limited.ask(body='{"messages":"' + "x" * 200 + '"}')
    limited.end(draft, status=503)
    assert limited.room()
    assert not limited.room()


def test_a_change_of_the_split_leaves_what_was_used() -> None:
    limited = Limited(chat(RateLimit("endpoint", calls=1)))
    assert limited.room()
    limited.writer.replace(TrafficTable([chat(RateLimit("endpoint", calls=1), sticky=False)]))
    assert not limited.room()
    limited.writer.replace(TrafficTable([chat(RateLimit("endpoint", calls=5))]))
    assert limited.room(), "another limit begins anew"


@pytest.mark.parametrize("limits", [(), (RateLimit("user", calls=5),)])
def test_without_anything_to_count_nothing_is_kept(limits: tuple[RateLimit, ...]) -> None:
    limited = Limited(chat(*limits))
    assert (limited.ask().charge is not None) == bool(limits)


def test_who_says_a_name_uses_nothing_up_of_who_has_its_token() -> None:
    limited = Limited(chat(RateLimit("user", calls=1)))
    limited.ask("ann")
    limited.ask(subject="ann")
    assert not limited.room("ann")
    with pytest.raises(RateLimited):
        limited.ask(subject="ann")


def test_of_a_long_key_a_few_bytes_are_kept() -> None:
    limited = Limited(chat(RateLimit("user", calls=1)))
    charge = limited.ask("u" * 4000).charge
    assert charge is not None
    assert len(charge.asker.user) == 16
    assert not limited.room("u" * 4000)
    assert limited.room("u" * 3999)


def test_a_group_of_a_token_shares_its_limit() -> None:
    limited = Limited(chat(RateLimit("user_group", calls=1, principal="team")))
    limited.ask(subject="ann", groups=("other", "team"))
    with pytest.raises(RateLimited, match="1 calls per minute for the group"):
        limited.ask(subject="bob", groups=("team",))
    limited.ask(subject="eve")
