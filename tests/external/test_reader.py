from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import BodyPath
from extproc.external.reader import MAX_DOCUMENT_BYTES, MAX_ERROR_BYTES
from extproc.response import Measurement
from extproc.response.usage import Usage
from tests.external.parts import CREATED_S, KEY, Answer, Called, chat, messages
from tests.external.recorded import CHAT, CHAT_STREAM, MESSAGE, MESSAGE_STREAM, OPENAI_401, OPENAI_ERROR
from tests.fakes.fuzz import examples

INVOCATIONS = "/serving-endpoints/chat/invocations"
ANTHROPIC_400 = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too many"}}


def of_openai(document: object, *, path: str = "/v1/chat/completions", **options: Any) -> Answer:
    """OpenAI's answer to its own client, to Anthropic's (`/v1/messages`) or to Databricks'."""
    payload = messages() if path == "/v1/messages" else chat()
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Answer(Called("openai", payload, path).reader(), body, **options)


def of_anthropic(document: object, *, path: str = "/v1/chat/completions", **options: Any) -> Answer:
    payload = messages() if path == "/v1/messages" else chat()
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Answer(Called("anthropic", payload, path).reader(), body, **options)


class TestTheSameDialect:
    def test_only_the_models_name_changes(self) -> None:
        body = orjson.dumps(CHAT)
        answer = of_openai(body)
        assert answer.body == body.replace(b'"gpt-4o-2024-08-06"', b'"chat"')
        assert (answer.status, "content-length" in answer.headers) == (200, False)
        assert answer.reader.usage == Usage(1117, 46, 1024)

    def test_in_streams_too(self) -> None:
        answer = of_openai(CHAT_STREAM, kind="text/event-stream")
        assert answer.body == CHAT_STREAM.replace(b'"gpt-4o-mini-2024-07-18"', b'"chat"')
        assert answer.reader.usage == Usage(1117, 46, 1024)
        own = of_anthropic(MESSAGE_STREAM, path="/v1/messages", kind="text/event-stream")
        assert own.body == MESSAGE_STREAM.replace(b'"claude-sonnet-5-5-20260801"', b'"chat"')

    @given(st.lists(st.integers(0, 1200), max_size=8).map(sorted), st.sampled_from([BodyPath.FREE, BodyPath.PIECEWISE]))
    @examples(60)
    def test_however_it_is_cut(self, places: list[int], way: BodyPath) -> None:
        body = orjson.dumps(CHAT)
        places = [0, *[min(place, len(body)) for place in places], len(body)]
        pieces = [body[begin:end] for begin, end in pairwise(places)]
        if way is BodyPath.PIECEWISE and any(0 < len(b) < 64 for b in pieces):
            return  # a name that is cut there may be missed, as for every reader
        assert of_openai(body, cut=lambda _: pieces, way=way).body == body.replace(b'"gpt-4o-2024-08-06"', b'"chat"')

    def test_a_name_that_is_not_at_the_beginning_is_the_one_that_was_asked_for(self) -> None:
        body = b'{"data":[' + b"1," * 10_000 + b'0],"model":"served","usage":{"prompt_tokens":3}}'
        answer = Answer(Called("openai", {"model": "x", "input": "a"}, "/v1/embeddings").reader(), body)
        assert answer.body == body.replace(b'"served"', b'"chat"')
        assert answer.reader.usage == Usage(3)

    @pytest.mark.parametrize("status", [200, 400, 401, 503])
    @pytest.mark.parametrize("name", ["www_authenticate", "x_echo", "server_timing"])
    def test_no_header_quotes_the_credential(self, status: int, name: str) -> None:
        answer = of_openai(CHAT, status=status, **{name: f"Bearer {KEY.reveal()}"}, x_other="stays")
        assert KEY.reveal() not in str(answer.headers)
        assert answer.headers["x-other"] == "stays"

    def test_what_a_provider_wants_to_know_of_us_is_not_asked_of_the_client(self) -> None:
        assert "www-authenticate" not in of_openai({}, status=401, www_authenticate="Bearer realm=x").headers

    def test_other_answers_pass(self) -> None:
        answer = of_openai(b"\x00\x01", kind="application/octet-stream")
        assert (answer.body, answer.headers["content-length"]) == (b"\x00\x01", "2")
        assert answer.reader.only_listens
        assert not answer.reader.wants_body

    def test_an_error_passes_with_its_status_and_words(self) -> None:
        for path in ("/v1/chat/completions", INVOCATIONS):
            answer = of_openai(OPENAI_ERROR, path=path, status=503, retry_after="7")
            assert (answer.status, answer.json, answer.headers["retry-after"]) == (503, OPENAI_ERROR, "7")

    def test_a_key_that_an_error_quotes_is_redacted(self) -> None:
        error = {"error": {"message": f"what is {KEY.reveal()}?"}}
        assert of_openai(error, status=400).json == {"error": {"message": "what is [redacted]?"}}

    def test_an_error_that_is_no_json_becomes_one(self) -> None:
        answer = of_openai(b"<html>Bad gateway</html>", status=502, kind="text/html")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["error"] == {
            "message": "openai answered 502",
            "type": "server_error",
            "param": None,
            "code": None,
        }


