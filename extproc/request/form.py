"""The `model` field of a `multipart/form-data` body (RFC 7578), as audio transcription sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


from extproc.errors import InvalidBody

_MAX_FIELD_BYTES: Final = 16 * 1024


def model_of_form(content_type: bytes, body: bytes, *, complete: bool) -> str | None:
    """The value of the last field called `model`, None when there is none.

    `complete` False allows a body that is cut anywhere. Raises InvalidBody when the body is no form.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidBody("multipart/form-data without a boundary in content-type")
    reader = _ModelField()
    try:
        parser = MultipartParser(boundary, callbacks=reader.callbacks())
        parser.write(body)
        if complete:
            parser.finalize()
    except FormParserError as error:
        if complete:
            raise InvalidBody("request body is not valid multipart/form-data") from error
    if complete and not reader.ended:
        raise InvalidBody("request body is not valid multipart/form-data: it has no closing boundary")
    if reader.model is None:
        return None
    if len(reader.model) > _MAX_FIELD_BYTES:
        raise InvalidBody(f"form field 'model' is longer than {_MAX_FIELD_BYTES} bytes")
    try:
        return reader.model.decode()
    except UnicodeDecodeError as error:
        raise InvalidBody("form field 'model' is not UTF-8") from error


class _ModelField:
    """Follows the parser's callbacks and keeps the bytes of the field `model` only."""

    def __init__(self) -> None:
        self.model: bytes | None = None
        self.ended = False
        self._name = b""
        self._value = b""
        self._part: bytearray | None = None
        self._is_model = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._is_model = False
        self._part = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._is_model = options.get(b"name") == b"model" and b"filename" not in options
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self._part = bytearray() if self._is_model else None

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None and len(self._part) <= _MAX_FIELD_BYTES:
            self._part += data[start:end]

    def _part_end(self) -> None:
        if self._part is not None:
            self.model = bytes(self._part)

    def _end(self) -> None:
        self.ended = True
