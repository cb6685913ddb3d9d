from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.credentials import Secret
from extproc.domain import InferenceRequest, RequestHead, Splice, spliced
from extproc.errors import InvalidBody, SecretMissing, UnreadableBody, Untranslatable
from extproc.external import Dialect, ErrorShape, Task, asked, payload_of
from extproc.external.chat_to_messages import GATEWAY
from extproc.external.splice import edits
from tests.external.parts import KEY, Called, chat, messages
from tests.fakes.fuzz import examples

CLIENTS_OWN = {
    "authorization": "Bearer dapi-client",
    "x-api-key": "sk-client",
    "api-key": "sk-client",
    "cookie": "session=client",
    "proxy-authorization": "Basic client",
    "x-databricks-workspace-id": "1",
    "x-mlflow-client-version": "3",
    "x-gateway-model-name": "chat",
    "x-llm-d-inference-objective": "high",
    "x-user-id": "client",
    "x-forwarded-for": "10.0.0.1",
    "x-envoy-external-address": "10.0.0.1",
    "x-some-token-of-theirs": "client",
    "openai-organization": "org-client",
    "accept-encoding": "gzip, br",
    "content-digest": "sha-256=:x:",
    "traceparent": "00-client",
}


@pytest.mark.parametrize(
    ("path", "payload", "expected"),
    [
        ("/v1/chat/completions", {}, (Dialect.OPENAI, Task.CHAT, ErrorShape.OPENAI)),
        ("/v1/completions", {}, (Dialect.OPENAI, Task.COMPLETIONS, ErrorShape.OPENAI)),
        ("/v1/embeddings", {}, (Dialect.OPENAI, Task.EMBEDDINGS, ErrorShape.OPENAI)),
        ("/v1/messages", {}, (Dialect.ANTHROPIC, Task.CHAT, ErrorShape.ANTHROPIC)),
        ("/serving-endpoints/chat/completions", {}, (Dialect.OPENAI, Task.CHAT, ErrorShape.DATABRICKS)),
        ("/serving-endpoints/x/invocations", {"messages": []}, (Dialect.OPENAI, Task.CHAT, ErrorShape.DATABRICKS)),
        ("/serving-endpoints/x/invocations", {"prompt": ""}, (Dialect.OPENAI, Task.COMPLETIONS, ErrorShape.DATABRICKS)),
        (
            "/serving-endpoints/x/served-models/a/invocations",
            {"input": ""},
            (Dialect.OPENAI, Task.EMBEDDINGS, ErrorShape.DATABRICKS),
        ),
        ("/invocations", {"messages": []}, (Dialect.OPENAI, Task.CHAT, ErrorShape.OPENAI)),
    ],
)
def test_what_a_client_asks_for(path: str, payload: dict[str, Any], expected: tuple[object, ...]) -> None:
    assert asked(path, payload) == expected


@pytest.mark.parametrize(
    ("path", "payload"), [("/v1/responses", {}), ("/v1/messages/count_tokens", {}), ("/invocations", {"inputs": 1})]
)
def test_what_no_external_model_is_asked(path: str, payload: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable, match="an external model"):
        asked(path, payload)


@pytest.mark.parametrize(
    ("provider", "path", "payload"),
    [
        ("openai", "/v1/chat/completions", chat()),
        ("anthropic", "/v1/chat/completions", chat()),
        ("openai", "/v1/messages", messages()),
        ("anthropic", "/v1/messages", messages()),
        ("custom", "/serving-endpoints/chat/invocations", chat()),
    ],
)
def test_nothing_of_the_clients_own_goes_to_a_provider(provider: str, path: str, payload: dict[str, Any]) -> None:
    called = Called(provider, payload, path, headers={**CLIENTS_OWN, "x-envoy-upstream-rq-timeout-ms": "9"})
    assert CLIENTS_OWN.keys() <= called.removed | called.headers.keys()
    assert "client" not in "".join(called.headers.values())
    assert "content-type" not in called.removed
    assert not [name for name in called.removed if name.startswith((":", "x-envoy-upstream-rq-"))]
    assert called.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("provider", "changes", "header", "value"),
    [
        ("openai", {}, "authorization", f"Bearer {KEY.reveal()}"),
        ("anthropic", {}, "x-api-key", KEY.reveal()),
        (
            "custom",
            {"bearer_token_auth": None, "api_key_auth": {"key": "X-Key", "value": "{{secrets/a/b}}"}},
            "x-key",
            KEY.reveal(),
        ),
    ],
)
def test_the_credential_is_a_header_and_shown_nowhere_else(
    provider: str, changes: dict[str, Any], header: str, value: str
) -> None:
    called = Called(provider, chat(), **changes)
    assert called.headers[header] == value
    assert header not in called.removed
    assert KEY.reveal() not in repr(called.call) + repr(tuple(called.call)) + repr(called.reader())
    assert "hi" not in repr(called.call)


