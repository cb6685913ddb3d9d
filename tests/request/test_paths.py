"""Models that the path names, and paths whose body must name one."""

from __future__ import annotations

import pytest

from extproc.domain import RequestHead
from extproc.errors import InvalidModel
from extproc.request import ParseOptions, is_upgrade, parse
from extproc.request.paths import (
    BODY_PATHS,
    NAMING_PATHS,
    Api,
    NamingPath,
    api_of,
    matchers,
    model_of_path,
    renamed_path,
    requires_model,
    span_of_model,
    without_query,
)
from tests.costs import costs_less
from tests.fakes.events import head

VERTEX = "/v1/projects/p/locations/us-central1"

NAMED = [
    # KServe v2, Triton
    ("/v2/models/m/infer", "m"),
    ("/v2/models/m/versions/3/infer", "m"),
    ("/v2/models/m/generate", "m"),
    ("/v2/models/m/versions/3/generate_stream", "m"),
    ("/v2/models/m/ready", "m"),
    ("/v2/models/m/versions/3/ready", "m"),
    ("/v2/models/m", "m"),
    ("/v2/models/m/versions/3", "m"),
    ("/v2/models/m/config", "m"),
    ("/v2/models/stats/infer", "stats"),
    ("/v2/repository/models/m/load", "m"),
    # TensorFlow Serving, KServe v1
    ("/v1/models/m:predict", "m"),
    ("/v1/models/m/versions/2:predict", "m"),
    ("/v1/models/m/labels/stable:predict", "m"),
    ("/v1/models/m:explain", "m"),
    ("/v1/models/m:classify", "m"),
    ("/v1/models/m/versions/1:regress", "m"),
    ("/v1/models/m/metadata", "m"),
    ("/v1/models/m/versions/2/metadata", "m"),
    ("/v1/models/m/versions/2", "m"),
    ("/v1/models/org/m:predict", "org/m"),
    ("/v1/models/org/m/versions/2:predict", "org/m"),
    # Databricks, SageMaker, MLflow
    ("/serving-endpoints/m/invocations", "m"),
    ("/serving-endpoints/m/served-models/s-1/invocations", "m"),
    ("/serving-endpoints/m/served-entities/s-1/invocations", "m"),
    ("/endpoints/m/invocations", "m"),
    ("/endpoints/m/invocations-response-stream", "m"),
    ("/gateway/m/invocations", "m"),
    # Azure OpenAI, old OpenAI
    ("/openai/deployments/m/chat/completions", "m"),
    ("/openai/deployments/m/audio/transcriptions", "m"),
    ("/v1/engines/m/completions", "m"),
    # Amazon Bedrock
    ("/model/anthropic.claude-v1%3A0/invoke", "anthropic.claude-v1:0"),
    ("/model/anthropic.claude-v1:0/invoke-with-response-stream", "anthropic.claude-v1:0"),
    ("/model/arn%3Aaws%3Abedrock%3A%3A1%3Afoundation-model%2Fm/converse", "arn:aws:bedrock::1:foundation-model/m"),
    ("/model/m/converse-stream", "m"),
    # Vertex AI, Gemini
    (f"{VERTEX}/publishers/anthropic/models/claude@1:rawPredict", "claude@1"),
    (f"{VERTEX}/publishers/anthropic/models/claude@1:streamRawPredict", "claude@1"),
    (f"{VERTEX}/publishers/google/models/g:generateContent", "g"),
    (f"{VERTEX}/publishers/google/models/g:streamGenerateContent", "g"),
    (f"{VERTEX}/endpoints/42:predict", "42"),
    ("/v1beta/models/g:generateContent", "g"),
    ("/v1/models/g:streamGenerateContent", "g"),
    ("/v1beta/tunedModels/g:generateContent", "g"),
    ("/v1beta/models/g:embedContent", "g"),
    # something in front
    ("/serving/ns/isvc/v2/models/m/infer", "m"),
    ("/a/v1/models/m/versions/2:predict", "m"),
    ("/a/b/openai/deployments/m/embeddings", "m"),
    # percent-encoding
    ("/v2/models/a%2Fb%20c/infer", "a/b c"),
    ("/v2/models/a%252Fb/infer", "a%2Fb"),
    ("/v2/models/a+b%zz/infer", "a+b%zz"),
    ("/serving-endpoints/%C3%A9t%C3%A9/invocations", "été"),
    ("/serving-endpoints/\xc3\xa9t\xc3\xa9/invocations", "été"),
    ("/v1/models/m%2Fversions%2F2:predict", "m/versions/2"),
]

