"""The model of a JSON body that comes in pieces: what any reader will find, or a reason to stop."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import RequestHead
from extproc.errors import ConflictingModel, ExtProcError, InvalidBody, InvalidModel
from extproc.request.prefix import model_of_prefix
from extproc.request.scan import ModelScanner, NamedByPath, scanner_of
from tests.costs import costs_less
from tests.fakes.fuzz import examples


def pieces_of(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def scan(pieces: Iterable[bytes | memoryview]) -> tuple[str | None, type[ExtProcError] | None]:
    """The model that became known, and the kind of error."""
    scanner = ModelScanner()
    error = None
    for piece in pieces:
        error = scanner.feed(piece)
    return scanner.model if scanner.known else None, type(error) if error else None


@pytest.mark.parametrize("body", [b'{"a":1,}', b'{"a":1,"b":[],}', b'{ "a" : "x" , } ', b'{"model":"m",}'])
def test_a_comma_before_the_end_wherever_the_body_is_cut(body: bytes) -> None:
    for at in range(len(body) + 1):
        assert scan([body[:at], body[at:]])[1] is InvalidBody


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
class TestEverySizeOfPieces:
    @pytest.mark.parametrize(
        ("body", "model"),
        [
            (b'{"model":"m"}', "m"),
            (b' \r\n\t{ "model" : "m" , "messages" : [ ] } \n', "m"),
            (b'{"a":1,"b":true,"c":null,"d":-1.5e3,"model":"m"}', "m"),
            (b'{"a":{"model":"no"},"b":[{"model":"no"}],"model":"m"}', "m"),
            (b'{"model":"m","a":{"model":"no"},"b":[{"model":"no"},"model"],"c":"model"}', "m"),
            (b'{"a":"\\"","b":"}]\\\\","c":["\\"]}"],"model":"m"}', "m"),
            (b'{"mod\\u0065l":"m"}', "m"),
            (b'{"\\u006d\\u006F\\u0064\\u0065\\u006c":"m"}', "m"),
            (b'{"model":"\\u00e9\\ud83d\\ude00\xc3\xa9\\\\\\""}', 'é😀é\\"'),
            (b'{"model":"m","x":1,"model":"m"}', "m"),
            (b'{"model":"m","mod\\u0065l":"\\u006d"}', "m"),
            (b'{"Model":"x","MODEL":1,"models":["x"],"mode":"x","model ":"x","model":"m"}', "m"),
            (b'{"' + b"k" * 600 + b'":"' + b"v" * 600 + b'","model":"m"}', "m"),
            (b'{"a":[[[]],{},{"b":[{}]},[{"c":"' + b"[" * 300 + b'"}]],"model":"m"}', "m"),
            (b'{"model":"m","a":NaN}', "m"),  # for the model server to refuse
            (b'{"model":"m","a":["b" "c" 01 tru:]}', "m"),
            (b'{"model":"m","a":"\x00\\x"}', "m"),
            (b'{"model":"m","a', "m"),
            (b"", None),
            (b"{}", None),
            (b'{"a":{"model":"m"}}', None),
            (b'{"model":"m', None),
        ],
    )
    def test_what_can_be_followed(self, body: bytes, model: str | None, size: int) -> None:
        assert scan(pieces_of(body, size)) == (model, None)

    @pytest.mark.parametrize(
        "more",
        [
            b',"model":"n"}',
            b',"a":{"b":["\\"}"]},"model":"n"}',
            b',"mod\\u0065l":"n"}',
            b',"\\u006dodel":"n"}',
            b',"model":"m "}',
            b',"model":"M"}',
            b',"model":""}',
            b',"model":null}',
            b',"model":1}',
            b',"model":["m"]}',
            b',"model":{"m":"m"}}',
            b',"model":"' + b"m" * 30_000 + b'"}',
        ],
    )
    def test_another_model(self, more: bytes, size: int) -> None:
        assert scan(pieces_of(b'{"model":"m"' + more, size)) == ("m", ConflictingModel)

    @pytest.mark.parametrize(
        "more",
        [
            b",}",
            b',,"a":1}',
            b' "a":1}',
            b',"a" 1}',
            b',"a":}',
            b',"a":,}',
            b",a:1}",
            b",'a':1}",
            b",\"a\":'1'}",
            b',"a":1 2}',
            b',"a":"b" "c"}',
            b',"a\\x":1}',
            b',"\\ud800":1}',
            b',"model":"\\x"}',
            b'}{"model":"n"}',
            b"}]",
            b"}\x00",
            b"]",
            # What readers with extensions would take for comments and for other quotes, before a model that only they see.
            b',/*"*/"model":"n"/*"*/}',
            b',"a":[/*"*/],"model":"n","b":[/*"*/]}',
            b',"a":[//"\n],"model":"n","b":[//"\n]}',
            b',"a":[#"\n],"model":"n","b":[#"\n]}',
            b',"a":[\'"\'],"model":"n","b":[\'"\']}',
            b',"a":[`"`],"model":"n","b":[`"`]}',
            b',"a":[\\"],"model":"n"}',
            b',"a":[\xe2\x80\x9c]}',
            b',"a":[\x0b]}',
        ],
    )
    def test_what_readers_may_differ_on(self, more: bytes, size: int) -> None:
        assert scan(pieces_of(b'{"model":"m"' + more, size)) == ("m", InvalidBody)

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b'"model"',
            b"null",
            b"x",
            b"\xef\xbb\xbf{}",
            '{"model":"m"}'.encode("utf-16"),
            b"{\0",
            b"/**/{",
            b"{'model':1}",
        ],
    )
    def test_what_is_no_object(self, body: bytes, size: int) -> None:
        assert scan(pieces_of(body, size)) == (None, InvalidBody)

    @pytest.mark.parametrize("value", [b"null", b"1", b"true", b"[]", b"{}", b'""', b'"' + b"x" * 30_000 + b'"'])
    def test_a_first_model_that_is_none(self, value: bytes, size: int) -> None:
        assert scan(pieces_of(b'{"model":' + value + b',"model":"m"}', size)) == (None, InvalidModel)


def test_known_as_soon_as_the_model_is_whole() -> None:
    scanner = ModelScanner()
    body = b'{"user":"me","model":"llama","messages":['
    told = []
    for at in range(len(body)):
        assert scanner.feed(body[at : at + 1]) is None
        told.append(scanner.known)
    assert told.index(True) == body.index(b',"messages"') - 1
    assert scanner.model == "llama"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_once_sealed_not_even_the_same_model_may_come_again(size: int) -> None:
    scanner = ModelScanner()
    assert scanner.feed(b'{"model":"m","model":"m","mod') is None
    assert scanner.spans == [(9, 12), (21, 24)]
    scanner.seal()
    more = b'el":"m"}'
    errors = [scanner.feed(more[at : at + size]) for at in range(0, len(more), size)]
    assert isinstance(errors[-1], ConflictingModel)


def test_spans_are_those_of_the_values_however_the_body_is_cut() -> None:
    body = b'{ "a":{"model":"x"}, "mod\\u0065l" : "m\\u00e9" ,"model":"m\xc3\xa9"}'
    for cut in range(len(body) + 1):
        scanner = ModelScanner()
        assert scanner.feed(body[:cut]) is None
        assert scanner.feed(body[cut:]) is None
        assert [body[begin:end] for begin, end in scanner.spans] == [b'"m\\u00e9"', b'"m\xc3\xa9"']


def test_an_error_is_final_and_says_where() -> None:
    scanner = ModelScanner()
    assert scanner.feed(b'{"model":"m",') is None
    error = scanner.feed(b" oops")
    assert str(error) == "request body is not valid JSON: unexpected at byte 14"
    assert scanner.feed(b'"a":1}') is error
    assert scanner.known


def test_a_piece_may_be_a_view() -> None:
    assert scan([memoryview(b'xx{"model":"m"}')[2:]]) == ("m", None)


def test_repr_says_where_it_stands() -> None:
    scanner = ModelScanner()
    scanner.feed(b'{"model":"m","messages":[[')
    assert repr(scanner) == "<ModelScanner nested at 26 known=True>"


# -- against readers -------------------------------------------------------------------------------------------------

blanks = st.sampled_from([b"", b"", b"", b" ", b"\n\t", b"  \r "])
texts = st.text(alphabet='model"\\[]{}:, \n\té🦙/', max_size=8)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> bytes:
    """The text as a JSON string, with some characters as escapes."""
    out = ""
    for char in text:
        plain = json.dumps(char, ensure_ascii=draw(st.booleans()))[1:-1]
        out += f"\\u{ord(char):04x}" if ord(char) < 0x10000 and draw(st.sampled_from((False, False, True))) else plain
    return f'"{out}"'.encode()


plain_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-999, 999), st.floats(-9, 9, width=16), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts | st.just("model"), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def pairs(draw: st.DrawFn) -> bytes:
    """One member of an object; `model` more often than chance has it, and with few different values."""
    if draw(st.booleans()):
        key = draw(spelled("model"))
        value = draw(spelled(draw(st.sampled_from(["m", "m", "m", "m", "n", ""]))))
    else:
        key = draw(spelled(draw(texts | st.sampled_from(["Model", "models", "messages"]))))
        value = orjson.dumps(draw(plain_values), option=draw(st.sampled_from([0, orjson.OPT_INDENT_2])))
    return b"".join((draw(blanks), key, draw(blanks), b":", draw(blanks), value, draw(blanks)))


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(pairs(), max_size=6))
    return draw(blanks) + b"{" + (b",".join(members) or draw(blanks)) + b"}" + draw(blanks)


@st.composite
def cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    if draw(st.booleans()):
        return pieces_of(body, draw(st.sampled_from([1, 2, 5])))
    at = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[a:b] for a, b in zip([0, *at], [*at, len(body)], strict=True)]


def models_of(body: bytes) -> list[object]:
    """The values of all top-level `model` keys, as Python's reader sees them."""
    members: list[list[tuple[str, object]]] = []
    json.loads(body, object_pairs_hook=lambda found: members.append(found))
    return [value for key, value in members[-1] if key == "model"]


