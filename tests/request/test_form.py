"""The field `model` of a form."""

from __future__ import annotations

import pytest

from extproc.errors import InvalidBody, InvalidModel
from extproc.request import parse
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


def test_utf_8() -> None:
    assert model(field("été".encode()) + end()) == "été"


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (field(b"m") + end(), "multipart/form-data", "without a boundary"),
        (field(b"m") + end(), "multipart/form-data; boundary=", "without a boundary"),
        (field(b"m"), "multipart/form-data; boundary=b", "no closing boundary"),
        (field(b"m") + b"--b\r\nContent-Disp", "multipart/form-data; boundary=b", "no closing boundary"),
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
