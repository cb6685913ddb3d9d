"""The model of the beginning of a JSON body."""

from __future__ import annotations

import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.request.prefix import model_of_prefix
from tests.costs import costs_less
from tests.fakes.fuzz import examples


@pytest.mark.parametrize(
    ("prefix", "model"),
    [
        (b'{"model":"m"', "m"),
        (b'{"model":"m","messages":[', "m"),
        (b' { "model" : "m" ', "m"),
        (b'{"a":1,"b":true,"c":null,"d":-1.5e3,"model":"m"', "m"),
        (b'{"a":"x","model":"m"', "m"),
        (b'{"a":{"model":"no"},"b":[{"model":"no"}],"model":"m"', "m"),
        (b'{"a":"\\"","model":"m"', "m"),
        (b'{"a":"}]\\\\","model":"m"', "m"),
        (b'{"a":["\\"]}"],"model":"m"', "m"),
        (b'{"mod\\u0065l":"m"', "m"),
        (b'{"model":"\\u00e9\\n"', "é\n"),
        (b'{"model":""', ""),
        (b'{"model":"first","model":"last"', "first"),
        (b'{"model":12,', 12),
        (b'{"model":{"a":1}', {"a": 1}),
        (b'{"model":[1,2]', [1, 2]),
    ],
)
def test_the_first_top_level_model(prefix: bytes, model: object) -> None:
    assert model_of_prefix(prefix) == model


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b" ",
        b"{",
        b'{"model"',
        b'{"model":',
        b'{"model":"m',
        b'{"model":"m\\"',
        b'{"model":12',
        b'{"model":tru',
        b'{"model":{"a":1',
        b'{"model":null,',
        b'{"Model":"m"',
        b'{"a":{"model":"m"',
        b'{"a":[{"model":"m"}',
        b'{"a":"\\"model\\":\\"m\\"',
        b'{"a":["], \\"model\\": \\"m\\"',
        b'[{"model":"m"}',
        b'"model":"m"',
        b"not json",
        b"{'model':'m'}",
        b'{"a" "b","model":"m"',
        b'{"a":1 "model":"m"',
        b'{"a":1,,"model":"m"',
        b'{"model":bad}',
    ],
)
def test_no_model_where_none_is_seen_whole(prefix: bytes) -> None:
    assert model_of_prefix(prefix) is None


@pytest.mark.parametrize(
    "prefix",
    [
        b'{"messages":[{"content":"' + b'say \\"hi\\" ' * 40_000,
        b'{"a":' + b"[" * 400_000,
        b'{"a":' + b'{"b":' * 80_000,
        b'{"' + b"\\\\" * 200_000,
        b" " * 400_000,
        b'{"a":' + b"1" * 400_000,
    ],
    ids=["quotes in a string that is cut", "arrays", "objects", "a key that is cut", "blanks", "a number"],
)
def test_costs_one_pass(prefix: bytes) -> None:
    """A pass for each quote would take minutes."""
    assert model_of_prefix(prefix) is None
    assert costs_less(lambda: model_of_prefix(prefix), 5.0)


texts = st.text(alphabet=string.ascii_letters + '"\\[]{}:, \n\té🦙', max_size=8)
names = st.one_of(st.sampled_from(["model", "Model", "a", "messages", ""]), texts)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-999, 999), st.floats(-9, 9, width=16), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
objects = st.dictionaries(names.filter(lambda name: name != "model"), values, max_size=4)
layouts = st.sampled_from([0, orjson.OPT_INDENT_2])


@examples(60)
@given(objects, texts, objects, layouts)
def test_any_prefix_gives_the_model_or_nothing(
    before: dict[str, object], model: str, after: dict[str, object], layout: int
) -> None:
    before = {name: value for name, value in before.items() if name not in after}
    whole = orjson.dumps({**before, "model": model, **after}, option=layout)
    pair = orjson.dumps({**before, "model": model}, option=layout)
    enough = len(pair.rstrip(b"}\n"))  # what a value of the pair ends with is neither
    assert whole.startswith(pair[:enough])
    for cut in range(len(whole) + 1):
        found = model_of_prefix(whole[:cut])
        assert found == model if cut >= enough else found is None


@examples(40)
@given(objects, layouts)
def test_nested_models_never_count(document: dict[str, object], layout: int) -> None:
    whole = orjson.dumps(document, option=layout)
    assert all(model_of_prefix(whole[:cut]) is None for cut in range(len(whole) + 1))


@examples(60)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,model\\ 1', max_size=40).map(str.encode))
def test_any_bytes_are_taken(prefix: bytes) -> None:
    model_of_prefix(prefix)
    model_of_prefix(b'{"model":' + prefix)
    model_of_prefix(b'{"a":[' + prefix)
