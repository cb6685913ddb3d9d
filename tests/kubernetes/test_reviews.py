"""Who may read a page, asked of a fake API server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.reviews import ALLOWED_S, AWAY_S, KNOWN_S, PAUSE_S, UNKNOWN_S, Refusal, Reviews, User
from extproc.observability.instruments import Instruments
from tests.fakes.clock import FakeClock
from tests.fakes.kube import FakeKube
from tests.fakes.page import counted

TOKENS, ACCESS = "tokenreviews.authentication.k8s.io", "subjectaccessreviews.authorization.k8s.io"
PROMETHEUS = {
    "username": "system:serviceaccount:monitoring:prometheus",
    "uid": "u",
    "groups": ["system:serviceaccounts"],
    "extra": {"pod": ["p-0"]},
}


class Asked:
    """The API server's side: who is known, and who may what."""

    def __init__(self, fake: FakeKube) -> None:
        self.users: dict[str, dict[str, Any]] = {"good": PROMETHEUS}
        self.allowed = {(PROMETHEUS["username"], "get", "/metrics")}
        self.specs: list[dict[str, Any]] = []
        fake.token_review = self._token
        fake.access_review = self._access
        self._fake = fake

    def _token(self, body: dict[str, Any]) -> dict[str, Any]:
        user = self.users.get(body["spec"]["token"])
        return {"authenticated": True, "user": user} if user else {"authenticated": False}

    def _access(self, body: dict[str, Any]) -> dict[str, Any]:
        spec = body["spec"]
        self.specs.append(spec)
        what = spec["nonResourceAttributes"]
        return {"allowed": (spec["user"], what["verb"], what["path"]) in self.allowed}

    def count(self) -> tuple[int, int]:
        """TokenReviews and SubjectAccessReviews so far."""
        paths = [path for _, path, _ in self._fake.requests]
        return sum("tokenreviews" in path for path in paths), sum("subjectaccessreviews" in path for path in paths)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
def asked(fake: FakeKube) -> Asked:
    return Asked(fake)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture
async def reviews(fake: FakeKube, tmp_path: Path, clock: FakeClock, instruments: Instruments) -> AsyncIterator[Reviews]:
    path = tmp_path / "kubeconfig"
    path.write_text(fake.kubeconfig())
    client = await KubeClient.connect(str(path))
    yield Reviews(client, instruments, clock=clock)
    await client.close()


async def status(reviews: Reviews, token: str = "good", method: str = "GET", path: str = "/metrics") -> int:
    refusal = await reviews.refusal(f"Bearer {token}", method, path)
    return 200 if refusal is None else refusal.status


async def test_who_may(reviews: Reviews, asked: Asked, instruments: Instruments) -> None:
    assert await reviews.refusal("Bearer good", "GET", "/metrics") is None
    assert asked.specs == [
        {
            "user": PROMETHEUS["username"],
            "uid": "u",
            "groups": ["system:serviceaccounts"],
            "extra": {"pod": ["p-0"]},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        }
    ]
    assert counted(instruments, "extproc_metrics_auth") == {'extproc_metrics_auth_total{result="allowed"}': 1}


async def test_who_may_not(reviews: Reviews, asked: Asked) -> None:
    assert await reviews.refusal("Bearer good", "POST", "/debug/explain") == Refusal(
        403, "system:serviceaccount:monitoring:prometheus has no right to post the nonResourceURL /debug/explain"
    )


@pytest.mark.parametrize("header", ["", "Basic good", "Bearer", "Bearer ", "good", "Bearer " + "x" * 20_000])
async def test_no_token(reviews: Reviews, asked: Asked, header: str) -> None:
    refusal = await reviews.refusal(header, "GET", "/metrics")
    assert refusal is not None
    assert refusal.status == 401
    assert asked.count() == (0, 0)


async def test_an_unknown_token_is_asked_for_again_after_a_while(reviews: Reviews, asked: Asked, clock: FakeClock) -> None:
    assert [await status(reviews, "other") for _ in range(3)] == [401, 401, 401]
    assert asked.count() == (1, 0)
    asked.users["other"] = PROMETHEUS
    clock.advance(10)
    assert await status(reviews, "other") == 200


async def test_answers_are_kept_as_controller_runtime_keeps_them(reviews: Reviews, asked: Asked, clock: FakeClock) -> None:
    for _ in range(3):
        assert await status(reviews) == 200
    assert asked.count() == (1, 1)
    clock.advance(KNOWN_S)
    assert await status(reviews) == 200
    assert asked.count() == (2, 1)
    clock.advance(240)
    assert await status(reviews) == 200
    assert asked.count() == (3, 2)
    asked.allowed.clear()
    clock.advance(300)
    assert await status(reviews) == 403
    asked.allowed.add((PROMETHEUS["username"], "get", "/metrics"))
    assert await status(reviews) == 403
    clock.advance(30)
    assert await status(reviews) == 200


async def test_another_path_is_another_question(reviews: Reviews, asked: Asked) -> None:
    assert await status(reviews) == 200
    assert await status(reviews, path="/debug/endpoints") == 403


async def test_when_the_server_is_away_only_who_was_let_in_lately(
    reviews: Reviews, asked: Asked, fake: FakeKube, clock: FakeClock
) -> None:
    assert await status(reviews) == 200
    assert await status(reviews, path="/debug/endpoints") == 403
    await fake.kill()
    clock.advance(KNOWN_S + 300)
    with structlog.testing.capture_logs() as logs:
        assert await status(reviews) == 200
        assert await status(reviews, path="/debug/endpoints") == 503
        assert await status(reviews, "other") == 503
        assert [line["log_level"] for line in logs] == ["warning"]
        clock.advance(AWAY_S)
        assert await status(reviews) == 503
        await fake.start()
        clock.advance(PAUSE_S)
        assert await status(reviews) == 200
    assert [line["event"] for line in logs] == [
        "tokens of scrapers can't be checked",
        "tokens of scrapers can be checked again",
    ]


