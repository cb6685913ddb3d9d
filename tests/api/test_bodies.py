"""Whatever a body holds, the answer is a success or says what is wrong, in one shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.files.read import MAX_BYTES
from tests.api.served import BASE, Api, served
from tests.control.desks import document, split

ARTICLE = """{
  "name": "multi-model",
  "config": {
    "served_entities": [
      {"name": "current", "entity_name": "model-A", "entity_version": "1"},
    ]
  }
}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (ARTICLE, "body: line 5, column 75: got a comma before ]; expected none behind the last one"),
        ('{"name": "x"', "body: line 1, column 13: got the end; expected a comma, or the end of the object or list"),
        ("{name: x}", "body: line 1, column 2: got 'n'; expected a name in double quotes"),
        ('{"a": 1}\n{"b": 2}', "body: line 2, column 1: got '{'; expected the end, behind the one value"),
        ('{"name": "a", "name": "b"}', "body: key 'name' is there twice"),
        ('{"a": NaN}', "body: expected numbers, not NaN, Infinity or very many digits"),
        ("[" * 10_000, "body: expected at most 32 maps and lists in each other"),
        ("", "body: got nothing; expected a JSON object"),
        ("  \n", "body: got nothing; expected a JSON object"),
        ("[]", "body: got a list; expected a JSON object"),
        ('"text"', "body: got text; expected a JSON object"),
        ("3", "body: got a number; expected a JSON object"),
        ("true", "body: got true or false; expected a JSON object"),
        ("null", "body: got null; expected a JSON object"),
    ],
)
async def test_what_is_no_json_object_says_where(body: str, message: str) -> None:
    async with served() as api:
        for method, path in (("POST", ""), ("PUT", "/chat/config"), ("PATCH", "/chat/tags"), ("POST", "/chat/revert")):
            assert (await api.call(method, BASE + path, body.encode())).error == (400, "MALFORMED_REQUEST", message)


async def test_bytes_that_are_no_text() -> None:
    async with served() as api:
        status, code, message = (await api.post("", b'{"name": "\xff"}')).error
    assert (status, code) == (400, "MALFORMED_REQUEST")
    assert message.startswith("body: line 1: expected UTF-8 text")


async def test_a_body_that_is_too_large() -> None:
    body = json.dumps({**document(), "x": "y" * 2 * 2**20}).encode()

    async def pieces() -> Any:
        for start in range(0, len(body), 2**16):
            yield body[start : start + 2**16]

    async with served() as api:
        status, code, message = (await api.post("", body)).error
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert message == f"body: got {len(body)} bytes; expected at most {MAX_BYTES} bytes"
        # and when its size is not said before
        async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{api.port}{BASE}", data=pieces()) as one:
            assert one.status == 400
            assert (await one.json())["message"] == f"body: got more; expected at most {MAX_BYTES} bytes"
        assert (await api.get()).json == {"endpoints": []}


async def test_a_packed_body_is_not_taken() -> None:
    async with served() as api:
        answer = await api.post("", b"{}", **{"Content-Encoding": "gzip"})
        assert answer.error == (415, "INVALID_PARAMETER_VALUE", "content-encoding: got 'gzip'; expected a body as it is")


async def test_a_body_that_does_not_come() -> None:
    async with served(body_timeout_s=0.05) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"POST {BASE} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        said = (await reader.read()).decode()
        writer.close()
    assert said.startswith("HTTP/1.1 408 ")
    assert '{"error_code":"REQUEST_TIMEOUT","message":"body: it did not come within 0.05 s"}' in said


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "ENDPOINT_NOT_FOUND")),
        ("GET", "/api/2.0/other", (404, "ENDPOINT_NOT_FOUND")),
        ("GET", f"{BASE}/a/b/c", (404, "ENDPOINT_NOT_FOUND")),
        ("GET", f"{BASE}/%2F/x", (404, "ENDPOINT_NOT_FOUND")),
        ("GET", f"{BASE}/%00%ff", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("PATCH", BASE, (405, "METHOD_NOT_ALLOWED")),
        ("POST", f"{BASE}/chat", (405, "METHOD_NOT_ALLOWED")),
        ("BREW", f"{BASE}/chat", (400, "MALFORMED_REQUEST")),
        ("OPTIONS", BASE, (405, "METHOD_NOT_ALLOWED")),
    ],
)
async def test_paths_and_methods_that_there_are_not(method: str, path: str, expected: tuple[int, str]) -> None:
    async with served() as api:
        answer = await api.call(method, path)
        assert answer.error[:2] == expected
        assert ("allow" in answer.headers) == (expected[0] == 405)


