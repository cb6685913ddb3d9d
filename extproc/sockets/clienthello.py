"""What a TLS client offers, read from the first bytes it sends. Pure.

Python's ssl does not tell a server what a client offered for ALPN, only what was agreed on: and with nothing in common it
agrees on nothing and goes on, as with a client that knows no ALPN.
"""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 1 << 14
"""A ClientHello has 200 to 2,000 bytes. One that is larger is not read, and offers nothing."""

_RECORD_HEADER: Final = 5
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16


def offered_protocols(sent: bytes) -> tuple[bytes, ...] | None:
    """The ALPN protocol names of a ClientHello, empty when it has none; None when `sent` ends before it does.

    `sent` is everything that the client has sent so far, records and all (RFC 8446, 4.1.2 and 5.1; RFC 7301, 3.1). Bytes that
    are no ClientHello offer nothing: it is OpenSSL's to say what is wrong with them.
    """
    message = _first_message(sent)
    if message is None:
        return None if len(sent) <= MAX_BYTES else ()
    try:
        return _protocols(message)
    except IndexError:
        return ()


def _first_message(sent: bytes) -> bytes | None:
    """The body of the ClientHello, put together from its records; b"" if it is something else, None if more is to come."""
    message = bytearray()
    at = 0
    while True:
        if sent[at : at + 1] not in (b"", bytes([_HANDSHAKE_RECORD])):
            return b""
        if len(sent) < at + _RECORD_HEADER:
            return None
        size = int.from_bytes(sent[at + 3 : at + 5])
        message += sent[at + _RECORD_HEADER : at + _RECORD_HEADER + size]
        at += _RECORD_HEADER + size
        if message and message[0] != _CLIENT_HELLO:
            return b""
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return bytes(message[4 : 4 + int.from_bytes(message[1:4])])
        if at > len(sent):
            return None


def _protocols(message: bytes) -> tuple[bytes, ...]:
    """Raises IndexError where the message is not what it should be."""
    at = 2 + 32  # version, random
    at += 1 + message[at]  # session id
    at += 2 + _uint16(message, at)  # cipher suites
    at += 1 + message[at]  # compression methods
    end = at + 2 + _uint16(message, at) if at < len(message) else at
    at += 2
    while at < end:
        kind, size = _uint16(message, at), _uint16(message, at + 2)
        if kind == _ALPN:
            return _names(message[at + 4 : at + 4 + size])
        at += 4 + size
    return ()


def _names(extension: bytes) -> tuple[bytes, ...]:
    names = []
    at, end = 2, 2 + _uint16(extension, 0)
    while at < end:
        names.append(extension[at + 1 : at + 1 + extension[at]])
        at += 1 + extension[at]
    return tuple(names)


def _uint16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
