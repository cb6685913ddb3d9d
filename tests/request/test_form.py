"""The field `model` of a form."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from extproc.errors import InvalidBody, InvalidModel
from extproc.request import parse
from tests.costs import costs_less
from tests.fakes.events import head

AUDIO = 'form-data; name="file"; filename="a.wav"'


def part(disposition: str, value: bytes, boundary: str = "b", *more: str) -> bytes:
    lines = [f"--{boundary}", f"Content-Disposition: {disposition}", *more, ""]
    return "\r\n".join(lines).encode() + b"\r\n" + value + b"\r\n"


def field(value: bytes, boundary: str = "b") -> bytes:
    return part('form-data; name="model"', value, boundary)


def end(boundary: str = "b") -> bytes:
    return f"--{boundary}--\r\n".encode()


def model(body: bytes, content_type: str = "multipart/form-data; boundary=b", *, complete: bool = True) -> str | None:
    return parse(head("/v1/audio/transcriptions", content_type=content_type), body, complete=complete).model


WAV = part(AUDIO, b"RIFF\r\n\x00\xff--b not a boundary\r\n", "b", "Content-Type: audio/wav")


@pytest.mark.parametrize(
    "body",
    [
        field(b"whisper") + WAV + end(),
        WAV + field(b"whisper") + end(),
        WAV + field(b"whisper") + part('form-data; name="language"', b"en") + end(),
        field(b"first") + WAV + field(b"whisper") + end(),
        field(b"whisper") + part('form-data; name="model"; filename="model"', b"in a file") + end(),
        part("form-data; name=model", b"whisper") + end(),
        part('FORM-DATA; NAME="model"', b"whisper").replace(b"Content-Disposition", b"content-disposition") + end(),
        part('form-data; name="model"', b"whisper", "b", "Content-Type: text/plain", "X-Other: model") + end(),
        part('form-data; name="other"', b'Content-Disposition: form-data; name="model"') + field(b"whisper") + end(),
        part('form-data; name="model"; filename=""', b"in a file") + field(b"whisper") + end(),
        part('form-data; name="models"', b"no") + part('form-data; name="a[model]"', b"no") + field(b"whisper") + end(),
        part('form-data; name="Model"', b"no") + field(b"whisper") + part('form-data; other="model"', b"no") + end(),
        part('form-data; x="a;name=other\\"";name = "model" ; y', b"whisper") + end(),
        part('form-data; name="other"; name="model"', b"whisper") + end(),
        part('form-data; name="model"x', b"no") + part('form-data; name="mod', b"no") + field(b"whisper") + end(),
        field(b"whisper") + end() + b"--b\r\nan epilogue, whatever it says" + field(b"other"),
        b"\r\n\r\n" + field(b"whisper") + end(),
        field(b"whisper").replace(b"--b\r\n", b"--b \t\r\n") + end(),
        field(b"whisper") + b"--b\r\n\r\nno headers\r\n" + end(),
        field(b"whisper") + part('form-data; name="near"', b"\r\n--bb\r\n--b-\r\n--b x\r\n\r\n-\r\n--") + end(),
        field(b"whisper") + end()[:-2],
        part("other", b"").replace(b"Content-Disposition: other", b"X: " + b"x" * 8000) + field(b"whisper") + end(),
    ],
)
def test_the_last_field_called_model(body: bytes) -> None:
    assert model(body) == "whisper"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/form-data; boundary="b"', "b"),
        ('multipart/form-data; boundary="with space"', "with space"),
        ('multipart/form-data; charset=utf-8; boundary="a;b=c"', "a;b=c"),
        ("Multipart/Form-Data; BOUNDARY=b", "b"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
    ],
)
def test_boundaries(content_type: str, boundary: str) -> None:
    assert model(field(b"whisper", boundary) + end(boundary), content_type) == "whisper"


def test_a_form_without_the_field_names_no_model() -> None:
    request = parse(head(content_type="multipart/form-data; boundary=b"), WAV + end())
    assert request.model is None
    assert request.unread is None
    assert request.body_bytes == len(WAV + end())


def test_an_empty_field_is_told() -> None:
    request = parse(head(content_type="multipart/form-data; boundary=b"), field(b"") + end())
    assert request.model is None
    assert request.empty_model


@pytest.mark.parametrize(
    ("charset", "value"),
    [
        ("", "été".encode()),
        ("Content-Type: text/plain", "été".encode()),
        ('Content-Type: text/plain; charset="UTF-8"', "été".encode()),
        ("Content-Type: text/plain;charset=iso-8859-1", b"\xe9t\xe9"),
        ("content-type: text/plain; format=flowed; CHARSET=Latin1", b"\xe9t\xe9"),
    ],
)
def test_charset_of_the_part(charset: str, value: bytes) -> None:
    assert model(part('form-data; name="model"', value, "b", *filter(None, [charset])) + end()) == "été"


def test_charset_of_the_form() -> None:
    """The part's own comes first."""
    form = "multipart/form-data; charset=latin-1; boundary=b"
    assert model(field(b"\xe9t\xe9") + end(), form) == "été"
    utf_8 = part('form-data; name="model"', "été".encode(), "b", "Content-Type: text/plain; charset=utf-8")
    assert model(utf_8 + end(), form) == "été"


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (field(b"m") + end(), "multipart/form-data", "without a boundary"),
        (field(b"m") + end(), "multipart/form-data; boundary=", "without a boundary"),
        (field(b"m"), "multipart/form-data; boundary=b", "no closing boundary"),
        (field(b"m") + b"--b\r\nContent-Disp", "multipart/form-data; boundary=b", "no closing boundary"),
        (field(b"m") + b"--b", "multipart/form-data; boundary=b", "no closing boundary"),
        (field(b"m") + b"--b\r\n\r\nx", "multipart/form-data; boundary=b", "no closing boundary"),
        (b"a preamble\r\n" + field(b"m") + end(), "multipart/form-data; boundary=b", "does not begin with its boundary"),
        ((field(b"m") + end()).replace(b"\r", b""), "multipart/form-data; boundary=b", "its first boundary"),
        (b"--b--x", "multipart/form-data; boundary=bb", "does not begin with its boundary"),
        (field(b"m").replace(b"Disposition:", b"Disposition :") + end(), "multipart/form-data; boundary=b", "is no header"),
        (b"--b\r\nX: " + b"x" * 9000 + b"\r\n\r\n\r\n" + end(), "multipart/form-data; boundary=b", "longer than 8192"),
        (part("x", b"") * 2001 + end(), "multipart/form-data; boundary=b", "more than 2000 parts"),
        (part("x", b"\r\n--bx" * 2001) + end(), "multipart/form-data; boundary=b", "more than 2000 parts"),
        (part("form-data; name*=utf-8''m", b"") + end(), "multipart/form-data; boundary=b", r"name\* is not allowed"),
        (part("form-data; name=a; name*0=model", b"") + end(), "multipart/form-data; boundary=b", r"name\* is not"),
        (field(b"m") + end(), "multipart/form-data; boundary*=utf-8''b; boundary=b", r"boundary\* is not allowed"),
        (part("form-data; name=model" + ";" * 200, b"m") + end(), "multipart/form-data; boundary=b", "more than 200 param"),
        (field(b"m") + end(), "multipart/form-data; boundary=b" + ";" * 200, "more than 200 parameters"),
        (field(b"m") + end(), "multipart/form-data; boundary=b; charset=utf-16", "its charset is neither"),
        (
            part('form-data; name="model"', b"m", "b", "Content-Type: text/plain; charset=utf-7") + end(),
            "multipart/form-data; boundary=b",
            "its charset is neither",
        ),
        (b'{"model":"m"}', "multipart/form-data; boundary=b", "not valid multipart"),
        (field(b"m") + end(), "multipart/form-data; boundary=other", "not valid multipart"),
        (b"--b\r\nno colon here\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", "not valid multipart"),
        (field(b"\xff") + end(), "multipart/form-data; boundary=b", "not UTF-8"),
        (field(b"x" * 20_000) + end(), "multipart/form-data; boundary=b", "longer than 16384 bytes"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: str, said: str) -> None:
    with pytest.raises(InvalidBody, match=said):
        model(body, content_type)


