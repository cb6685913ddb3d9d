"""The model of a JSON body: the body-based router's edge cases, with our defaults."""

from __future__ import annotations

import json

import orjson
import pytest

from extproc.domain import InferenceRequest
from extproc.errors import InvalidBody, InvalidModel
from extproc.request import ParseOptions, parse
from extproc.request.parse import MAX_MODEL_BYTES
from tests.fakes.events import head

TEXT_MODELS = ParseOptions(text_of_other_types=True)
LENIENT = ParseOptions(invalid_json_passes=True)
JSON = "application/json"


def read(body: bytes, content_type: str = JSON, options: ParseOptions = ParseOptions()) -> InferenceRequest:
    return parse(head(content_type=content_type), body, options=options)


class TestModel:
    @pytest.mark.parametrize(
        ("body", "model"),
        [
            (b'{"model":"m"}', "m"),
            (b'{"messages":[],"model":"meta-llama/Llama-3.1-8B-Instruct"}', "meta-llama/Llama-3.1-8B-Instruct"),
            (b' \r\n\t{ "model" : "m" } \n', "m"),
            (b'{"model":" x "}', " x "),
            (b'{"mod\\u0065l":"m"}', "m"),
            (b'{"model":"\\u00e9t\xc3\xa9"}', "été"),
            (b'{"model":"a","model":"b"}', "b"),
            (b'{"a":{"model":"nested"},"model":"m"}', "m"),
        ],
    )
    def test_is_the_value_of_the_key(self, body: bytes, model: str) -> None:
        request = read(body)
        assert request.model == model
        assert request.body_bytes == len(body)
        assert request.payload == orjson.loads(body)
        assert not request.empty_model

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b'{"prompt":"hi"}',
            b'{"model":null}',
            b'{"Model":"m"}',
            b'{"a":{"model":"nested"}}',
            b'{"a":[{"model":1}]}',
        ],
    )
    def test_missing_is_none(self, body: bytes) -> None:
        request = read(body)
        assert request.model is None
        assert request.unread is None
        assert not request.empty_model

    def test_empty_is_none_and_told(self) -> None:
        request = read(b'{"model":""}')
        assert request.model is None
        assert request.empty_model

    def test_null_body_is_missing(self) -> None:
        request = read(b"null")
        assert request.model is None
        assert request.payload is None

    @pytest.mark.parametrize(
        ("value", "kind", "text"),
        [
            (b"1", "a number", "1"),
            (b"0.5", "a number", "0.5"),
            (b"1e21", "a number", "1e+21"),
            (b"true", "a boolean", "true"),
            (b"false", "a boolean", "false"),
        ],
    )
    def test_numbers_and_booleans_are_refused_or_their_text(self, value: bytes, kind: str, text: str) -> None:
        body = b'{"model":' + value + b"}"
        with pytest.raises(InvalidModel, match=f"must be a string, not {kind}") as caught:
            read(body)
        assert caught.value.param == "model"
        assert read(body, options=TEXT_MODELS).model == text

    @pytest.mark.parametrize(("value", "kind"), [(b'{"a":1}', "an object"), (b'["a","b"]', "an array")])
    def test_objects_and_arrays_are_always_refused(self, value: bytes, kind: str) -> None:
        for options in (ParseOptions(), TEXT_MODELS, LENIENT):
            with pytest.raises(InvalidModel, match=f"must be a string, not {kind}"):
                read(b'{"model":' + value + b"}", options=options)

    @pytest.mark.parametrize("name", ["a\nb", "a\r", "\x00", "tab\t", "\x7f"])
    def test_control_characters_can_not_be_a_header(self, name: str) -> None:
        with pytest.raises(InvalidModel, match="control characters"):
            read(orjson.dumps({"model": name}))

    @pytest.mark.parametrize("letter", ["x", "é", "字"])
    def test_length_is_counted_in_bytes(self, letter: str) -> None:
        most = MAX_MODEL_BYTES // len(letter.encode())
        assert read(orjson.dumps({"model": letter * most})).model == letter * most
        with pytest.raises(InvalidModel, match="longer than 4096 bytes"):
            read(orjson.dumps({"model": letter * (most + 1)}))

    def test_unusual_but_printable_names_pass(self) -> None:
        for name in ("🦙", "a b", "a\u00a0b", 'quote"', "x" * 4096):
            assert read(orjson.dumps({"model": name})).model == name


