"""Header blocks: HPACK (RFC 7541) by the hpack library, and what RFC 9113 section 8 asks of a request's fields."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hpack.exceptions import OversizedHeaderListError

from extproc.transport.h2.frames import ConnectionFault, ErrorCode

_KEPT_BLOCKS: Final = 1024
_KEPT_BYTES: Final = 1024
"""Longest block that is kept."""
_UPDATE_MASK: Final = 0xE0
_SIZE_UPDATE: Final = 0x20
"""How a block begins that changes the table's size (RFC 7541 section 6.3)."""
_MANY_UPDATES: Final = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*+[\x00-\x7f]){17}")
"""More of them than anyone has a use for (two, section 4.2). Each costs a microsecond, and a block may be full of them."""
_PSEUDO: Final = frozenset({":method", ":scheme", ":authority", ":path"})
_CONNECTION_FIELDS: Final = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


_NAME: Final = re.compile(r"[!-9;-@\[-~]+")
"""What a field may be called (RFC 9113 section 8.2.1): visible ASCII without upper case and colons."""


class Fields:
    """A request's header fields. One object for all requests with the same block."""

    __slots__ = ("content_length", "fault", "note", "values")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.values: dict[str, str] = {}
        """Of a name that comes twice, all its values with commas (RFC 9110 section 5.3)."""
        self.content_length: int | None = None
        self.note: object = None
        """What the layer above made of the fields; kept with them."""
        self.fault = self._read(pairs)
        """Why this is no request, None when it is one."""

    def _read(self, pairs: Iterable[tuple[str, str]]) -> str | None:
        values = self.values
        regular = False
        for name, value in pairs:
            if name.startswith(":"):
                if regular:
                    return f"pseudo-header {name} after regular fields"
                if name not in _PSEUDO:
                    return f"pseudo-header {name[:32]!r} in a request"
                if name in values:
                    return f"pseudo-header {name} twice"
                values[name] = value
                continue
            regular = True
            why = _bad_field(name, value)
            if why is not None:
                return why
            values[name] = f"{values[name]}, {value}" if name in values else value
        for needed in (":method", ":scheme", ":path"):
            if not values.get(needed):
                return f"no {needed}"
        length = values.get("content-length")
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                return "content-length is no number"
            self.content_length = int(length)
        return None


def _bad_field(name: str, value: str) -> str | None:
    if _NAME.fullmatch(name) is None:
        if not name:
            return "a field without a name"
        return "a field name that is no token" if name == name.lower() else "a field name in upper case"
    if name in _CONNECTION_FIELDS:
        return f"field {name} of HTTP/1.1"
    if name == "te" and value != "trailers":
        return "field te other than trailers"
    if "\0" in value or "\r" in value or "\n" in value:
        return "control characters in a field's value"
    if value != value.strip(" \t"):
        return "a field's value with white space at an end"
    return None


def bad_trailers(pairs: Iterable[tuple[str, str]]) -> str | None:
    """Why these can't be trailers, None when they can."""
    for name, value in pairs:
        if name.startswith(":"):
            return "pseudo-header in trailers"
        why = _bad_field(name, value)
        if why is not None:
            return why
    return None


class OpenBlock:
    """A header block that goes on in CONTINUATION frames."""

    __slots__ = ("data", "ended", "frames", "itself", "stream_id")

    def __init__(self, stream_id: int, ended: bool, itself: bool, data: bytearray) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.itself = itself
        self.data = data
        self.frames = 0


class KnownBlocks:
    """Blocks whose meaning is known. One for a server: without a dynamic table, the same bytes are the same fields on every
    connection."""

    def __init__(self) -> None:
        self.fields: dict[bytes, Fields] = {}

    def keep(self, block: bytes, fields: Fields) -> None:
        if len(block) > _KEPT_BYTES:
            return
        if len(self.fields) >= _KEPT_BLOCKS:  # clients with fields of their own in each request
            self.fields.clear()
        self.fields[block] = fields

    def __len__(self) -> int:
        return len(self.fields)


class HeaderReader:
    """Blocks of one connection to fields.

    We announce a dynamic table of size 0. Until the peer has acknowledged that and emptied its table, blocks have a state and
    are decoded each; after it they have none, and the ones that come again are looked up. A peer that acknowledges and goes on
    with its table (RFC 7541 section 4.2 forbids that) is served all the same, only slower.
    """

    def __init__(self, max_list_bytes: int, known: KnownBlocks) -> None:
        self._decoder = Decoder(max_header_list_size=max_list_bytes)
        self._known = known
        self._acknowledged = False
        self._stateless = False

    def acknowledged(self) -> None:
        """The peer knows that our table has size 0."""
        self._acknowledged = True

    def request(self, block: bytes) -> Fields:
        """The fields of a request. Raises ConnectionFault when the block is broken or too large."""
        if self._stateless:
            found = self._known.fields.get(block)
            if found is not None:
                return found
        fields = Fields(self.decode(block))
        if self._stateless:
            self._known.keep(block, fields)
        return fields

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """Names and values as they came, latin-1. Raises ConnectionFault."""
        decoder = self._decoder
        if block[:1] and block[0] & _UPDATE_MASK == _SIZE_UPDATE:
            if _MANY_UPDATES.match(block):
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "bad_header_block", "header block of table size updates")
            if self._acknowledged and not self._stateless:
                decoder.max_allowed_table_size = 0  # what it can say now is 0, and so it is for good
                self._stateless = True
        try:
            pairs = decoder.decode(block, raw=True)
            return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in pairs]
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large", str(error)) from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "bad_header_block", "header block can't be decoded") from error


_encoder: Final = Encoder()


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """A block that uses and changes no dynamic table, so that it can be kept and sent to anyone."""
    return bytes(_encoder.encode([NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False))
