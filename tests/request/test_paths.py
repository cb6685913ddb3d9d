"""Models that the path names, and paths whose body must name one."""

from __future__ import annotations

import pytest

from extproc.domain import RequestHead
from extproc.errors import InvalidModel
from extproc.request import parse
from extproc.request.paths import model_of_path, requires_model, without_query
from tests.fakes.events import head


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/m/infer", "m"),
        ("/v2/models/m/versions/3/infer", "m"),
        ("/v1/models/m:predict", "m"),
        ("/v1/models/org/m:predict", "org/m"),
        ("/serving-endpoints/m/invocations", "m"),
        ("/v2/models/a%2Fb%20c/infer", "a/b c"),
        ("/serving-endpoints/%C3%A9t%C3%A9/invocations", "été"),
        ("/v2/models/m/ready", None),
        ("/v2/models//infer", None),
        ("/v2/models/a/b/infer", None),
        ("/v2/models/m/infer/", None),
        ("/x/v2/models/m/infer", None),
        ("/v1/models/:predict", None),
        ("/v1/models", None),
        ("/invocations", None),
        ("/v1/chat/completions", None),
        ("", None),
    ],
)
def test_model_of_path(path: str, model: str | None) -> None:
    assert model_of_path(path) == model


@pytest.mark.parametrize("body", [b'{"model":"other"}', b"not json", b"", None])
def test_a_model_in_the_path_wins_and_the_body_is_not_read(body: bytes | None) -> None:
    request = parse(head("/v2/models/m/infer?timeout=1", content_type="application/json"), body)
    assert request.model == "m"
    assert request.unread is None
    assert request.payload is None
    assert request.body_bytes == len(body or b"")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/models/a%0Ab/infer", "control characters"),
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