class TestTheOtherDialect:
    def test_documents(self) -> None:
        answer = of_anthropic(MESSAGE)
        assert answer.json["choices"][0]["message"]["content"] == MESSAGE["content"][0]["text"]
        assert (answer.json["created"], answer.json["model"]) == (CREATED_S, "chat")
        assert answer.headers == {"content-type": "application/json"}
        assert answer.reader.usage == Usage(93, 46, 924)
        back = of_openai(CHAT, path="/v1/messages")
        assert back.json["content"][0]["text"] == CHAT["choices"][0]["message"]["content"]
        assert back.reader.usage == Usage(1117, 46, 1024)

    @pytest.mark.parametrize("trailers", [False, True])
    def test_documents_in_pieces(self, trailers: bool) -> None:
        body = orjson.dumps(MESSAGE)
        pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        answer = of_anthropic(MESSAGE, cut=lambda _: pieces, trailers=trailers)
        assert answer.body == of_anthropic(MESSAGE).body
        assert answer.pieces[:-1] == [b""] * (len(answer.pieces) - 1)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"content":"x"}',
            b'{"content":[{"type":"tool_use","id":"a","name":"b","input":' + b"[" * 300 + b"]" * 300 + b"}]}",
        ],
    )
    def test_a_document_that_is_no_answer(self, body: bytes) -> None:
        assert of_anthropic(body).json["error"]["code"] == "provider_error"

    def test_a_document_that_is_too_long(self) -> None:
        pieces = [b" " * (MAX_DOCUMENT_BYTES // 4)] * 5
        answer = of_anthropic(b"", cut=lambda _: pieces)
        assert f"more than {MAX_DOCUMENT_BYTES} bytes" in answer.json["error"]["message"]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (
                "/v1/chat/completions",
                {"error": {"message": "max_tokens: too many", "type": "invalid_request_error", "param": None, "code": None}},
            ),
            (INVOCATIONS, {"error_code": "INVALID_PARAMETER_VALUE", "message": "max_tokens: too many"}),
            ("/v1/messages", ANTHROPIC_400),
        ],
    )
    def test_errors_come_in_the_clients_shape(self, path: str, expected: object) -> None:
        answer = of_anthropic(ANTHROPIC_400, path=path, status=400)
        assert (answer.status, answer.json) == (400, expected)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            *((400, "invalid_request_error"), (402, "billing_error"), (404, "not_found_error"), (413, "request_too_large")),
            *((422, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error")),
            (504, "timeout_error"),
        ],
    )
    def test_and_in_anthropics(self, status: int, kind: str) -> None:
        answer = of_openai(OPENAI_ERROR, path="/v1/messages", status=status, retry_after="3")
        assert (answer.status, answer.json["error"]) == (status, {"type": kind, "message": "The server had an error"})
        assert answer.headers["retry-after"] == "3"

    def test_overloaded(self) -> None:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        assert of_anthropic(error, status=529).status == 503
        assert of_anthropic(error, status=529).json["error"]["type"] == "server_error"
        assert of_anthropic(error, path="/v1/messages", status=529).status == 529

    def test_a_long_error_is_cut(self) -> None:
        answer = of_anthropic({"error": {"message": "x" * 10_000}}, status=500)
        assert len(answer.json["error"]["message"]) == 2000
        pieces = [b"{" * (MAX_ERROR_BYTES // 2)] * 4
        assert of_openai(b"", status=500, cut=lambda _: pieces).json["error"]["message"] == "openai answered 500"


@pytest.mark.parametrize("status", [401, 403, 407])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/chat/completions", ["error", "message"]),
        ("/v1/messages", ["error", "message"]),
        (INVOCATIONS, ["message"]),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_refused_credential_is_our_fault_and_not_quoted(provider: str, path: str, message: list[str], status: int) -> None:
    answers = of_openai if provider == "openai" else of_anthropic
    answer = answers(OPENAI_401, path=path, status=status, www_authenticate="Bearer")
    assert answer.status == 502
    assert b"sk-" not in answer.body
    said = answer.json
    for field in message:
        said = said[field]
    assert said == f"{provider} refused the gateway's credential ({status})"


@pytest.mark.parametrize("status", [101, 302, 307, 600, 700])
def test_what_is_neither_a_success_nor_an_error_is_502(status: int) -> None:
    answer = of_openai(b"", status=status, location="https://elsewhere.example.com/?key=x")
    assert (answer.status, "location" in answer.headers) == (502, False)
    assert answer.json["error"]["message"] == f"openai answered {status}"


@pytest.mark.parametrize("answers", [of_openai, of_anthropic])
def test_what_is_compressed_can_not_be_read(answers: Any) -> None:
    answer = answers(b"\x1f\x8b", content_encoding="gzip")
    assert (answer.status, answer.headers["content-type"]) == (502, "application/json")
    assert "content-encoding" not in answer.headers
    assert answer.json["error"]["message"].endswith("answered in a content-encoding that was not asked for")
    assert answers(b"\x1f\x8b", content_encoding="gzip", status=429).status == 429


def test_an_answer_of_another_kind_can_not_be_translated() -> None:
    answer = of_anthropic(b"<html>", kind="text/html")
    assert (answer.status, answer.json["error"]["code"]) == (502, "provider_error")


@pytest.mark.parametrize("status", [200, 429])
def test_what_is_between_the_provider_and_us_stays_there(status: int) -> None:
    private = {"set_cookie": "__cf_bm=x", "openai_organization": "org", "anthropic_organization_id": "x", "alt_svc": "h3"}
    for way in (BodyPath.FREE, BodyPath.EMPTY, BodyPath.UNSEEN):
        answer = of_openai(CHAT, status=status, way=way, x_ratelimit_remaining="9", **private)
        assert not {name.replace("_", "-") for name in private} & answer.headers.keys()
        assert answer.headers["x-ratelimit-remaining"] == "9"


def test_bodies_that_are_not_sent_are_told() -> None:
    for answers in (of_openai, of_anthropic):
        answer = answers(b"", way=BodyPath.UNSEEN)
        assert answer.reader.untranslated == "body not sent"
        assert not answer.reader.wants_body
        assert "content-length" in answer.headers
    assert of_anthropic(b"", way=BodyPath.UNSEEN, status=401).status == 502
    assert of_anthropic(b"", way=BodyPath.EMPTY, status=401).status == 502
    assert of_anthropic(b"", way=BodyPath.EMPTY).reader.untranslated == ""


def test_a_measurement_hears_what_the_provider_sent() -> None:
    for payload, path in ((chat(), "/v1/chat/completions"), (messages(), "/v1/messages")):
        called = Called("anthropic", payload, path)
        reader = called.reader()
        measurement = Measurement(0.0, lambda: 2.5, lambda _: None)
        reader = type(reader)(called.call, called.asks, "chat", 1, measurement)
        Answer(reader, MESSAGE_STREAM, kind="text/event-stream")
        assert measurement.size_bytes == len(MESSAGE_STREAM)
        assert measurement.usage == Usage(93, 46, 924)
        assert measurement.times.ttft_s() == 2.5


@given(
    st.sampled_from(["openai", "anthropic"]),
    st.sampled_from(["/v1/chat/completions", "/v1/messages", INVOCATIONS]),
    st.integers(100, 699),
    st.sampled_from(["application/json", "text/event-stream", "text/html", ""]),
    st.sampled_from(list(BodyPath)),
    st.lists(
        st.sampled_from(
            [b"", b"{", b"}", b"data: ", b"\n\n", b"[DONE]", b'"model":', b'"x"', orjson.dumps(MESSAGE), CHAT_STREAM]
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
@examples(300)
def test_it_raises_nothing(
    provider: str, path: str, status: int, kind: str, way: BodyPath, pieces: list[bytes], trailers: bool
) -> None:
    payload = messages() if path == "/v1/messages" else chat()
    reader = Called(provider, payload, path).reader()
    answer = Answer(reader, b"".join(pieces), status=status, kind=kind, way=way, cut=lambda _: pieces, trailers=trailers)
    assert answer.status == status or answer.status in (502, 503)
    assert answer.status >= 400 or 200 <= status < 300
