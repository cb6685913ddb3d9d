"""Whatever a client sends, reading it raises InvalidBody, InvalidModel or BodyTooLarge and nothing else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from extproc.domain import RequestHead
from extproc.errors import BodyTooLarge, InvalidBody, InvalidModel
from extproc.request import ParseOptions, parse
from extproc.request.parse import MAX_MODEL_BYTES
from tests.fakes.encoders import ENCODERS, encode
from tests.fakes.fuzz import examples

TEXT = ParseOptions(text_of_other_types=True)

content_types = st.one_of(
    st.sampled_from(
        [
            b"",
            b"application/json",
            b"application/problem+json",
            b"text/plain",
            b"multipart/form-data; boundary=b",
            b'multipart/form-data; boundary="b"',
            b"multipart/form-data; boundary=\xff",
            b"multipart/form-data; boundary*=utf-8''b",
            b"multipart/form-data; boundary=" + b"b" * 300,
        ]
    ),
    st.binary(max_size=20).map(lambda end: b"multipart/form-data; boundary=" + end),
    st.binary(max_size=20),
)
fragments = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"\r\n",
        b'Content-Disposition: form-data; name="model"',
        b"Content-Disposition: form-data; name*=utf-8''model",
        b"Content-Disposition: \xff; name=",
        b"\r\n\r\n",
        b"m",
        b'{"model":',
        b'"m"',
        b"}",
        b"[1e400]",
        b"null",
    ]
)
bodies = st.one_of(st.none(), st.binary(max_size=60), st.lists(fragments, max_size=8).map(b"".join))
paths = st.one_of(
    st.sampled_from([b"", b"/v1/completions", b"/v2/models/%ff%00/infer", b"/v1/models/\xff:predict"]),
    st.binary(max_size=20).map(lambda middle: b"/v2/models/" + middle + b"/infer"),
    st.binary(max_size=20),
)


@examples(150)
@given(
    paths,
    content_types,
    st.sampled_from([*ENCODERS, "", "identity", "\xff", "gzip, br", "br,,zstd"]),
    st.booleans(),
    bodies,
    st.booleans(),
    st.builds(ParseOptions, st.booleans(), st.booleans(), st.integers(0, 100)),
)
@example(b"/", b"application/json", "", False, b'{"model":1e400}', True, TEXT)
@example(b"/", b"application/json", "", False, b'{"model":NaN}', True, TEXT)
@example(b"/", b"application/json", "", False, b'{"model":' + b"1" * 400 + b"}", True, TEXT)
@example(b"/", b"application/json", "", False, b'{"model":' + b"1" * 5000 + b"}", True, TEXT)
@example(b"/", b"application/json", "", False, b'{"model":"\\ud800"}', True, TEXT)
def test_reading_raises_nothing_else(
    path: bytes, content_type: bytes, encoding: str, encoded: bool, body: bytes | None, complete: bool, options: ParseOptions
) -> None:
    headers = {":path": path, "content-type": content_type, "content-encoding": encoding.encode("latin-1")}
    if encoded and body is not None and encoding in ENCODERS:
        body = encode(body, encoding)
    with suppress(InvalidBody, InvalidModel, BodyTooLarge):
        request = parse(RequestHead(headers), body, complete=complete, options=options)
        assert request.model is None or 0 < len(request.model.encode()) <= MAX_MODEL_BYTES
        assert request.model is None or not any(ord(letter) < 32 or ord(letter) == 127 for letter in request.model)
        assert request.model is None or request.unread is None
        assert "?" not in request.path
        assert "#" not in request.path
