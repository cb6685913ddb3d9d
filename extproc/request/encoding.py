"""Content codings of a request body, undone within bounds so that its model can be read.

Names and order are RFC 9110's (section 8.4.1: `gzip, br` was gzip first), window sizes RFC 9659's. The body itself goes on
as it came: what is made here is read and thrown away.

A small body may hold a large one, so each coding has two bounds: a size, and a multiple of what came in. The bounds are
checked while the output is made; a body that breaks them costs no more than one that keeps them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import brotli
import zstandard

from extproc.errors import BodyTooLarge, InvalidBody

MAX_INFLATED_BYTES: Final = 16 * 2**20
"""Four times a million tokens of text, and less than 100 ms for any of the decoders."""
MAX_RATIO: Final = 100
"""Envoy's `max_inflate_ratio`. Prompts come to between 2 and 10."""
ANY_RATIO_BYTES: Final = 2**20
"""Up to here the ratio does not count: a prompt that repeats itself may be made of nearly nothing."""
MAX_CODINGS: Final = 2
MAX_FRAMES: Final = 1000
"""Members of gzip (RFC 1952, section 2.2), frames of zstd (RFC 8878, section 3): each costs, and may hold nothing."""

_WINDOW_BYTES: Final = 8 * 2**20
_STEP: Final = 64 * 2**10
_ZSTD_STEP: Final = 512
"""A zstd block is at least 4 bytes and makes at most 128 KiB: so a step makes at most 16 MiB, which is looked at then."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


class _Decoder(Protocol):
    """What zlib's and zstd's decoders have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""
        ...

    def decompress(self, data: memoryview | bytes, most: int, /) -> bytes: ...


class _Brotli:
    """brotli has no input after the end: more is an error."""

    unused_data = b""

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        finished: bool = self._decoder.is_finished()
        return finished

    def decompress(self, data: memoryview | bytes, most: int, /) -> bytes:
        made: bytes = self._decoder.process(data, output_buffer_limit=most)
        return made


class _Zstd:
    """zstd's decoder knows no bound: the caller's steps are one."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: memoryview | bytes, most: int, /) -> bytes:
        return self._decoder.decompress(data)


class _Coding(NamedTuple):
    name: str
    decoder: Callable[[int], _Decoder]
    """Takes the first two bytes, as a number."""
    step: int = _STEP
    """Bytes given to the decoder at once."""
    frames: int = 1
    """Most that may follow each other."""


def _deflate(begin: int) -> _Decoder:
    """A zlib stream, as RFC 9110 says, or a bare one, as some clients send.

    The zlib header (RFC 1950) is method 8 and a multiple of 31; a bare stream would have to begin with a stored block that
    has something in its padding.
    """
    is_zlib = begin >> 8 & 15 == 8 and begin % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)


_GZIP: Final = _Coding("gzip", lambda _: zlib.decompressobj(_GZIP_WINDOW), frames=MAX_FRAMES)
_CODINGS: Final = {
    b"gzip": _GZIP,
    b"x-gzip": _GZIP,
    b"deflate": _Coding("deflate", _deflate),
    b"br": _Coding("br", lambda _: _Brotli()),
    b"zstd": _Coding("zstd", lambda _: _Zstd(), step=_ZSTD_STEP, frames=MAX_FRAMES),
}


def codings_of(header: bytes) -> tuple[bytes, ...] | None:
    """The codings of a content-encoding header in the order they were applied, for `inflate`.

    Empty for `identity`, None when one is unknown or there are more than MAX_CODINGS.
    """
    codings = []
    for part in header.split(b","):
        name = part.strip().lower()
        if name in _CODINGS:
            codings.append(name)
        elif name and name != b"identity":
            return None
    return tuple(codings) if len(codings) <= MAX_CODINGS else None


def inflate(body: bytes, codings: tuple[bytes, ...], *, complete: bool = True, max_bytes: int = MAX_INFLATED_BYTES) -> bytes:
    """`body` with its codings undone. `complete` False: it is cut somewhere, and goes as far as it goes.

    Raises InvalidBody when it is not what its codings say, and BodyTooLarge when it has more than `max_bytes` bytes, or
    more than MAX_RATIO times its size, after any of them.
    """
    most = min(max_bytes, max(ANY_RATIO_BYTES, MAX_RATIO * len(body)))
    for name in reversed(codings):
        coding = _CODINGS[name]
        try:
            inflated = _undo(coding, body, complete, most)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            if "too much memory" in str(error):
                raise InvalidBody(f"request body is zstd with a window of more than {_WINDOW_BYTES} bytes") from error
            raise InvalidBody(f"request body is not valid {coding.name}, which its content-encoding says") from error
        if inflated is None:
            raise _too_large(coding.name, most, max_bytes)
        body = inflated
    return body


def _undo(coding: _Coding, body: bytes, complete: bool, most: int) -> bytes | None:
    """None when more than `most` bytes come out."""
    begin = int.from_bytes(body[:2], "big")
    decoder = coding.decoder(begin)
    view = memoryview(body)
    made: list[bytes] = []
    room = most + 1
    frames = 1
    for at in range(0, len(body), coding.step):
        piece: memoryview | bytes = view[at : at + coding.step]
        while piece:
            if decoder.eof:
                frames += 1
                if frames > coding.frames:
                    many = f"more than {coding.frames} frames of" if coding.frames > 1 else "bytes after the end of its"
                    raise InvalidBody(f"request body has {many} {coding.name} data")
                decoder = coding.decoder(begin)
            data = decoder.decompress(piece, room)
            room -= len(data)
            if room <= 0:
                return None
            made.append(data)
            piece = decoder.unused_data
    if complete and not decoder.eof:
        raise InvalidBody(f"request body ends before its {coding.name} data does")
    return made[0] if len(made) == 1 else b"".join(made)


def _too_large(coding: str, most: int, max_bytes: int) -> BodyTooLarge:
    if most == max_bytes:
        return BodyTooLarge(f"request body, inflated from {coding}, is larger than the limit of {max_bytes} bytes")
    return BodyTooLarge(
        f"request body, inflated from {coding}, is larger than {most} bytes, and the limit is {MAX_RATIO} times its size"
    )
