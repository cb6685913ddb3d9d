"""What a registry may answer, and what becomes of it: MLflow's words, anything else, nothing at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from extproc.app.registry.client import MAX_ANSWER_BYTES, AskFailed, NotThere, RegistryClient
from extproc.demo.ports import free_ports
from extproc.registry.answers import ModelVersion

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers everything so; its address."""
    app = web.Application()
    app.router.add_get("/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(uri: str, **words: object) -> AsyncIterator[RegistryClient]:
    made = RegistryClient(uri, **{"timeout_s": 5.0, **words})  # type: ignore[arg-type]  # of a test
    try:
        yield made
    finally:
        await made.close()


async def test_a_model_and_a_version_are_asked_for_as_mlflow_has_it() -> None:
    seen: list[tuple[str, dict[str, str], str]] = []

    async def mlflow(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.query), request.headers.get("authorization", "")))
        if request.path.endswith("registered-models/get"):
            return web.json_response(
                {"registered_model": {"name": request.query["name"], "aliases": [{"alias": "a", "version": "1"}]}}
            )
        return web.json_response({"model_version": {"version": "1", "status": "READY"}})

    async with answering(mlflow) as uri, client(f"{uri}/base/", authorization=lambda: "Bearer key") as registry:
        assert await registry.aliases("a b&c=%/é") == {"a": "1"}
        assert await registry.version("churn", "1") == ModelVersion("1")
    assert seen == [
        ("/base/api/2.0/mlflow/registered-models/get", {"name": "a b&c=%/é"}, "Bearer key"),
        ("/base/api/2.0/mlflow/model-versions/get", {"name": "churn", "version": "1"}, "Bearer key"),
    ]


async def test_unity_catalog_has_paths_of_its_own() -> None:
    async def databricks(request: web.Request) -> web.Response:
        assert request.path == "/api/2.0/mlflow/unity-catalog/registered-models/get"
        return web.json_response({"registered_model": {"name": "main.ml.churn", "aliases": [{"alias": "a", "version": 7}]}})

    async with answering(databricks) as uri, client(uri, unity_catalog=True) as registry:
        assert await registry.aliases("main.ml.churn") == {"a": "7"}


async def test_what_is_not_there_is_no_failure() -> None:
    async def absent(_: web.Request) -> web.Response:
        return web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}, status=404)

    async with answering(absent) as uri, client(uri) as registry:
        with pytest.raises(NotThere):
            await registry.aliases("churn")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, "<html>sign in</html>", "unreadable", "not JSON; expected MLflow's REST API"),
        (200, "{}", "unreadable", "expected an object with registered_model"),
        (200, '{"registered_model": {"name": "other"}}', "unreadable", "the registered model that was asked for"),
        (200, "", "unreadable", "not JSON"),
        (200, '{"registered_model"', "unreadable", "not JSON"),
        (200, " " * (MAX_ANSWER_BYTES + 1), "unreadable", f"more than {MAX_ANSWER_BYTES} bytes"),
        (500, "oops", "status", "status 500; expected 200"),
        (503, '{"error_code": "TEMPORARILY_UNAVAILABLE"}', "status", "status 503 TEMPORARILY_UNAVAILABLE"),
        (401, "", "refused", "status 401; expected credentials that may read registered models"),
        (403, '{"error_code": "PERMISSION_DENIED"}', "refused", "status 403; expected credentials"),
        (404, "<html>", "status", "expected the address of an MLflow server"),
        (302, "", "status", "status 302; expected 200"),
    ],
)
async def test_any_other_answer_is_a_failure_that_quotes_nothing(status: int, body: str, kind: str, words: str) -> None:
    async def other(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"location": "http://127.0.0.1:1/"} if status == 302 else {})

    async with answering(other) as uri, client(uri) as registry:
        with pytest.raises(AskFailed) as raised:
            await registry.aliases("churn")
    assert raised.value.kind == kind
    assert words in str(raised.value)
    assert "sign in" not in str(raised.value)
    assert "oops" not in str(raised.value)


async def test_a_packed_answer_is_not_unpacked() -> None:
    async def packed(_: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})

    async with answering(packed) as uri, client(uri) as registry:
        with pytest.raises(AskFailed, match="a packed answer"):
            await registry.aliases("churn")


async def test_who_hangs_is_given_up() -> None:
    over = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await over.wait()
        return response

    async with answering(hangs) as uri, client(uri, timeout_s=0.05) as registry:
        with pytest.raises(AskFailed, match=r"no whole answer in 0\.05 s") as raised:
            await registry.aliases("churn")
        over.set()
    assert raised.value.kind == "timeout"


async def test_who_is_not_there_is_said_so() -> None:
    (port,) = free_ports(1)
    async with client(f"http://127.0.0.1:{port}") as registry:
        with pytest.raises(AskFailed, match="connection refused") as raised:
            await registry.aliases("churn")
    assert raised.value.kind == "unreachable"


async def test_a_server_that_speaks_no_tls_is_said_so() -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    async with answering(plain) as uri, client(uri.replace("http://", "https://")) as registry:
        with pytest.raises(AskFailed) as raised:
            await registry.aliases("churn")
    assert raised.value.kind == "unreachable"
