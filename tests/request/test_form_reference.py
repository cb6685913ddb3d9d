"""Forms are read as python-multipart reads them below vLLM and SGLang: where both take one, the model is the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from extproc.errors import InvalidBody
from extproc.request.form import model_of_form, parameters
from tests.fakes.fuzz import examples


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """The reference logs each form that it refuses."""
    logger = logging.getLogger("python_multipart")
    logger.disabled, before = True, logger.disabled
    yield
    logger.disabled = before


def reference(boundary: bytes, body: bytes) -> str | None:
    """As Starlette's MultiPartParser uses the library. Raises FormParserError."""
    model: bytes | None = None
    name = value = disposition = data = b""
    ended = False

    def begin() -> None:
        nonlocal name, value, disposition, data
        name = value = disposition = data = b""

    def header_field(raw: bytes, start: int, end: int) -> None:
        nonlocal name
        name += raw[start:end]

    def header_value(raw: bytes, start: int, end: int) -> None:
        nonlocal value
        value += raw[start:end]

    def header_end() -> None:
        nonlocal name, value, disposition
        if name.lower() == b"content-disposition":
            disposition = value
        name = value = b""

    def part_data(raw: bytes, start: int, end: int) -> None:
        nonlocal data
        data += raw[start:end]

    def part_end() -> None:
        nonlocal model
        _, options = parse_options_header(disposition)
        if options.get(b"name") == b"model" and b"filename" not in options:
            model = data

    def all_end() -> None:
        nonlocal ended
        ended = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_header_field": header_field,
            "on_header_value": header_value,
            "on_header_end": header_end,
            "on_part_data": part_data,
            "on_part_end": part_end,
            "on_end": all_end,
        },
    )
    parser.write(body)
    parser.finalize()
    if not ended:
        raise FormParserError("no end")
    return None if model is None else model.decode("utf-8", "surrogateescape")


pieces = st.sampled_from(
    [
        b"--b",
        b"\r\n--b",
        b"\r\n",
        b"\r\n--b\r\n",
        b"\r\n--b--",
        b"--",
        b"-",
        b"\r",
        b"\n",
        b" ",
        b"b",
        b'Content-Disposition: form-data; name="model"',
        b"content-disposition:form-data;name=model",
        b'Content-Disposition: form-data; name="model"; filename="f"',
        b"X: y",
        b"X",
        b":",
        b"\r\n\r\n",
        b"one",
        b"two",
    ]
)
parts = st.builds(
    lambda headers, value: b"--b\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + value + b"\r\n",
    st.lists(pieces, max_size=3),
    st.lists(pieces, max_size=4).map(b"".join),
)
forms = st.one_of(
    st.lists(pieces, max_size=12).map(b"".join),
    st.lists(parts, max_size=4).map(lambda them: b"".join(them) + b"--b--\r\n"),
)


@examples(500)
@given(forms)
@example(b'\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\none\r\n--b\r\n\r\n\r\n--b--')
@example(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\r\n--b-\r\n--b\r\r\n--b--')
@example(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\r\n--b\r\r\n\r\n--b\r\n--b--')
def test_the_same_model(body: bytes) -> None:
    try:
        expected = reference(b"b", body)
        found = model_of_form(b"multipart/form-data; boundary=b", body, complete=True)
    except (FormParserError, InvalidBody):
        return
    assert found == expected


texts = st.lists(
    st.sampled_from([b";", b"=", b'"', b"\\", b" ", b"\t", b"a", b"name", b"NAME", b"model", b'"model"', b"*", b"/", b"\xe9"]),
    max_size=12,
).map(b"".join)


@examples(500)
@given(texts | texts.map(lambda text: b"form-data; " + text))
@example(b"form-data; name=model; name")
@example(b'x="; name=model; y="')
@example(b'form-data; name="a;b"; x="\\""; name=model')
@example(b'form-data; name="model"x')
def test_the_same_parameters(header: bytes) -> None:
    _, expected = parse_options_header(header)
    assert {name: value for name, value in parameters(header).items() if b"*" not in name} == expected