@examples(300)
@given(st.data())
def test_an_object_in_any_pieces(data: st.DataObject) -> None:
    body = data.draw(objects())
    models = models_of(body)
    first = models[0] if models else None
    model = first if isinstance(first, str) and first else None
    error: type[ExtProcError] | None = None
    if models and model is None:
        error = InvalidModel
    elif any(other != model for other in models):
        error = ConflictingModel
    assert scan(data.draw(cut(body))) == (model, error)


def readers(body: bytes) -> list[object]:
    """What readers take the body's model for; nothing from one that refuses it."""
    found = []
    for loads in (orjson.loads, json.loads):
        try:
            document = loads(body)
        except (ValueError, RecursionError):
            continue
        found.append(document.get("model") if isinstance(document, dict) else None)
    return found


@examples(300)
@given(st.data())
def test_no_reader_finds_a_model_that_was_not_seen(data: st.DataObject) -> None:
    """Of any body, however broken: what was let through is read as the model that was known, or refused."""
    body = bytearray(data.draw(objects()))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"/", b"'", b"NaN", b"0", b"\xff", b"\0"]
            )
        )
    model, error = scan(data.draw(cut(bytes(body))))
    if model is not None and error is None:
        assert all(found == model for found in readers(bytes(body)))


@examples(200)
@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=40) | st.text(alphabet='{}[]":,model\\ 1/n', max_size=60).map(str.encode))
    for whole in (body, b'{"model":"m",' + body, b'{"model":"m","a":[' + body):
        assert scan(data.draw(cut(whole))) == scan([whole])