@pytest.mark.parametrize("value", [b"a\nb", b"x" * 5000])
def test_the_value_must_fit_a_header(value: bytes) -> None:
    with pytest.raises(InvalidModel, match="form field: the model's name"):
        model(field(value) + end())


class TestCut:
    @pytest.mark.parametrize("keep", [1, 5, 20, 60, len(WAV) - 3])
    def test_in_the_file_before_the_field(self, keep: int) -> None:
        """Unknown is not the same as missing: the field may still come."""
        request = parse(head(content_type="multipart/form-data; boundary=b"), WAV[:keep], complete=False)
        assert request.model is None
        assert request.unread == "the proxy sends only the beginning of the body"

    def test_in_the_file_after_the_field(self) -> None:
        request = parse(head(content_type="multipart/form-data; boundary=b"), field(b"m") + WAV[:60], complete=False)
        assert request.model == "m"
        assert request.unread is None

    def test_in_the_field(self) -> None:
        assert model(field(b"whisper")[:-4], complete=False) is None

    def test_anywhere(self) -> None:
        """The field counts from where its end is seen; a cut in the middle of a boundary is none."""
        body = WAV + field(b"whisper") + part('form-data; name="other"', b"x") + end()
        seen = len(WAV + field(b"whisper") + b"--b\r\n")
        for cut in range(len(body) + 1):
            assert model(body[:cut], complete=False) == ("whisper" if cut >= seen else None)