class TestWhatOnlyPythonReads:
    """vLLM and SGLang read requests with Python's json, which takes more than orjson."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{"logit_bias":{"1":-Infinity},"top_p":NaN,"n":Infinity,"model":"m"}',
            b'{"a":1e400,"b":' + b"9" * 400 + b',"model":"m"}',
            b'{"prompt":"cut in half \\ud83d","model":"m"}',
            b'{"prompt":"\\ude00\\ud83d","model":"m"}',
            b"\xef\xbb\xbf" + b'{"model":"m"}',
            '{"model":"m","prompt":"été"}'.encode("utf-16"),
            '{"model":"m"}'.encode("utf-16-be"),
            '{"model":"m"}'.encode("utf-32-le"),
        ],
    )
    def test_is_read_as_it_reads_it(self, body: bytes) -> None:
        request = read(body)
        assert (request.model, request.unread) == ("m", None)
        assert str(request.payload) == str(json.loads(body)), "NaN is not equal to itself"

    @pytest.mark.parametrize("value", [b"NaN", b"-Infinity", b"1e400", b"9" * 5000])
    def test_numbers_that_json_does_not_have_are_no_models(self, value: bytes) -> None:
        for options in (ParseOptions(), TEXT_MODELS):
            with pytest.raises((InvalidModel, InvalidBody)):
                read(b'{"model":' + value + b"}", options=options)

    def test_a_long_integer_is_its_text(self) -> None:
        assert read(b'{"model":' + b"9" * 400 + b"}", options=TEXT_MODELS).model == "9" * 400

    def test_half_a_surrogate_pair_is_no_name(self) -> None:
        with pytest.raises(InvalidModel, match="half a surrogate pair"):
            read(b'{"model":"\\ud800"}')

    def test_alone_is_no_object(self) -> None:
        with pytest.raises(InvalidBody, match="must be a JSON object, not a number"):
            read(b"NaN")

    def test_a_byte_order_mark_before_a_body_that_is_cut(self) -> None:
        assert parse(head(), b'\xef\xbb\xbf{"model":"m","a', complete=False).model == "m"


class TestNotJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b'{"model":"m"',
            b'{"model":"m"} trailing',
            b'{"model":"m"}{}',
            b"{'model':'m'}",
            b'{"model":"m",}',
            b'{"model":"\xff"}',
            b" ",
            b"\x00",
            b"[" * 100_000,
            b'{"a":' * 2000 + b"1" + b"}" * 2000,
        ],
    )
    def test_is_refused_when_it_says_json(self, body: bytes) -> None:
        with pytest.raises(InvalidBody, match=r"not valid JSON|levels of nesting") as caught:
            read(body)
        assert "model" not in caught.value.message, "the message quotes nothing of the body"
        assert read(body, options=LENIENT).unread == "not JSON"

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"[]", "an array"), (b'"m"', "a string"), (b"1", "a number"), (b"true", "a boolean")]
    )
    def test_other_json_than_an_object_is_refused(self, body: bytes, kind: str) -> None:
        with pytest.raises(InvalidBody, match=f"must be a JSON object, not {kind}"):
            read(body)
        assert read(body, options=LENIENT).model is None

    def test_the_place_is_counted_in_bytes(self) -> None:
        with pytest.raises(InvalidBody, match="at byte 10"):
            read('{"é":"é"!'.encode())

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/grpc"])
    def test_other_content_types_pass(self, content_type: str) -> None:
        request = read(b"model=m", content_type)
        assert request.model is None
        assert request.unread == f"content-type {content_type}"
        assert request.body_bytes == 7

    @pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", "APPLICATION/JSON", "x/y+json"])
    def test_json_by_its_content_type(self, content_type: str) -> None:
        assert read(b'{"model":"m"}', content_type).model == "m"
        with pytest.raises(InvalidBody):
            read(b"{", content_type)

    def test_a_missing_content_type_counts_as_json(self) -> None:
        assert parse(head(), b'{"model":"m"}').model == "m"
        with pytest.raises(InvalidBody):
            parse(head(), b"hello")

    def test_an_object_under_another_content_type_is_read_anyway(self) -> None:
        """curl -d sends JSON as a url-encoded form."""
        assert read(b' {"model":"m"}', "application/x-www-form-urlencoded").model == "m"

    def test_what_only_looks_like_an_object_passes(self) -> None:
        request = read(b"{not json", "text/plain")
        assert request.model is None
        assert request.unread == "not JSON"


class TestUnread:
    @pytest.mark.parametrize("encoding", ["compress", "aes128gcm", "identity, dcb", "gzip, gzip, gzip"])
    def test_unknown_encodings_pass_unread(self, encoding: str) -> None:
        request = parse(head(content_type=JSON, content_encoding=encoding), b"\x1f\x8b\x08\x00")
        assert request.model is None
        assert request.unread == f"content-encoding {encoding}"

    @pytest.mark.parametrize("encoding", ["identity", " Identity "])
    def test_identity_is_no_encoding(self, encoding: str) -> None:
        assert parse(head(content_type=JSON, content_encoding=encoding), b'{"model":"m"}').model == "m"

    @pytest.mark.parametrize("content_type", [JSON, "multipart/form-data; boundary=b", "text/plain", ""])
    def test_no_body_is_nothing_to_read(self, content_type: str) -> None:
        request = parse(head(content_type=content_type), b"")
        assert request.model is None
        assert request.unread is None
        assert request.body_bytes == 0

    def test_a_body_that_is_not_sent_is_told(self) -> None:
        assert parse(head(content_type=JSON), None).unread == "the proxy does not send the body"


class TestCutBody:
    def test_the_model_is_found_in_the_beginning(self) -> None:
        request = parse(head(content_type=JSON), b'{"model":"m","messages":["ab', complete=False)
        assert request.model == "m"
        assert request.unread is None

    def test_without_it_the_body_is_unread(self) -> None:
        request = parse(head(content_type=JSON), b'{"messages":["ab', complete=False)
        assert request.model is None
        assert request.unread == "the proxy sends only the beginning of the body"

    def test_a_beginning_that_is_whole_is_read_as_whole(self) -> None:
        request = parse(head(content_type=JSON), b'{"model":"a","model":"b"}', complete=False)
        assert request.model == "b"
        assert parse(head(content_type=JSON), b"{}", complete=False).unread is None

    def test_the_same_rules_hold_for_what_is_found(self) -> None:
        assert parse(head(), b'{"model":"","a', complete=False).empty_model
        assert parse(head(), b'{"model":1,"a', complete=False, options=TEXT_MODELS).model == "1"
        with pytest.raises(InvalidModel):
            parse(head(), b'{"model":1,"a', complete=False)
