"""Another model's name in a request: the bytes of the old one change, and no others."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import spliced
from extproc.errors import BodyNotSeen, BodyTooLarge, InvalidModel, UnreadableBody
from extproc.request import ParseOptions, Renamed, parse, renamed
from extproc.request.parse import MAX_MODEL_BYTES
from tests.fakes.encoders import VARIANTS, encode
from tests.fakes.events import head
from tests.fakes.fuzz import examples

JSON = "application/json"
FORM = "multipart/form-data; boundary=edge"
EDGE = b"--edge\r\n"
NEW = "served-by"
OPTIONS = ParseOptions()
names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30).filter(
    lambda name: len(name.encode()) < MAX_MODEL_BYTES
)


def change(
    body: bytes | None,
    model: str = NEW,
    *,
    path: str = "/v1/chat/completions",
    complete: bool = True,
    options: ParseOptions = OPTIONS,
    **headers: str,
) -> Renamed:
    request_head = head(path, None, **{"content_type": JSON, **headers})
    request = parse(request_head, body, complete=complete, options=options)
    return renamed(request, body, complete, model, options)


def after(body: bytes, model: str = NEW, **more: Any) -> bytes:
    return spliced(body, change(body, model, **more).splices)


def field(name: str, value: bytes, *lines: bytes, filename: bool = False) -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"%s' % (name.encode(), b'; filename="f"' if filename else b"")
    return EDGE + b"\r\n".join([disposition, *lines, b"", value]) + b"\r\n"


class TestJson:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b'{"model":"m"}', b'{"model":"served-by"}'),
            (b' \r\n\t{ "model"\t:\n"m" , "x":1.0} \n', b' \r\n\t{ "model"\t:\n"served-by" , "x":1.0} \n'),
            (b'{"messages":[{"model":"m"}],"model":"m"}', b'{"messages":[{"model":"m"}],"model":"served-by"}'),
            (b'{"mod\\u0065l":"\\u006d","n":12345678901234567890}', b'{"mod\\u0065l":"served-by","n":12345678901234567890}'),
            (b'{"a":"\\"model\\":\\"m\\"","model":"m"}', b'{"a":"\\"model\\":\\"m\\"","model":"served-by"}'),
            (b'{"b":2,"a":1,"model":"m","a":1}', b'{"b":2,"a":1,"model":"served-by","a":1}'),
            (b'{"Model":"x","model":"m"}', b'{"Model":"x","model":"served-by"}'),
            (b'\xef\xbb\xbf{"model":"m"}', b'\xef\xbb\xbf{"model":"served-by"}'),
            (b'{"t":NaN,"model":"m","u":-Infinity}', b'{"t":NaN,"model":"served-by","u":-Infinity}'),
            (b'{"t":"\\ud83d","model":"m"}', b'{"t":"\\ud83d","model":"served-by"}'),
            (b'{"t":"\xed\xa0\xbd","model":"m"}', b'{"t":"\xed\xa0\xbd","model":"served-by"}'),
            (b'{"model":"\xc3\xa9\\"\\\\"}', b'{"model":"served-by"}'),
        ],
    )
    def test_only_the_value_changes(self, body: bytes, expected: bytes) -> None:
        assert after(body) == expected

    @pytest.mark.parametrize(
        "body",
        [
            b'{"model":"a","model":"m"}',
            b'{"model":1,"model":null,"model":[],"mod\\u0065l":{"model":"x"},"model":"m"}',
            b'{"model":"m","x":[1,2,{"model":"m"}],"model":"m"}',
        ],
    )
    def test_of_several_all_change(self, body: bytes) -> None:
        pairs = json.loads(after(body), object_pairs_hook=list)
        assert {value for key, value in pairs if key == "model"} == {NEW}

    def test_the_new_name_is_spelled_for_json(self) -> None:
        name = 'org/"é"\\\u2028😀'
        body = after(b'{"model":"m"}', name)
        assert json.loads(body) == {"model": name}
        assert orjson.loads(body) == {"model": name}

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
    def test_other_encodings_stay_what_they_are(self, encoding: str) -> None:
        text = '{"text": "😀é\\ud83d", "model": "%s", "model": "é"}'
        body = (text % "m").encode(encoding)
        expected = text.replace('"%s"', '"new\\u00e9"').replace('"é"', '"new\\u00e9"').encode(encoding)
        assert after(body, "newé") == expected

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b"{}", b'{"model":"served-by"}'),
            (b" { } ", b' {"model":"served-by" } '),
            (b'{"prompt":"x"}', b'{"model":"served-by","prompt":"x"}'),
            (b'\xef\xbb\xbf{"prompt":NaN}', b'\xef\xbb\xbf{"model":"served-by","prompt":NaN}'),
            (b'{"model":null,"x":1}', b'{"model":"served-by","x":1}'),
            (b'{"model":"","x":1}', b'{"model":"served-by","x":1}'),
            ('{"x":1}'.encode("utf-16-le"), '{"model":"served-by","x":1}'.encode("utf-16-le")),
        ],
    )
    def test_a_missing_name_is_put_first_where_one_is_needed(self, body: bytes, expected: bytes) -> None:
        assert after(body) == expected

    @pytest.mark.parametrize("body", [b"{}", b'{"text":"x"}', b"null", b'{"model":null}'])
    def test_but_not_where_none_is_needed(self, body: bytes) -> None:
        assert change(body, path="/tokenize") == Renamed()

    @pytest.mark.parametrize("body", [b"", b"null"])
    def test_what_is_no_object_stays(self, body: bytes) -> None:
        assert change(body) == Renamed()

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_of_a_beginning_what_is_there(self, size: int) -> None:
        body = b'{"model":"m","messages":"' + b"x" * size
        assert after(body, complete=False) == b'{"model":"served-by","messages":"' + b"x" * size

    def test_many_keys_cost_no_more_than_they_are(self) -> None:
        body = b"{" + b",".join([b'"model":"m"', b'"model":"n"'] * 50_000) + b"}"
        assert len(change(body).splices) == 100_000


class TestForms:
    def test_all_fields_of_the_name_and_no_file(self) -> None:
        parts = [field("model", b"file", filename=True), field("x", b"m"), field("model", b"a"), field("model", b"m")]
        expected = [*parts[:2], field("model", NEW.encode()), field("model", NEW.encode())]
        assert after(b"".join(parts) + b"--edge--", content_type=FORM) == b"".join(expected) + b"--edge--"

    def test_an_empty_field(self) -> None:
        assert after(field("model", b"") + b"--edge--\r\n", content_type=FORM) == field("model", b"served-by") + b"--edge--\r\n"

    @pytest.mark.parametrize(("charset", "spelled"), [("utf-8", b"\xc3\xa9"), ("iso-8859-1", b"\xe9")])
    def test_in_its_charset(self, charset: str, spelled: bytes) -> None:
        line = b"Content-Type: text/plain; charset=" + charset.encode()
        body = field("model", b"m", line) + b"--edge--"
        assert after(body, "é", content_type=FORM) == field("model", spelled, line) + b"--edge--"

    def test_a_name_that_the_charset_can_not_spell(self) -> None:
        body = field("model", b"m", b"Content-Type: text/plain; charset=latin-1") + b"--edge--"
        with pytest.raises(InvalidModel, match="its charset latin-1 can't spell '😀'"):
            change(body, "😀", content_type=FORM)

    def test_without_the_field_it_stays(self) -> None:
        assert change(field("x", b"m") + b"--edge--", content_type=FORM, path="/v1/audio/transcriptions") == Renamed()


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "model", "expected"),
        [
            ("/v2/models/m/infer", "n", "/v2/models/n/infer"),
            ("/v2/models/a%2Fb/versions/3/infer?x=m#m", "c/d", "/v2/models/c%2Fd/versions/3/infer?x=m#m"),
            ("/v1/models/m:predict", "org/n v", "/v1/models/org%2Fn%20v:predict"),
            ("/v1/models/org/m:predict", "org/n", "/v1/models/org/n:predict"),
            ("/serving-endpoints/m/invocations", "é?#%", "/serving-endpoints/%C3%A9%3F%23%25/invocations"),
        ],
    )
    def test_the_segment_changes_and_the_body_stays(self, path: str, model: str, expected: str) -> None:
        assert change(b'{"model":"m"}', model, path=path) == Renamed((), ((":path", expected),))
        assert change(None, model, path=path) == Renamed((), ((":path", expected),))

    def test_bytes_that_no_path_should_have_come_out_encoded(self) -> None:
        request_head = head("/x")._replace(headers={":path": b"/v2/models/m/infer?\xff=\xc3\xa9"})
        request = parse(request_head, b"")
        assert renamed(request, b"", True, "n", OPTIONS).set_headers == ((":path", "/v2/models/n/infer?%FF=%C3%A9"),)

    def test_a_path_in_another_header(self) -> None:
        request_head = head("/x")._replace(headers={"x-original-path": b"/v2/models/m/infer"})
        request = parse(request_head, b"")
        assert renamed(request, b"", True, "n", OPTIONS).set_headers == (("x-original-path", "/v2/models/n/infer"),)

    @given(names, st.sampled_from(["/v2/models/m/infer", "/v1/models/a/m:predict"]))
    def test_what_is_written_is_read_again(self, model: str, path: str) -> None:
        ((_, written),) = change(b"", model, path=path).set_headers
        assert written.isascii()
        assert parse(head(written), b"").model == model


class TestHeaders:
    def test_the_length_and_digests_no_longer_hold(self) -> None:
        told = {
            "content_length": "13",
            "digest": "x",
            "content_digest": "x",
            "content_md5": "x",
            "repr_digest": "x",
            "etag": "x",
        }
        removed = ("content-length", "content-digest", "content-md5", "digest", "repr-digest")
        assert change(b'{"model":"m"}', **told).remove_headers == removed  # type: ignore[arg-type]

    def test_a_name_of_the_same_length_keeps_the_length(self) -> None:
        assert change(b'{"model":"m"}', "n", content_length="13", digest="x").remove_headers == ("digest",)

    def test_nothing_is_removed_that_is_not_there(self) -> None:
        assert change(b'{"model":"m"}').remove_headers == ()


class TestCompressed:
    @pytest.mark.parametrize("variant", [*VARIANTS, "gzip, br"])
    def test_goes_on_plain(self, variant: str) -> None:
        encoding, encoder = VARIANTS.get(variant, (variant, lambda body: encode(body, variant)))
        plain = b'{"messages":["%s"],"model":"m"}' % (b"hello " * 300)
        body = encoder(plain)
        told = change(body, content_encoding=encoding, content_length=str(len(body)))
        assert spliced(body, told.splices) == plain.replace(b'"m"', b'"served-by"')
        assert told.remove_headers == ("content-encoding", "content-length")

    def test_identity_is_plain(self) -> None:
        assert change(b'{"model":"m"}', content_encoding="identity").remove_headers == ()

    def test_a_form(self) -> None:
        body = encode(field("model", b"m") + b"--edge--", "gzip")
        told = change(body, content_encoding="gzip", content_type=FORM)
        assert spliced(body, told.splices) == field("model", b"served-by") + b"--edge--"

    def test_within_bounds(self) -> None:
        body = encode(b'{"model":"m","x":"%s"}' % bytes(5000), "gzip")
        with pytest.raises(BodyTooLarge):
            change(body, content_encoding="gzip", options=ParseOptions(max_inflated_bytes=4000))

    def test_a_beginning_is_refused(self) -> None:
        body = encode(b'{"model":"m","x":"%s"}' % bytes(range(32, 33)) * 500, "gzip")
        with pytest.raises(UnreadableBody, match="with content-encoding gzip only the beginning came"):
            change(body[:-10], content_encoding="gzip", complete=False)

    def test_without_a_name_it_stays_compressed(self) -> None:
        assert change(encode(b'{"text":"x"}', "gzip"), content_encoding="gzip", path="/tokenize") == Renamed()


class TestWhatCanNotBeRead:
    """It may name a model that is not to be served, so it does not pass."""

    def test_an_unknown_encoding(self) -> None:
        with pytest.raises(UnreadableBody, match=r"this pool rewrites models, .* \(content-encoding rot13\)"):
            change(b"x", content_encoding="rot13", path="/tokenize")

    def test_a_body_that_is_not_sent(self) -> None:
        with pytest.raises(BodyNotSeen, match="request_body_mode must be FULL_DUPLEX_STREAMED or BUFFERED") as caught:
            change(None)
        assert (caught.value.status, caught.value.code) == (500, "body_not_seen")

    def test_a_request_that_has_none_passes(self) -> None:
        request_head = head("/v1/models")._replace(headers={":path": b"/v1/models", ":method": b"GET"})
        assert renamed(parse(request_head, None), None, True, NEW, OPTIONS) == Renamed()
        assert change(b"") == Renamed()

    def test_a_beginning_without_the_model(self) -> None:
        with pytest.raises(UnreadableBody, match="only the beginning"):
            change(b'{"messages":"' + b"x" * 100, complete=False)

    def test_another_content_type(self) -> None:
        with pytest.raises(UnreadableBody, match="content-type audio/wav"):
            change(b"RIFF", content_type="audio/wav", path="/v1/audio/transcriptions")
        assert change(b"RIFF", content_type="audio/wav", path="/upload") == Renamed()


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["model", "x", "é"]) | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
spaces = st.text(st.sampled_from(" \t\r\n"), max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """JSON as text with a top-level model, or several, with any spelling, spaces and order; and the same for a given name."""
    pairs: list[tuple[str, str | None]] = []
    for key, value in draw(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "model"), values, max_size=5)).items():
        pairs.append((json.dumps(key, ensure_ascii=draw(st.booleans())), json.dumps(value, ensure_ascii=draw(st.booleans()))))
    spellings = st.sampled_from(['"model"', '"mod\\u0065l"', '"\\u006d\\u006f\\u0064\\u0065\\u006c"'])
    for _ in range(draw(st.integers(1, 3))):
        pairs.insert(draw(st.integers(0, len(pairs))), (draw(spellings), None))
    before, expected = [], []
    for key, value in pairs:
        a, b, c, d = (draw(spaces) for _ in range(4))
        old = json.dumps(draw(names), ensure_ascii=draw(st.booleans()))
        before.append(f"{a}{key}{b}:{c}{old if value is None else value}{d}")
        expected.append(f"{a}{key}{b}:{c}{{new}}{d}".replace("{new}", "\0" if value is None else value))
    a, b = draw(spaces), draw(spaces)
    return a + "{" + ",".join(before) + "}" + b, a + "{" + ",".join(expected) + "}" + b


@examples(300)
@given(documents(), names)
def test_every_other_byte_is_the_same(document: tuple[str, str], new: str) -> None:
    """The document with a zero byte for each name is what must come out with the new name there."""
    before, expected = document
    body = before.encode("utf-8", "surrogatepass")
    result = after(body, new)
    assert result == expected.encode("utf-8", "surrogatepass").replace(b"\0", orjson.dumps(new))
    assert json.loads(result)["model"] == new
