"""The client's name instead of the served one, and every other byte as it was, however the body is cut."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.response.restore import ModelRestorer
from tests.fakes.fuzz import examples
from tests.response.pieces import cut

SERVED, CLIENT = "meta-llama/Llama-3.1-8B", "gpt-4o"


def feed(restorer: ModelRestorer, pieces: list[bytes]) -> bytes:
    return b"".join(restorer.feed(piece, False) for piece in pieces) + restorer.feed(b"", True)


def restored(value: Any, served: str, client: str) -> Any:
    """As the JSON value would be if all keys `model` and `model_name` were restored."""
    if isinstance(value, dict):
        return {
            key: client if key in ("model", "model_name") and inner == served else restored(inner, served, client)
            for key, inner in value.items()
        }
    return [restored(inner, served, client) for inner in value] if isinstance(value, list) else value


names = st.one_of(st.sampled_from([SERVED, CLIENT, "model", '"', "a\\", "m", "é/ü", 'model":', " "]), st.text(max_size=6))
texts = st.one_of(
    names,
    st.sampled_from(
        ['"model":"m"', '\\"model": "' + SERVED, '"model"', '"model_name":"m"', "\\", '\\"', '{"model": "m"}', ": "]
    ),
)
documents = st.recursive(
    st.one_of(texts, st.none(), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(["model", "model_name"]), texts), inner, max_size=4),
    ),
    max_leaves=10,
)


@examples(400)
@given(documents, names, names, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\t:\t")]), st.data())
def test_any_document_cut_anywhere(
    document: Any, served: str, client: str, ascii_only: bool, separators: tuple[str, str], data: st.DataObject
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    try:
        restorer = ModelRestorer(served, client, event_stream=data.draw(st.booleans()))
    except ValueError:
        return
    out = feed(restorer, data.draw(cut(body)))
    # Python's \u escapes are in lower case, as every encoder's that we know.
    assert json.loads(out.decode("utf-8", "surrogatepass")) == restored(document, served, client)
    if restored(document, served, client) == document:
        assert json.loads(out.decode("utf-8", "surrogatepass")) == document


@examples(300)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    b'"model"',
                    b'"model":',
                    b'"model":"s"',
                    b'"model" : "s"',
                    b'"',
                    b"\\",
                    b":",
                    b" ",
                    b'"s',
                    b'"s"',
                    b"mod",
                    b"\n",
                ),
                *(b'"model_name"', b'"model_name" : "s"', b"_name", b'_name":'),
            ]
        ),
        max_size=12,
    ),
    st.booleans(),
    st.data(),
)
def test_any_bytes_come_out_as_if_they_had_come_at_once(parts: list[bytes], stream: bool, data: st.DataObject) -> None:
    body = b"".join(parts)
    space = rb"[ \t]{0,8}" if stream else rb"[ \t\r\n]{0,8}"
    wanted = re.sub(rb'(?<!\\)("model(?:_name)?"' + space + b":" + space + b')"s"', rb'\1"client"', body)
    assert feed(ModelRestorer("s", "client", event_stream=stream), data.draw(cut(body))) == wanted


@examples(200)
@given(st.binary(max_size=60), st.data())
def test_only_the_beginning_of_a_match_is_held_back(noise: bytes, data: st.DataObject) -> None:
    body = noise + data.draw(
        st.sampled_from(
            [b"", b'"mod', b'"model" :', b'"model_na', b'"model_name": "meta-llama/Ll', b'{"model": "meta-llama/Ll']
        )
    )
    restorer = ModelRestorer(SERVED, CLIENT)
    went_on = b""
    for piece in data.draw(cut(body)):
        went_on += restorer.feed(piece, False)
        held = restorer._held
        assert len(held) <= 12 + 2 * 8 + 1 + len(SERVED) + 4
        assert not held or held.startswith(b'"')
    assert went_on + restorer.feed(b"", True) == body


@pytest.mark.parametrize(
    ("piece", "held"),
    [
        (b'data: {"id":"x","model":"other","choices":[]}\n\n', b""),
        (b'data: {"id":"x"}\n\n', b""),
        (b"data: [DONE]\n\n", b""),
        (b'data: "model"\n\n', b""),
        (b'data: "model":\n\n', b""),
        (b'data: {"id":"x', b""),
        (b'data: {"id":"x"', b'"'),
        (b'data: {"', b'"'),
        (b'data: {"mode', b'"mode'),
        (b'data: {"modem', b""),
        (b'data: {"model_n', b'"model_n'),
        (b'data: {"model_name"', b'"model_name"'),
        (b'data: {"model_names', b""),
        (b'data: {"model":', b'"model":'),
        (b'data: {"model": "meta', b'"model": "meta'),
        (b'data: {"model": "mets', b""),
        (b'data: {"model": "' + SERVED.encode(), b'"model": "' + SERVED.encode()),
        (b'data: {\\"mode', b""),
        (b'data: {"model":' + b" " * 9, b""),
    ],
)
def test_what_waits(piece: bytes, held: bytes) -> None:
    restorer = ModelRestorer(SERVED, CLIENT, event_stream=True)
    assert restorer.feed(piece, False) == piece[: len(piece) - len(held)]
    assert restorer.feed(b"", True) == held


def test_unchanged_pieces_are_not_copied() -> None:
    piece = b'data: {"choices":[]}\n\n'
    assert ModelRestorer(SERVED, CLIENT).feed(piece, False) is piece


def test_each_event_goes_on_restored_at_once() -> None:
    restorer = ModelRestorer(SERVED, CLIENT, event_stream=True)
    piece = b'data: {"id":"x","model":"%s","choices":[]}\n\n'
    for _ in range(3):
        assert restorer.feed(piece % SERVED.encode(), False) == piece % CLIENT.encode()


@pytest.mark.parametrize("spelling", ['"é/ü"', '"\\u00e9/\\u00fc"', '"é\\/ü"', '"\\u00e9\\/\\u00fc"'])
def test_every_spelling_is_known(spelling: str) -> None:
    body = f'{{"model":{spelling}}}'.encode()
    assert feed(ModelRestorer("é/ü", "x"), [body]) == b'{"model":"x"}'


def test_without_holding_back_a_match_that_is_cut_is_missed() -> None:
    restorer = ModelRestorer(SERVED, CLIENT, may_hold=False)
    whole = b'{"model":"%s"}' % SERVED.encode()
    assert restorer.feed(whole, False) == b'{"model":"gpt-4o"}'
    assert restorer.feed(whole[:12], False) == whole[:12]
    assert restorer.feed(whole[12:], False) == whole[12:]


@pytest.mark.parametrize(("served", "client", "keeps"), [("ab", "cd", True), ("ab", "c", False), ("é", "xy", False)])
def test_whether_the_length_stays(served: str, client: str, keeps: bool) -> None:
    assert ModelRestorer(served, client).keeps_length is keeps


def test_a_name_without_utf8_is_refused() -> None:
    with pytest.raises(ValueError):
        ModelRestorer("\ud800", "x")
