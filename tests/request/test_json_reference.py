"""JSON is read as Python's json reads it, through which vLLM and SGLang get their requests: any body that it takes names the
same model here, and any that it refuses is refused."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from extproc.errors import InvalidBody, InvalidModel
from extproc.request import parse
from tests.fakes.events import head
from tests.fakes.fuzz import examples

HEAD = head(content_type="application/json")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.text(st.characters(categories=["Cs", "Cc"]), max_size=3),
)
keys = st.sampled_from(["model", "Model", "prompt", "a"])
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner)), max_leaves=5)
spaces = st.sampled_from([b"", b" ", b"\r\n\t"])
names = st.sampled_from([b'"model"', b'"\\u006dodel"', b'"mode\\u006C"', b'"Model"', b'"\\ud83d"', b'"a"', b'""'])
literals = st.one_of(
    values.map(lambda value: json.dumps(value).encode()),
    scalars.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [b'"one"', b'"two"', b"NaN", b"-Infinity", b"1e400", b"-0", b"01", b"1.", b"9" * 400, b'"\xff"', b'"\x00"']
    ),
)
members = st.builds(lambda name, one, value, two: name + one + b":" + two + value, names, spaces, literals, spaces)
objects = st.builds(
    lambda begin, inside, end, trailing: begin + b"{" + b",".join(inside) + end + b"}" + trailing,
    st.sampled_from([b"", b" ", b"\xef\xbb\xbf", b"\xef\xbb\xbf ", b" \xef\xbb\xbf", b"\x00"]),
    st.lists(members, max_size=4),
    st.sampled_from([b"", b" ", b","]),
    st.sampled_from([b"", b"\n", b"\x00", b"}", b"{}", b"x"]),
)
texts = st.builds(
    lambda text, encoding: text.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass"),
    st.lists(members, max_size=2).map(lambda inside: b"{" + b",".join(m for m in inside if b"\xff" not in m) + b"}"),
    st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]),
)
fragments = st.lists(
    st.sampled_from(
        [b"{", b"}", b'"model"', b":", b",", b'"m"', b"[", b"]", b"\\", b'"', b"NaN", b"1", b"\xff", b"\x00", b" "]
    ),
    max_size=12,
).map(b"".join)
bodies = st.one_of(objects, objects, texts, fragments, literals, st.binary(min_size=1, max_size=12))


@examples(400)
@given(bodies.filter(bool))
@example(b'{"model":"a","\\u006dodel":"b"}')
@example(b'{"model":"a","model":null}')
@example(b'{"model":"a","model":NaN}')
@example('{"model":"é"}'.encode("utf-16"))
@example(b'{"model":"m","a":' + b"9" * 5000 + b"}")
def test_the_same_model(body: bytes) -> None:
    try:
        expected = json.loads(body)
    except (ValueError, RecursionError):
        expected = _REFUSED
    try:
        found = parse(HEAD, body).model
    except InvalidBody:
        assert not isinstance(expected, dict)
    except InvalidModel:
        assert isinstance(expected, dict)
        assert not isinstance(expected["model"], str) or not expected["model"].isprintable()
    else:
        assert expected is None or isinstance(expected, dict)
        assert found == ((expected or {}).get("model") or None)


_REFUSED = object()