NAMES = st.sampled_from(["a", "b", "chat", "model-A", "model-B", ""])
SHARES = st.integers(-1, 101) | st.sampled_from(["90", "10", 50.5, None, 100, 0])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | NAMES
ENTITY = st.fixed_dictionaries(
    {}, optional={"name": NAMES, "entity_name": NAMES, "entity_version": LEAVES, "external_model": LEAVES}
)
ROUTE = st.fixed_dictionaries(
    {}, optional={"served_entity_name": NAMES, "served_model_name": NAMES, "traffic_percentage": SHARES}
)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "served_entities": st.lists(ENTITY | LEAVES, max_size=3) | LEAVES,
        "served_models": st.lists(ENTITY, max_size=2),
        "traffic_config": st.fixed_dictionaries({"routes": st.lists(ROUTE | LEAVES, max_size=3)}) | LEAVES,
        "config_version": LEAVES,
        "reason": LEAVES,
    },
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | NAMES, inner, max_size=3)
)
BODY = (
    ANYTHING
    | CONFIG
    | st.fixed_dictionaries({"name": NAMES, "config": CONFIG | LEAVES}, optional={"tags": ANYTHING, "ai_gateway": ANYTHING})
)
CALLS = st.sampled_from(
    [
        ("POST", ""),
        ("POST", "/pt"),
        ("PUT", "/chat/config"),
        ("PUT", "/pt/chat/config"),
        ("PATCH", "/chat/tags"),
        ("PUT", "/chat/rate-limits"),
        ("PUT", "/chat/ai-gateway"),
        ("PATCH", "/chat/notifications"),
        ("PATCH", "/chat/telemetry-config"),
        ("POST", "/chat/revert"),
        ("POST", ":import"),
    ]
)
QUERY = st.sampled_from(["", "?dry_run=true", "?config_version=1", "?reason=%00", "?dry_run=&reason=x"])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(calls=st.lists(st.tuples(CALLS, QUERY, BODY | st.binary(max_size=20)), min_size=1, max_size=8))
def test_any_body_is_done_or_refused_in_one_shape(loop: asyncio.Runner, calls: list[tuple[tuple[str, str], str, Any]]) -> None:
    async def run() -> None:
        async with served() as api:
            await api.post("", document())
            for (method, path), query, body in calls:
                await _one(api, method, path + query, body)
            listed = await api.get()
            assert listed.status == 200
            for each in listed.json["endpoints"]:
                found = (await api.get(f"/{each['name']}")).json
                routes = found["config"]["traffic_config"]["routes"]
                assert sum(route["traffic_percentage"] for route in routes) == 100

    loop.run(run())


async def _one(api: Api, method: str, path: str, body: Any) -> None:
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    except ValueError:
        return
    answer = await api.call(method, BASE + path, data)
    if answer.status == 200:
        assert isinstance(answer.json, dict)
        return
    status, code, message = answer.error
    assert status in (400, 404, 409), answer
    assert code.isupper()
    assert message
    assert "Unexpected error" not in message  # which the SDK takes for a reason to try again


async def test_the_split_is_read_from_text_as_in_databricks_pages() -> None:
    async with served() as api:
        body = document()
        for route in body["config"]["traffic_config"]["routes"]:
            route["traffic_percentage"] = str(route["traffic_percentage"])
        routes = (await api.post("", body)).json["config"]["traffic_config"]["routes"]
        assert [route["traffic_percentage"] for route in routes] == [90, 10]
        assert (await api.put("/chat/config", split(a=101, b=-1))).status == 400


SEGMENTS = st.sampled_from(
    [
        "api",
        "2.0",
        "serving-endpoints",
        "chat",
        "pt",
        "config",
        "history",
        "permissions",
        "metrics",
        "served-models",
        "a",
        "logs",
    ]
) | st.text(max_size=6)
PATHS = st.lists(SEGMENTS, max_size=7).map(lambda parts: "/" + "/".join(parts)) | st.sampled_from(
    [BASE, f"{BASE}/chat", f"{BASE}/chat/history", f"{BASE}:export", f"{BASE}/chat/metrics", "/api/2.0/openapi.json"]
)
QUERIES = st.dictionaries(
    st.sampled_from(["limit", "before", "dry_run", "config_version", "reason", "format", "owner", "x"]), st.text(max_size=8)
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(calls=st.lists(st.tuples(METHODS, PATHS, QUERIES), min_size=1, max_size=10))
def test_any_path_is_answered_in_one_shape(loop: asyncio.Runner, calls: list[tuple[str, str, dict[str, str]]]) -> None:
    async def run() -> None:
        async with served() as api:
            await api.post("", document())
            for method, path, query in calls:
                answer = await api.call(method, f"{quote(path)}?{urlencode(query)}")
                assert answer.status in (200, 400, 404, 405, 409, 501), answer
                if answer.status != 200 and method != "HEAD":
                    assert all(answer.error)

    loop.run(run())