@examples(200)
@given(st.data())
def test_what_came_until_then_names_the_model(data: st.DataObject) -> None:
    """The director reads the beginning by itself, and must find the same."""
    body = data.draw(objects())
    scanner = ModelScanner()
    sofar = b""
    for piece in data.draw(cut(body)):
        sofar += piece
        if scanner.feed(piece) is None and scanner.known:
            try:
                orjson.loads(sofar)
            except orjson.JSONDecodeError:
                assert model_of_prefix(sofar) == scanner.model
            return


# -- cost ------------------------------------------------------------------------------------------------------------

_DEEP = 100_000
WORST = {
    "deep arrays": b'{"model":"m","a":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "deep objects": b'{"model":"m","a":' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"}",
    "quotes in a string": b'{"model":"m","a":"' + b'\\"' * 500_000 + b'"}',
    "backslashes": b'{"model":"m","a":"' + b"\\\\" * 500_000 + b'"}',
    "a long key": b'{"model":"m","' + b"a" * 1_000_000 + b'":1}',
    "a long key of escapes": b'{"model":"m","' + b"\\u006d" * 200_000 + b'":1}',
    "many keys": b'{"model":"m"' + b',"abc":"def"' * 50_000 + b"}",
    "many objects": b'{"model":"m","a":[' + b'{"b":{"c":"[]"}},' * 50_000 + b"1]}",
    "objects that are cut": b'{"model":"m","a":[' + (b'{"b":"c"' + b',"d":"e"' * 1000) * 100 + b"}" * 100 + b"]}",
    "blanks": b'{"model":"m",' + b" " * 1_000_000 + b'"a":1}',
    "a number": b'{"model":"m","a":' + b"1" * 1_000_000 + b"}",
}


@pytest.mark.parametrize("body", WORST.values(), ids=WORST.keys())
@pytest.mark.parametrize("size", [997, 65536, 1 << 24])
def test_costs_one_pass_and_little_memory(body: bytes, size: int) -> None:
    """One pass over the worst megabyte, where several would take minutes; what is held is a piece's worth, not the body."""
    pieces: Sequence[bytes] = pieces_of(body, size)
    assert scan(pieces) == ("m", None)
    assert costs_less(lambda: scan(pieces), 5.0)
    if size < 65536:
        tracemalloc.start()
        scan(pieces)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


# -- which bodies ----------------------------------------------------------------------------------------------------


def head(path: str = "/v1/chat/completions", **headers: str) -> RequestHead:
    return RequestHead({":path": path.encode(), **{name.replace("_", "-"): value.encode() for name, value in headers.items()}})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "application/json"},
        {"content_type": "Application/JSON; charset=UTF-8"},
        {"content_type": 'application/json; charset="utf-8"; x=y'},
        {"content_type": "application/vnd.api+json"},
        {"content_type": "application/json", "content_encoding": " Identity"},
    ],
)
def test_json_is_scanned(headers: dict[str, str]) -> None:
    assert isinstance(scanner_of(head(**headers)), ModelScanner)


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": "text/plain"},
        {"content_type": "application/json", "content_encoding": "gzip"},
        {"content_type": "application/json; charset=utf-16"},
        {"content_type": "application/json; a=b; Charset = shift_jis"},
    ],
)
def test_other_bodies_are_read_whole(headers: dict[str, str]) -> None:
    assert scanner_of(head(**headers)) is None


def test_so_are_those_of_paths_that_are_no_api() -> None:
    """Lines of JSON are two documents, which stops a body under way."""
    assert scanner_of(head("/upload", content_type="application/json")) is None


def test_a_model_in_the_path_is_known_at_once() -> None:
    scanner = scanner_of(head("/v2/models/llama/infer?x=y", content_encoding="gzip"))
    assert isinstance(scanner, NamedByPath)
    assert scanner.known
    assert scanner.feed(b'{"model":"other"}') is None  # type: ignore[func-returns-value]