def test_a_credential_that_is_missing_or_no_header_is_told_without_a_quote() -> None:
    for secret in (None, Secret("sk-verysecret\nx"), Secret("sk-verysecret é")):
        with pytest.raises(SecretMissing, match=r"openai_config\.openai_api_key: ") as error:
            Called("openai", chat(), secret=secret)
        assert "verysecret" not in error.value.message
    assert Called("custom", chat(), secret=None, bearer_token_auth=None).call.credential is None


def test_where_it_goes() -> None:
    called = Called("openai", chat(), openai_api_base="https://eu.example.com:8443/v1")
    assert (called.call.host, called.call.port, called.call.model.base.tls) == ("eu.example.com", 8443, True)
    assert called.headers[":authority"] == "eu.example.com:8443"
    assert called.headers[":path"] == "/v1/chat/completions"
    assert repr(called.call) == "<ProviderCall openai eu.example.com:8443/v1/chat/completions>"


def test_the_version_of_the_api_is_the_clients_where_it_speaks_it() -> None:
    assert Called("anthropic", chat()).headers["anthropic-version"] == "2023-06-01"
    assert Called("anthropic", messages(), "/v1/messages").headers["anthropic-version"] == "2023-06-01"
    own = Called("anthropic", messages(), "/v1/messages", headers={"anthropic-version": "2026-10-21", "anthropic-beta": "x"})
    assert "anthropic-version" not in own.headers
    assert not {"anthropic-version", "anthropic-beta"} & own.removed
    other = Called("openai", messages(), "/v1/messages", headers={"anthropic-version": "2026-10-21", "anthropic-beta": "x"})
    assert {"anthropic-version", "anthropic-beta"} <= other.removed


class TestTheSameDialect:
    def test_every_other_byte_stays(self) -> None:
        said = b'{"role":"user","content":"\\u00e9 \\"model\\": \\"chat\\""}'
        body = b' {"model" : "chat",\n "n":1.0, "x":1e400, "messages":[' + said + b"]}"
        assert body.count(b"chat") == 2
        called = Called("openai", body)
        assert called.body == body.replace(b'"chat",\n', b'"served",\n')
        assert "content-length" in called.removed

    def test_fields_for_the_gateway_go(self) -> None:
        called = Called("openai", chat(usage_context={"a": {"b": "}"}}, client_request_id="x", user="u", unknown=1))
        assert called.body == orjson.dumps({**chat(user="u", unknown=1), "model": "served"})

    def test_a_model_is_put_where_none_is(self) -> None:
        payload = {"messages": [{"role": "user", "content": "hi"}]}
        assert Called("openai", payload, "/serving-endpoints/chat/invocations").body.startswith(b'{"model":"served","messages"')

    def test_where_the_path_names_it_the_body_does_not(self) -> None:
        called = Called("databricks-model-serving", chat(client_request_id="x"))
        assert called.sent == {"messages": [{"role": "user", "content": "hi"}]}
        assert called.headers[":path"] == "/serving-endpoints/served/invocations"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
    def test_other_encodings_become_utf_8(self, encoding: str) -> None:
        body = json.dumps(chat(user="é🌍", usage_context={}), ensure_ascii=False).encode(encoding)
        assert Called("openai", body).sent == {**chat(user="é🌍"), "model": "served"}

    def test_what_is_compressed_becomes_plain(self) -> None:
        called = Called("openai", gzip.compress(orjson.dumps(chat())), headers={"content-encoding": "gzip"})
        assert called.sent == {**chat(), "model": "served"}
        assert {"content-encoding", "content-length"} <= called.removed

    @given(
        st.dictionaries(
            st.sampled_from(["model", "usage_context", "client_request_id", "messages", "a", 'q"\\', "é", ""]),
            st.recursive(
                st.none() | st.integers(0, 9) | st.sampled_from(['"', "}{][,:", "model", '\\"model\\":']),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\', max_size=2), inner, max_size=3),
                max_leaves=6,
            ),
        ).flatmap(lambda values: st.permutations(list(values.items())).map(dict)),
        st.none() | st.sampled_from(["m", 'odd"\\ü']),
        st.sampled_from([None, 1]),
    )
    @examples(600)
    def test_splices_do_what_dicts_do(self, payload: dict[str, Any], name: str | None, indent: int | None) -> None:
        body = json.dumps(payload, indent=indent, ensure_ascii=indent is None).encode()
        changes = edits(body, payload, name, GATEWAY)
        expected = {key: value for key, value in payload.items() if key not in GATEWAY and (key != "model" or name is not None)}
        if name is not None:
            expected["model"] = name
        assert json.loads(spliced(body, changes)) == expected
        assert all(before.end < after.begin for before, after in pairwise(changes))

    @pytest.mark.parametrize(
        ("body", "name", "expected"),
        [
            (b'{"mod\\u0065l":"a","model":"b"}', "m", b'{"mod\\u0065l":"m","model":"m"}'),
            (b'{"model":"a","usage_context":1,"model":{"b":[1]}}', "m", b'{"model":"m","model":"m"}'),
            (b'{"usage_context":1,"usage\\u005fcontext":2}', "m", b'{"model":"m"}'),
            (b'{"model":7}', None, b"{}"),
            (b'{"\\ud800":1,"client_request_id":2 , "z":3}', "m", b'{"model":"m","\\ud800":1 , "z":3}'),
        ],
    )
    def test_keys_that_come_twice_or_are_spelled_oddly(self, body: bytes, name: str | None, expected: bytes) -> None:
        assert spliced(body, edits(body, json.loads(body), name, GATEWAY)) == expected


