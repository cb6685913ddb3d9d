"""Texts that are cut out: whatever a body is, it is read as orjson reads it."""

from __future__ import annotations

import json
from typing import Final

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from extproc.document import Document, as_dict
from extproc.request.long_texts import LONG_BYTES, loads

LONG: Final = "a word, another one; " * (LONG_BYTES // 10)


class Read:
    """What `orjson.loads` was given: the body, or what is left of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._plain = orjson.loads
        monkeypatch.setattr(orjson, "loads", self._loads)

    def _loads(self, body: bytes) -> object:
        self.sizes.append(len(body))
        found: object = self._plain(body)
        return found


def filled(payload: object) -> object:
    """With its texts, as a dict."""
    return as_dict(payload) if isinstance(payload, Document) else payload


def outcome(body: bytes, **options: int) -> object:
    try:
        return orjson.loads(body) if not options else filled(loads(body, **options))
    except orjson.JSONDecodeError as error:
        return type(error), error.msg, error.pos


def same(body: bytes, long_bytes: int = LONG_BYTES) -> None:
    """Also the order of keys, and types."""
    assert repr(outcome(body, long_bytes=long_bytes)) == repr(outcome(body))


CHAT: Final = {"model": "m", "messages": [{"role": "user", "content": LONG}, {"role": "user", "content": "q"}], "n": 1}


@pytest.mark.parametrize(
    "document",
    [
        CHAT,
        {"model": "m", "prompt": [LONG, LONG + "!", "short"], "stream": True},
        {"a": {"b": [[{"c": LONG}]], "d": None}, "model": "m", "e": LONG},
        [LONG],
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_long_texts_are_not_parsed(document: object, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(document, indent=indent).encode()
    read = Read(monkeypatch)
    payload = loads(body)
    assert isinstance(payload, Document) == isinstance(document, dict)
    assert filled(payload) == document
    assert len(read.sizes) == 1
    assert read.sizes[0] < 300


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","prompt":"%b"}' % LONG.replace("word", "w\\nrd").encode(),
        b'{"model":"m","prompt":"%b"}' % LONG.replace("word", "wörd").encode(),
        b'{"model":"m","prompt":"%b\xc3"}' % LONG.encode(),
        b'{"model":"m","prompt":"%b\xff%b"}' % (LONG.encode(), LONG.encode()),
        b'{"model":"m","prompt":"%b\n%b"}' % (LONG.encode(), LONG.encode()),
        b'{"model":"m","prompt":"%b\x00"}' % LONG.encode(),
        b'{"model":"m","prompt":"\\"%b"}' % LONG.encode(),
        b'{"model":"m","prompt":"%b\\""}' % LONG.encode(),
        b'{"model":"m","prompt":"%b\\\\"}' % LONG.encode(),
        b'{"model":"m","prompt":"%b' % LONG.encode(),
        b'{"model":"m","prompt":"%b"' % LONG.encode(),
        b'{"model":"m","prompt":"%b"}}' % LONG.encode(),
        b'{"%b":"m"}' % LONG.encode(),
        b'{"a":"%b","a":"b"}' % LONG.encode(),
        b'{"a":"b","a":"%b"}' % LONG.encode(),
        b'{"a":"%b","a":"%b"}' % (LONG.encode(), LONG.upper().encode()),
        b'{"a":"%b","a":"\\u007f0"}' % LONG.encode(),
        b'{"a":"%b","a":"\\u007F0"}' % LONG.encode(),
        b'{"a":"%b","b":"\x7f0"}' % LONG.encode(),
        b'{"a":"%b","a":"\x7f0"}' % LONG.encode(),
        b'"%b"' % LONG.encode(),
        b'{"a":"\x7f0%b","b":"\x7f0"}' % LONG.encode(),
        b'{"a":"\x7f0%b","b":"%b"}' % (LONG.encode(), LONG.encode()),
        b'{"a":"b"' + b" " * len(LONG) + b',"c":"d"}',
        b'{"a":"b"' + b" " * len(LONG) + b'"c":"d"}',
        b'{"a":"b",' + b"\x7f" * len(LONG) + b'"c":"d"}',
        b'{"a":"b",' + LONG.encode() + b'"c":"d"}',
        b'{"a":[' + b"1," * len(LONG) + b'1],"c":"d"}',
        b'{"a":"b' + b"[" * len(LONG) + b'","c":"d"}',
        b"[" * len(LONG),
        b'{"a":"%b","b":%b%b}' % (LONG.encode(), b"[" * 1100, b"]" * 1100),
        b'{"a":"%b","b":NaN}' % LONG.encode(),
        b'{"a":"%b","b":1e999}' % LONG.encode(),
        b'{"a":"%b","b":%b}' % (LONG.encode(), b"9" * 400),
        b'\xef\xbb\xbf{"a":"%b"}' % LONG.encode(),
        json.dumps({"a": LONG}).encode("utf-16"),
        b'"' * len(LONG),
        b"\\" * len(LONG),
    ],
    ids=lambda body: f"{body[:24]!r}",
)
def test_what_is_in_doubt_is_read_as_ever(body: bytes) -> None:
    same(body)


def test_a_text_of_megabytes_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is, in pieces: nothing asks for a multiple of it."""
    text = "b" * (3 * 2**19 + 5)
    read = Read(monkeypatch)
    assert filled(loads(b'{"a":"%b"}' % text.encode())) == {"a": text}
    assert read.sizes == [10]
    same(b'{"a":"%b\x1f"}' % text.encode())


# Documents of strings, some of which have everything that is looked for, and texts that are most of them.
CHARACTERS: Final = st.sampled_from(
    ['"', "\\", "\x7f", "\x7f0", "\x7f1", "é", "漢", "\n", "\x01", "a", "u007f", " ", "{", "]", ":"]
)
STRINGS: Final = st.lists(CHARACTERS, max_size=4).map("".join)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**63) | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)
LONG_TEXTS: Final = st.builds(
    lambda start, times, end: start + "text " * times + end, STRINGS | st.just(""), st.integers(20, 400), STRINGS | st.just("")
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON with a few long texts, in which maybe some bytes are others."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]) | STRINGS | LONG_TEXTS, VALUES | LONG_TEXTS), max_size=4))
    ascii_only = draw(st.booleans())
    members = [
        f"{json.dumps(key, ensure_ascii=ascii_only)}: {json.dumps(value, ensure_ascii=ascii_only)}" for key, value in pairs
    ]
    if draw(st.booleans()):
        members.append(f'"messages": [{{"role": "user", "content": "{"x" * draw(st.integers(0, 2000))}"}}]')
    body = ("{" + draw(st.sampled_from([", ", ",", ",   \n\n"])).join(members) + "}").encode()
    for at, new in draw(st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=2)), max_size=2)):
        body = body[:at] + new + body[at + 1 :]
    return body


@given(body=bodies(), long_bytes=st.integers(1, 60))
def test_any_body_is_read_as_orjson_reads_it(body: bytes, long_bytes: int) -> None:
    same(body, long_bytes)