@pytest.mark.parametrize("resource", [TOKENS, ACCESS])
async def test_without_the_right_to_ask(reviews: Reviews, asked: Asked, fake: FakeKube, resource: str) -> None:
    fake.forbidden.add(("create", resource))
    with structlog.testing.capture_logs() as logs:
        refusal = await reviews.refusal("Bearer good", "GET", "/metrics")
    assert refusal is not None
    assert refusal.status == 500
    assert "no right to create tokenreviews.authentication.k8s.io and subjectaccessreviews" in refusal.text
    assert "--metrics-endpoint-auth=false" in refusal.text
    assert "cannot create" not in refusal.text, "what names our account is for the log"
    assert f'cannot create resource "{resource.partition(".")[0]}"' in logs[0]["error"]


@pytest.mark.parametrize(("says", "becomes"), [(500, 503), (503, 503), (429, 503), (401, 500), (404, 500)])
async def test_a_failing_server_lets_nobody_in(reviews: Reviews, asked: Asked, fake: FakeKube, says: int, becomes: int) -> None:
    """503 is for what will pass."""
    fake.failures[TOKENS] = says
    assert await status(reviews) == becomes


async def test_a_server_that_fails_is_left_alone_for_a_while(
    reviews: Reviews, asked: Asked, fake: FakeKube, clock: FakeClock
) -> None:
    fake.failures[TOKENS] = 500
    assert [await status(reviews, f"token-{n}") for n in range(5)] == [503] * 5
    assert asked.count() == (1, 0)
    clock.advance(PAUSE_S)
    fake.failures.clear()
    assert await status(reviews) == 200
    assert asked.count() == (2, 1)


async def test_who_was_let_in_lately_does_not_wait_for_a_server_that_is_away(
    reviews: Reviews, asked: Asked, fake: FakeKube, clock: FakeClock
) -> None:
    """It is asked meanwhile, and heard."""
    assert await status(reviews) == 200
    clock.advance(ALLOWED_S)
    fake.failures |= {TOKENS: 503, ACCESS: 503}
    assert await status(reviews) == 200
    asked.users.clear()
    fake.failures.clear()
    before = asked.count()
    assert reviews.known("good") is not None
    assert asked.count() == before, "it is too early to ask again"
    clock.advance(PAUSE_S)
    assert isinstance(reviews.known("good"), User)
    async with asyncio.timeout(5):
        while isinstance(reviews.known("good"), User):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert reviews.known("good") == Refusal(401, "the API server does not know this token, or it has expired")


async def test_who_is_no_longer_known_is_not_let_in_when_the_server_goes_away(
    reviews: Reviews, asked: Asked, fake: FakeKube, clock: FakeClock
) -> None:
    assert await status(reviews) == 200
    clock.advance(KNOWN_S)
    asked.users.clear()
    assert await status(reviews) == 401
    clock.advance(UNKNOWN_S)
    await fake.kill()
    assert await status(reviews) == 503


async def test_however_many_ask_at_once_the_server_is_asked_once(reviews: Reviews, asked: Asked) -> None:
    assert set(await asyncio.gather(*(status(reviews) for _ in range(50)))) == {200}
    assert asked.count() == (1, 1)


async def test_who_stops_waiting_takes_no_answer_from_others(reviews: Reviews, asked: Asked) -> None:
    first, second = (asyncio.ensure_future(status(reviews)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 200
    assert first.cancelled()
    assert asked.count() == (1, 1)


async def test_odd_answers_let_nobody_in(reviews: Reviews, fake: FakeKube) -> None:
    for answer in ({}, {"authenticated": "yes"}, {"authenticated": None}):
        fake.token_review = lambda _, answer=answer: answer  # type: ignore[misc]
        assert await status(reviews, f"token {answer}") == 401
    fake.token_review = lambda _: {"authenticated": True}
    fake.access_review = lambda _: {"allowed": "yes"}
    assert await status(reviews, "odd") == 403


async def test_tokens_are_not_kept(reviews: Reviews, asked: Asked) -> None:
    asked.users["s3cret-token"] = PROMETHEUS
    assert await status(reviews, "s3cret-token") == 200
    gc.collect()
    kept = repr(reviews._users) + repr(reviews._rights)
    assert "s3cret-token" not in kept


async def test_a_flood_of_tokens_is_bounded(reviews: Reviews, asked: Asked, fake: FakeKube) -> None:
    found = await asyncio.gather(*(status(reviews, f"token-{n}") for n in range(1100)))
    assert set(found) == {401}
    assert len(reviews._strangers) <= 1024


async def test_a_flood_of_tokens_forgets_nobody_who_is_known(reviews: Reviews, asked: Asked) -> None:
    assert await status(reviews) == 200
    await asyncio.gather(*(status(reviews, f"token-{n}") for n in range(1100)))
    assert isinstance(reviews.known("good"), User)


async def test_more_than_may_wait_are_refused(reviews: Reviews, asked: Asked) -> None:
    found = await asyncio.gather(*(status(reviews, f"token-{n}") for n in range(2100)))
    assert (found.count(401), found.count(503)) == (2048, 52)