def test_nothing_changes_for_a_body_that_is_right_already() -> None:
    assert edits(b'{"a":1}', {"a": 1}, None, GATEWAY) == ()
    assert edits(b"{}", {}, "m", GATEWAY) == (Splice(1, 1, b'"model":"m"'),)


@pytest.mark.parametrize(
    ("provider", "path", "payload", "task"),
    [
        ("openai", "/v1/embeddings", {"model": "x", "input": "a"}, "llm/v1/chat"),
        ("anthropic", "/v1/completions", {"model": "x", "prompt": "a"}, "llm/v1/chat"),
        ("openai", "/v1/messages", messages(), "llm/v1/completions"),
    ],
)
def test_another_task_is_refused(provider: str, path: str, payload: dict[str, Any], task: str) -> None:
    with pytest.raises(Untranslatable, match=f"this model is for {task}"):
        Called(provider, payload, path, task=task)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/serving-endpoints/x/invocations", "/x"])
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"a":1}x'])
def test_a_body_that_is_no_object_is_refused(path: str, body: bytes) -> None:
    head = RequestHead({":path": path.encode(), "content-type": b"application/json"})
    with pytest.raises(InvalidBody):
        payload_of(InferenceRequest(head, path), body)


def test_a_body_that_can_not_be_read_is_refused() -> None:
    unread = InferenceRequest(RequestHead({}), "/v1/chat/completions", unread="content-encoding x")
    with pytest.raises(UnreadableBody, match="content-encoding x"):
        payload_of(unread, b"x")
    hidden = RequestHead({"content-encoding": b"x"})
    with pytest.raises(UnreadableBody, match="content-encoding x"):
        payload_of(InferenceRequest(hidden, "/serving-endpoints/a/invocations"), b"x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CHAT_FIELDS = st.sampled_from(
    [
        *(
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
            "top_k",
            "stop",
            "stream",
            "user",
            "tools",
        ),
        *("tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "service_tier", "n", "seed"),
        *("tools", "stream_options", "metadata", "logit_bias"),
    ]
)
MESSAGE_FIELDS = st.sampled_from(
    [
        *(
            "messages",
            "max_tokens",
            "temperature",
            "top_p",
            "stop_sequences",
            "stream",
            "metadata",
            "thinking",
            "output_config",
        ),
        *("output_config", "service_tier", "tools", "tool_choice", "system", "container"),
    ]
)


@pytest.mark.parametrize(("provider", "path"), [("anthropic", "/v1/chat/completions"), ("openai", "/v1/messages")])
@given(data=st.data())
@examples(400)
def test_whatever_a_client_says_is_translated_or_refused(provider: str, path: str, data: st.DataObject) -> None:
    usual = chat() if provider == "anthropic" else messages()
    fields = CHAT_FIELDS if provider == "anthropic" else MESSAGE_FIELDS
    odd = data.draw(st.dictionaries(fields, JSON, max_size=3))
    body = json.dumps({**usual, **odd}).encode("utf-8", "surrogatepass")
    try:
        called = Called(provider, body, path)
    except (Untranslatable, InvalidBody):  # 400
        return
    assert called.sent["model"] == "served"
    assert called.sent["messages"]