FILES = {
    "noise": random.Random(1).randbytes(5 * 2**20),
    "line breaks": b"\r\n" * (5 * 2**19),
    "nearly boundaries": b"\r\n--a-boundary-that-is-lon" * 200_000,
}
WORST = {
    "boundaries that are none": b"\r\n--bx" * 800_000,
    "a line of blanks": b"\r\n--b" + b" " * 5_000_000,
    "lines of blanks": (b"\r\n--b" + b" " * 2000) * 2000,
    "parts": b"\r\n--b\r\n\r\n" * 400_000,
    "parameters": b"\r\n--b\r\nContent-Disposition: model" + b";" * 8000 + b"\r\n\r\n",
    "quotes": b"\r\n--b\r\nContent-Disposition: model" + b';a="\\' * 2000 + b"\r\n\r\n",
    "a header without an end": b"\r\n--b\r\nX: " + b"x" * 5_000_000,
}


class TestCost:
    """One pass over 5 MB; a search that starts over at each byte would take minutes."""

    @pytest.mark.parametrize("file", FILES)
    def test_of_a_file_before_the_field(self, file: str) -> None:
        body = part(AUDIO, FILES[file], "a-boundary-that-is-long") + field(b"whisper", "a-boundary-that-is-long")
        content_type = "multipart/form-data; boundary=a-boundary-that-is-long"
        whole = body + end("a-boundary-that-is-long")
        assert model(whole, content_type) == "whisper"
        assert costs_less(lambda: model(whole, content_type), 3.0)

    @pytest.mark.parametrize("content", WORST)
    def test_of_the_worst(self, content: str) -> None:
        body = b"--b\r\n\r\n" + WORST[content] * max(1, min(1900, 4_000_000 // len(WORST[content]))) + b"\r\n" + end()

        def read() -> None:
            with suppress(InvalidBody):
                model(body)

        assert costs_less(read, 5.0)
