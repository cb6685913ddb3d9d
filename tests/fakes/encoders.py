"""Content codings from the client's side."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from typing import Final

import brotli
import zstandard


def _bare(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(body) + deflate.flush()


def _brotli(body: bytes) -> bytes:
    made: bytes = brotli.compress(body, quality=5)
    return made


def _streamed_zstd(body: bytes) -> bytes:
    """Without the size in the frame's header, as who does not know it."""
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress(body) + made.flush()


SKIPPABLE: Final = b"\x50\x2a\x4d\x18\x05\x00\x00\x00never"
"""A zstd frame that holds nothing for the reader (RFC 8878, section 3.1.2)."""

ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": _brotli,
    "zstd": zstandard.ZstdCompressor().compress,
}
VARIANTS: Final[Mapping[str, tuple[str, Callable[[bytes], bytes]]]] = {
    **{name: (name, encoder) for name, encoder in ENCODERS.items()},
    "bare deflate": ("deflate", _bare),
    "streamed zstd": ("zstd", _streamed_zstd),
    "gzip in members": ("gzip", lambda body: b"".join(gzip.compress(body[at : at + 50]) for at in range(0, len(body), 50))),
    "zstd in frames": ("zstd", lambda body: _streamed_zstd(body[:20]) + SKIPPABLE + _streamed_zstd(body[20:])),
}
"""Every way to say the same: the name in the header, and the encoder."""


def encode(body: bytes, encoding: str) -> bytes:
    """The body in the codings of a content-encoding header."""
    for name in encoding.replace(" ", "").split(","):
        body = ENCODERS[name](body)
    return body
