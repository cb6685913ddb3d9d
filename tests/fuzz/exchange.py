"""One ext_proc exchange as messages: as Envoy sends them, in any mode and cut anywhere, and now and then as it never would."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from extproc.protocol import CHUNK_BYTES
from tests.fakes import messages
from tests.fuzz.source import Source

PATTERN: Final = bytes(range(256)) * 520
"""Body bytes at whose place it shows when one is lost; JSON it is not."""

_SIZES: Final = (0, 1, 2, 7, 40, 100, 101, 500, 1000, 4095, 4096, 16_383, 16_384, 20_000, CHUNK_BYTES, CHUNK_BYTES + 1)
_JSON: Final = (
    *(b'{"model":"m"', b',"a":1', b',"model":"n"', b',"messages":[{"content":"', b'hello"}]', b"}", b"{", b'"model"', b":"),
    *(b'"m"', b" ", b'{"model":"m","x":"' + b"y" * 100 + b'"}', b'{"model":"unknown"}', b"[", b"\\", b'"', b"//"),
)
_PATHS: Final = (b"/v1/chat/completions", b"/v1/models/m:predict", b"/v2/models/m/infer", b"/x")
_TYPES: Final = (b"application/json", b"application/json; charset=utf-8", b"multipart/form-data; boundary=b", b"text/plain")
_STATUSES: Final = (b"200", b"404", b"503", b"20", b"")
_ANSWERS: Final = (b"application/json", b"text/event-stream", b"text/plain")
_SERVED: Final = ("", "", "10.0.0.1:8000", "10.0.0.9:8000")
_ANSWER_WORDS: Final = (
    *(b'{"model":"s"', b'{"model":', b'"s"', b'data: {"model":"s"}\n\n', b"\n\n", b'"usage":{"prompt_tokens":1}', b"}"),
    *(b'"mod', b'el":"s"', b"data: [DONE]\n\n", b"\\"),
)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def body_message(tag: int, body: bytes, *, end: bool) -> bytes:
    """ProcessingRequest.request_body (0x22) or response_body (0x2A)."""
    inner = (b"\x0a" + _varint(len(body)) + body if body else b"") + (b"\x10\x01" if end else b"")
    return bytes((tag,)) + _varint(len(inner)) + inner


_request_headers = lru_cache(maxsize=4096)(
    lambda path, kind, end, modes, early, subset: messages.request_headers(
        {":method": b"POST", ":path": path, "content-type": kind}, end=end, modes=modes, early=early, subset=subset
    )
)
_response_headers = lru_cache(maxsize=4096)(
    lambda status, kind, end, served: messages.response_headers(status, end=end, served=served, headers={"content-type": kind})
)
_REQUEST_TRAILERS: Final = messages.request_trailers()
_RESPONSE_TRAILERS: Final = messages.response_trailers()


def _bodies(source: Source, tag: int, words: tuple[bytes, ...]) -> list[bytes]:
    """Pieces of a body: words of what is read in it, or bytes that only have to come out again."""
    ends = source.below(4)  # 0 and 1: with the body; 2: with trailers; 3: not at all
    as_words = source.chance(2)
    made = []
    for number in range(source.below(6)):
        if as_words:
            piece = b"".join(source.pick(words) for _ in range(source.below(5)))
        else:
            piece = PATTERN[number : number + source.pick(_SIZES)]
        made.append(body_message(tag, piece, end=False))
    if ends < 2:
        piece = source.pick(words) if as_words else b""
        made.append(body_message(tag, piece, end=True))
        if source.chance(8):
            made.append(body_message(tag, b"", end=True))  # Envoy issue 46237
    elif ends == 2:
        made.append(_REQUEST_TRAILERS if tag == 0x22 else _RESPONSE_TRAILERS)
    return made


def exchange(
    source: Source, mode: Callable[[Source], int] = lambda source: source.pick((4, 4, 4, 4, 1, 2, 3, 0))
) -> list[bytes]:
    """The messages of one stream."""
    modes = None if source.chance(8) else (mode(source), mode(source))
    ends = source.chance(10)
    subset = source.pick((None, None, None, None, ("10.0.0.1:8000",), (), "10.0.0.2:8000,10.0.0.3:8000"))
    path, kind = source.pick(_PATHS) if source.chance(3) else _PATHS[0], source.pick(_TYPES) if source.chance(3) else _TYPES[0]
    request = [_request_headers(path, kind, ends, modes, source.chance(4), subset)]
    if not ends:
        request += _bodies(source, 0x22, _JSON)
    answer_ends = source.chance(10)
    answer = [_response_headers(source.pick(_STATUSES), source.pick(_ANSWERS), answer_ends, source.pick(_SERVED))]
    if not answer_ends:
        answer += _bodies(source, 0x2A, _ANSWER_WORDS)
    if source.chance(4):  # an answer that begins before the request has ended
        at = 1 + source.below(len(request))
        made = request[:at]
        late = request[at:]
        while answer or late:
            made.append((answer if answer and (not late or source.chance(2)) else late).pop(0))
    else:
        made = request + answer
    _disturb(source, made)
    return made


def _disturb(source: Source, made: list[bytes]) -> None:
    """What Envoy would not do, seldom."""
    kind = source.below(16)
    at = source.below(len(made))
    if kind == 15:
        del made[at]
    elif kind == 14:
        made.insert(at, made[at])
    elif kind == 13:
        other = source.below(len(made))
        made[at], made[other] = made[other], made[at]
    elif kind == 12 and made[at]:
        changed = bytearray(made[at])
        changed[source.number(2) % min(len(changed), 60)] = source.below(256)
        made[at] = bytes(changed)
    elif kind == 11:
        made.insert(at, source.piece(12))
    elif kind == 10:
        del made[at:]