UNNAMED = [
    "/v2/models/stats",
    "/v2/models//infer",
    "/v2/models/a/b/infer",
    "/v2/models/m/infer/",
    "/v2/models/m/infer2",
    "/xv2/models/m/infer/x",
    "/v2/models",
    "/v2/health/ready",
    "/v1/models/:predict",
    "/v1/models/m:predicts",
    "/v1/models/m",
    "/v1/models",
    "/invocations",
    "/serving-endpoints/invocations",
    "/serving-endpoints/chat/completions",
    "/serving-endpoints/m/served-models/s/logs",
    "/openai/deployments",
    "/openai/deployments/m",
    f"{VERTEX}/endpoints/openapi/chat/completions",
    "/v1/chat/completions",
    "/mcp",
    "",
]


@pytest.mark.parametrize(("path", "model"), NAMED)
def test_the_model_of_a_path(path: str, model: str) -> None:
    assert model_of_path(path) == model


@pytest.mark.parametrize("path", UNNAMED)
def test_paths_that_name_none(path: str) -> None:
    assert model_of_path(path) is None


@pytest.mark.parametrize("row", NAMING_PATHS, ids=[row.template for row in NAMING_PATHS])
def test_every_row_of_the_table_is_tried_above(row: NamingPath) -> None:
    """A row that no path of these tests needs could be wrong, or in the way of another."""
    others = tuple(other for other in NAMING_PATHS if other is not row)
    tried = [path for path, _ in NAMED] + UNNAMED
    assert any(span_of_model(path, matchers(others)) != span_of_model(path) for path in tried)


@pytest.mark.parametrize("path", [path for path, _ in NAMED])
@pytest.mark.parametrize("name", ["new", "a/b", "é %", "x:predict", "?#&="])
def test_another_name_is_read_where_it_was_written(path: str, name: str) -> None:
    """The path keeps all else: its version, its verb, its query."""
    new = renamed_path(f"{path}?timeout=1".encode("latin-1"), name)
    assert new is not None
    assert new.isascii()
    assert model_of_path(new.removesuffix("?timeout=1")) == name
    assert renamed_path(new.encode(), "old") == renamed_path(f"{path}?timeout=1".encode("latin-1"), "old")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/" * 5000 + ":predict",
        "/v1/models/" * 5000 + "x/metadata/",
        "/v1/models/x/versions/" * 3000 + ":predict",
        "/v1/models/x/versions/" * 3000 + "/invocations",
        "/v2/models/" * 5000 + "/infer",
        "/publishers/x/models/" * 3000 + ":predict",
        "/openai/deployments/" * 3000,
        "/model/" * 8000 + "/invoke",
    ],
    ids=len,
)
def test_no_path_takes_long(path: str) -> None:
    """A path may have 60 KiB, and a search that starts over at each segment takes seconds for it."""
    assert costs_less(lambda: model_of_path(path), 0.5)


@pytest.mark.parametrize(
    ("headers", "upgrades"),
    [
        ({"upgrade": "websocket", "connection": "Upgrade"}, True),
        ({"upgrade": "WebSocket", "connection": "keep-alive, upgrade"}, True),
        ({"upgrade": "h2c", "connection": "Upgrade, HTTP2-Settings"}, False),
        ({"upgrade": "websocket"}, False),
        ({"upgrade": "websocket", "connection": "keep-alive"}, False),
        ({"connection": "upgrade"}, False),
        ({}, False),
    ],
)
def test_upgrades(headers: dict[str, str], upgrades: bool) -> None:
    of = RequestHead({**head("/v1/realtime").headers, **{name: value.encode() for name, value in headers.items()}})
    assert is_upgrade(of) is upgrades
    assert parse(of, None).unread == (None if upgrades else "the proxy does not send the body")


def test_connect_is_an_upgrade() -> None:
    assert is_upgrade(RequestHead({":method": b"CONNECT", ":path": b"/v1/realtime", ":protocol": b"websocket"}))


