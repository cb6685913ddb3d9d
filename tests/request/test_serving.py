"""What a request to a serving endpoint becomes at the model server."""

from __future__ import annotations

import gzip

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import RequestHead, spliced
from extproc.errors import BodyNotSeen, InvalidBody, InvalidModel, UnreadableBody
from extproc.request import Address, ParseOptions, Renamed, address_of, as_served, parse

JSON = b"application/json"


def head(path: str, content_type: bytes = JSON, **headers: bytes) -> RequestHead:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead({":method": b"POST", ":path": path.encode(), "content-type": content_type, **given})


def served(
    path: str, body: bytes | None, *, model: str = "model-A", others: str = "/invocations", complete: bool = True, **more: bytes
) -> Renamed:
    request_head = head(path, **more)
    request = parse(request_head, body, complete=complete)
    return as_served(request, body, complete, model, others, ParseOptions())


class TestAddresses:
    @pytest.mark.parametrize(
        ("path", "address"),
        [
            ("/serving-endpoints/chat/invocations", Address()),
            ("/serving-endpoints/chat/served-models/canary/invocations", Address(entity="canary")),
            ("/serving-endpoints/chat/served-entities/a%2Db/invocations", Address(entity="a-b")),
            ("/gateway/chat/invocations", Address()),
            ("/endpoints/chat/invocations", Address()),
            ("/serving-endpoints/chat/completions", Address(api="/v1/chat/completions")),
            ("/serving-endpoints/completions", Address(api="/v1/completions")),
            ("/serving-endpoints/embeddings", Address(api="/v1/embeddings")),
            ("/serving-endpoints/v1/responses", Address(api="/v1/responses")),
        ],
    )
    def test_of_a_serving_endpoint(self, path: str, address: Address) -> None:
        assert address_of(path) == address

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/chat/completions",
            "/invocations",
            "/serving-endpoints",
            "/serving-endpoints/a/b/invocations",
            "/serving-endpoints/chat/served-models/canary",
            "/v2/models/chat/infer",
        ],
    )
    def test_of_anything_else(self, path: str) -> None:
        assert address_of(path) is None