class TestQuery:
    @pytest.mark.parametrize(
        ("path", "model"),
        [
            ("/v1/realtime?model=m", "m"),
            ("/v1/realtime?intent=x&model=a%2Fb+c%2B", "a/b c+"),
            ("/v1/realtime?model=a&model=m", "m"),
            ("/v1/realtime?model=m#model=n", "m"),
            ("/openai/realtime?api-version=1&deployment=m", "m"),
            ("/v1/realtime?model=", None),
            ("/v1/realtime?model", None),
            ("/v1/realtime?submodel=m", None),
            ("/v1/files?deployment=m", None),
            ("/v1/realtime", None),
        ],
    )
    def test_names_a_model_where_nothing_else_does(self, path: str, model: str | None) -> None:
        assert parse(head(path), None).model == model
        assert parse(head(path), b"").by_query is (model is not None)

    def test_path_and_body_come_first(self) -> None:
        assert parse(head("/v2/models/m/infer?model=n"), b"").model == "m"
        assert parse(head("/v1/chat/completions?model=n"), b'{"model":"m"}').model == "m"
        assert parse(head("/v1/chat/completions?model=n"), b"{}").model == "n"
        assert parse(head("/v1/realtime/calls?model=n", content_type="application/sdp"), b"v=0").model == "n"

    def test_another_name(self) -> None:
        renamed = renamed_path(b"/v1/realtime?model=a&x=1&model=b#y", "org/é&m")
        assert renamed == "/v1/realtime?model=org/%C3%A9%26m&x=1&model=org/%C3%A9%26m#y"

    def test_names_must_fit_a_header_too(self) -> None:
        with pytest.raises(InvalidModel, match="query: the model's name is not UTF-8"):
            parse(head("/v1/realtime?model=%ff"), None)


@pytest.mark.parametrize("body", [b'{"model":"other"}', b"not json", b"", None])
def test_a_model_in_the_path_wins_and_the_body_is_not_read(body: bytes | None) -> None:
    request = parse(head("/v2/models/m/infer?timeout=1", content_type="application/json"), body)
    assert request.model == "m"
    assert request.unread is None
    assert request.payload is None
    assert request.body_bytes == len(body or b"")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\x00", b'{"model":"m"}', b'{"model":1}', None])
def test_nothing_of_a_body_is_read_when_no_body_is_to_be(body: bytes | None) -> None:
    request = parse(head(content_type="application/json"), body, options=ParseOptions(unread_bodies=True))
    assert (request.model, request.payload, request.unread) == (None, None, "passthrough-parser")
    assert request.body_bytes == len(body or b"")
    assert parse(head("/v2/models/m/infer"), body, options=ParseOptions(unread_bodies=True)).model == "m"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/models/a%0Ab/infer", "control characters"),
        ("/v2/models/a%ffb/infer", "is not UTF-8"),
        (f"/v2/models/{'x' * 4097}/infer", "longer than"),
    ],
)
def test_models_of_paths_must_fit_a_header_too(path: str, said: str) -> None:
    with pytest.raises(InvalidModel, match=f"path: the model's name .*{said}"):
        parse(head(path), b"")


@pytest.mark.parametrize(
    ("path", "bare"),
    [("/a?b=c", "/a"), ("/a#b", "/a"), ("/a?b#c?d", "/a"), ("/a#b?c", "/a"), ("/a", "/a"), ("", ""), ("?x", "")],
)
def test_without_query(path: str, bare: str) -> None:
    assert without_query(path) == bare


def test_the_path_may_be_in_a_forwarding_header() -> None:
    for name in (":path", "x-original-path", "x-forwarded-path"):
        assert parse(RequestHead({name: b"/v2/models/m/infer?x"}), b"").path == "/v2/models/m/infer"
    both = {":path": b"/a", "x-original-path": b"/b", "x-forwarded-path": b"/c"}
    assert parse(RequestHead(both), b"").path == "/a"
    assert parse(RequestHead({}), b"").path == ""


def test_bytes_of_the_path_outside_ascii_are_latin_1() -> None:
    assert parse(RequestHead({":path": b"/\xff"}), b"").path == "/\xff"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/openai/v1/chat/completions",
    ],
)
def test_paths_that_need_a_model(path: str) -> None:
    assert requires_model(path)


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/", "/v1/chat/completions/x", "/tokenize"])
def test_paths_that_need_none(path: str) -> None:
    assert not requires_model(path)


@pytest.mark.parametrize("front", ["", "/v1", "/openai/v1", "/serving-endpoints", "/a/b/c/d"])
@pytest.mark.parametrize("path", BODY_PATHS)
def test_apis_whatever_stands_before_them(front: str, path: str) -> None:
    assert api_of(front + path) is BODY_PATHS[path][0]


@pytest.mark.parametrize(
    "path",
    [
        *("/mcp", "/upload", "/files/1", "/v1/files", "/v1/batches", "/v1/responses/resp_1/cancel", "/v1/responses/resp_1"),
        *("/v1/threads/t/messages", "/v1/threads/t/runs", "/v1/conversations/c/items", "/v1/messages/batches", "/v1"),
        *("", "/", "/v1/chat/completions/", "/xchat/completions/y", "/v1/xmessages"),
    ],
)
def test_paths_whose_bodies_may_be_anything(path: str) -> None:
    assert api_of(path) is Api.UNKNOWN