class TestInvocations:
    @pytest.mark.parametrize(
        ("body", "path"),
        [
            (b'{"messages": []}', "/v1/chat/completions"),
            (b'{"prompt": "hi"}', "/v1/completions"),
            (b'{"input": "hi"}', "/v1/embeddings"),
            (b'{"input": ["a", "b"]}', "/v1/embeddings"),
            (b'{"input": [1, 2]}', "/v1/embeddings"),
            (b'{"input": [{"role": "user", "content": "hi"}]}', "/v1/responses"),
            (b'{"messages": [], "prompt": "x", "input": "y"}', "/v1/chat/completions"),
        ],
    )
    def test_a_shape_of_openais_goes_to_its_api_with_the_model(self, body: bytes, path: str) -> None:
        change = served("/serving-endpoints/chat/invocations", body)
        assert change.set_headers[0] == (":path", path)
        sent = orjson.loads(spliced(body, change.splices))
        assert sent == {**orjson.loads(body), "model": "model-A"}

    def test_a_model_in_the_body_does_not_count_and_is_replaced(self) -> None:
        body = b'{"model": "mine", "messages": []}'
        assert parse(head("/serving-endpoints/chat/invocations"), body).model == "chat"
        change = served("/serving-endpoints/chat/invocations", body)
        assert spliced(body, change.splices) == b'{"model": "model-A", "messages": []}'

    @pytest.mark.parametrize(
        "body",
        [b'{"instances": [1]}', b'{"dataframe_split": {}}', b'{"dataframe_records": []}', b'{"inputs": []}', b"{}"],
    )
    def test_another_shape_goes_on_byte_for_byte(self, body: bytes) -> None:
        assert served("/serving-endpoints/chat/invocations", body) == Renamed(set_headers=((":path", "/invocations"),))
        named = served("/serving-endpoints/chat/served-models/a/invocations?trace=1", body, others="/v2/x/infer")
        assert named == Renamed(set_headers=((":path", "/v2/x/infer?trace=1"),))

    @pytest.mark.parametrize("content_type", [b"text/csv", b"application/octet-stream", b"multipart/form-data; boundary=x"])
    def test_another_type_goes_on_byte_for_byte(self, content_type: bytes) -> None:
        change = served("/serving-endpoints/chat/invocations", b"a,b\n1,2\n", content_type=content_type)
        assert change == Renamed(set_headers=((":path", "/invocations"),))

    def test_the_query_stays(self) -> None:
        change = served("/serving-endpoints/chat/invocations?a=b&c", b'{"messages":[]}')
        assert change.set_headers == ((":path", "/v1/chat/completions?a=b&c"),)

    def test_the_length_no_longer_holds(self) -> None:
        change = served("/serving-endpoints/chat/invocations", b'{"messages":[]}', content_length=b"15")
        assert change.remove_headers == ("content-length",)

    def test_a_compressed_body_is_read_and_goes_on_plain(self) -> None:
        plain = b'{"messages":[]}'
        body = gzip.compress(plain)
        change = served("/serving-endpoints/chat/invocations", body, content_encoding=b"gzip")
        assert orjson.loads(spliced(body, change.splices)) == {"model": "model-A", "messages": []}
        assert "content-encoding" in change.remove_headers

    @pytest.mark.parametrize("body", [b"{", b'{"messages": [}', b"[1, 2]", b'"text"', b"nonsense"])
    def test_what_is_no_json_object_is_refused(self, body: bytes) -> None:
        with pytest.raises(InvalidBody):
            served("/serving-endpoints/chat/invocations", body)

    def test_a_model_that_is_no_name_is_refused(self) -> None:
        with pytest.raises(InvalidModel):
            served("/serving-endpoints/chat/invocations", b'{"model": 5, "messages": []}')

    def test_the_beginning_of_a_body_is_not_enough(self) -> None:
        with pytest.raises(UnreadableBody, match="by the whole body"):
            served("/serving-endpoints/chat/invocations", b'{"messages": [', complete=False)

    def test_an_encoding_that_nobody_reads_is_refused(self) -> None:
        with pytest.raises(UnreadableBody, match="content-encoding exotic"):
            served("/serving-endpoints/chat/invocations", b"\x01", content_encoding=b"exotic")

    def test_a_body_that_is_not_sent_is_said_to_be(self) -> None:
        with pytest.raises(BodyNotSeen, match="request_body_mode"):
            served("/serving-endpoints/chat/invocations", None)

    def test_an_upgrade_has_none_and_the_proxy_is_not_at_fault(self) -> None:
        with pytest.raises(UnreadableBody, match="a connection that is upgraded has none"):
            served("/serving-endpoints/chat/invocations", None, upgrade=b"websocket", connection=b"Upgrade")
        with pytest.raises(UnreadableBody, match="a connection that is upgraded has none"):
            served("/v1/chat/completions?model=chat", None, upgrade=b"websocket", connection=b"Upgrade")


class TestOtherPaths:
    def test_openais_base_url(self) -> None:
        body = b'{"model":"chat","messages":[]}'
        change = served("/serving-endpoints/chat/completions", body)
        assert change.set_headers == ((":path", "/v1/chat/completions"),)
        assert spliced(body, change.splices) == b'{"model":"model-A","messages":[]}'

    def test_the_path_of_a_model_server_stays(self) -> None:
        body = b'{"model":"chat","messages":[]}'
        change = served("/v1/chat/completions", body)
        assert change.set_headers == ()
        assert spliced(body, change.splices) == b'{"model":"model-A","messages":[]}'

    def test_a_model_in_another_path_changes_there(self) -> None:
        assert served("/v2/models/chat/infer", b"{}").set_headers == ((":path", "/v2/models/model-A/infer"),)
        assert served("/v1/models/chat:predict", b"{}").set_headers == ((":path", "/v1/models/model-A:predict"),)

    def test_a_client_that_names_the_entitys_model_needs_no_change(self) -> None:
        assert served("/v1/chat/completions", b'{"model":"model-A"}') == Renamed()


@given(
    body=st.one_of(st.binary(max_size=200), st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=5),
                   lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                       st.sampled_from(["messages", "prompt", "input", "inputs", "model", "x"]), inner, max_size=4),
                   max_leaves=8).map(orjson.dumps)),
    complete=st.booleans(),
    content_type=st.sampled_from([JSON, b"", b"text/plain", b"multipart/form-data; boundary=x"]),
)  # fmt: skip
def test_any_body_is_served_whole_or_refused(body: bytes, complete: bool, content_type: bytes) -> None:
    request = parse(head("/serving-endpoints/chat/invocations", content_type), body, complete=complete)
    try:
        change = as_served(request, body, complete, "model-A", "/invocations", ParseOptions())
    except (InvalidBody, InvalidModel, UnreadableBody):
        return
    path = dict(change.set_headers)[":path"]
    sent = spliced(body, change.splices)
    if path == "/invocations":
        assert sent == body
    else:
        assert orjson.loads(sent)["model"] == "model-A"
