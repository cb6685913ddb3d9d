"""Server-Sent Events and the usage in them: what is read does not depend on the cuts, and what is kept is bounded."""

from __future__ import annotations

from typing import Final

from extproc.response.sse import EventStream, ServerSentEvent
from extproc.response.usage import WHOLE_BYTES, DocumentUsage, StreamUsage
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_USAGE: Final = b'"usage":{"prompt_tokens":7,"completion_tokens":5}'
_WORDS: Final = (
    *(b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r"),
    *(b"data: ", b"data:", b"data", b"event: e", b"event:", b"id: 1", b"retry: 1", b":", b" ", b"\xef\xbb\xbf"),
    *(b"{", b"}", b"[DONE]", _USAGE, b'"usage":', b'"usage"', b'"usage": null', b'{"response":{', b'{"message":{'),
    *(b'"input_tokens":3,"output_tokens":4', b"x" * 60, b'\\"usage\\":{', b"[" * 40, b'{"a":"', b"\xff", b"\0"),
)


def _text(source: Source) -> bytes:
    """Words of the format, or anything."""
    if source.chance(6):
        return source.rest()
    out: list[bytes] = []
    while source.left and len(out) < 200:
        number = source.below(len(_WORDS) + 4)
        out.append(_WORDS[number] if number < len(_WORDS) else source.piece(8))
    return b"".join(out)


def _by_the_specification(stream: bytes) -> list[tuple[ServerSentEvent, int]]:
    """HTML section 9.2.6, line by line; each event with the bytes of its lines."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events = []
    kind: bytes = b""
    lines: list[bytes] | None = None
    size = 0
    for line in text.split(b"\n")[:-1]:
        if not line:
            if lines is not None:
                events.append((ServerSentEvent(kind or b"message", b"\n".join(lines)), size))
            kind, lines, size = b"", None, 0
            continue
        size += len(line) + 1
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines = [*(lines or []), value]
        elif name == b"event":
            kind = value
    return events


def _events(source: Source) -> None:
    bound = source.pick((1 << 20, 1 << 20, 30, 1))
    wanted = source.pick((b"", b"", b'"usage"'))
    cuts = Source(source.piece(16))
    text = _text(source)
    stream = EventStream(bound)
    found = []
    for piece in cuts.cut(text, 8):
        found += stream.feed(piece, wanted)
        held = sum(map(len, stream._parts))
        assert held <= bound
        assert len(stream._parts) <= held
    sent = _by_the_specification(text)
    if wanted:
        # What it may pass over is what does not hold the word, and nothing is made up.
        found = [event for event in found if wanted in event.data]
        sent = [(event, size) for event, size in sent if wanted in event.data]
    expected = [event for event, _ in sent]
    if stream.skipped or stream._skipping:
        # Only events that are too long are passed over; a mark and an empty line may count towards their length.
        rest = iter(expected)
        assert all(event in rest for event in found), "an event that was not sent"
        came = iter(found)
        assert all(event in came for event, size in sent if size + 6 <= bound), "an event that is short enough"
    else:
        assert found == expected
    _MARKS.add(
        f"events {min(len(found), 5)} skipped {min(stream.skipped, 3)} wanted {wanted != b''} {len(expected) - len(found)}"
    )


def _usage(source: Source) -> None:
    """Cut and whole give the same usage."""
    kind = DocumentUsage if source.chance(2) else StreamUsage
    filler = source.pick((0, 0, 0, 0, 0, 0, 0, WHOLE_BYTES - 40, WHOLE_BYTES, 2 * WHOLE_BYTES))
    cuts = Source(source.piece(16))
    text = _text(source)
    if filler:
        place = source.number(2) % (len(text) + 1)
        text = text[:place] + b"x" * filler + text[place:]
    cut, whole = kind(), kind()
    for piece in cuts.cut(text, 8):
        cut.feed(piece)
        if isinstance(cut, DocumentUsage):
            assert len(cut._kept) <= 2 * WHOLE_BYTES
    cut.end()
    whole.feed(text)
    whole.end()
    assert cut.usage == whole.usage
    _MARKS.add(f"usage {kind.__name__} {filler} {whole.usage}")


def run(data: bytes) -> None:
    source = Source(data)
    if source.chance(3):
        _usage(source)
    else:
        _events(source)


def _program(*words: bytes) -> bytes:
    return bytes([0, *[_WORDS.index(word) for word in words]])


TARGET: Final = Target(
    run,
    seeds=[
        bytes([0, 0, 0, 4, 3, 0, 9, 1]) + _program(b"data: ", b"{", _USAGE, b"}", b"\n\n", b"data: ", b"[DONE]", b"\n\n"),
        bytes([0, 2, 2, 4, 5, 0, 9, 1]) + _program(b"event: e", b"\r\n", b"data:", _USAGE, b"\r\n", b"data", b"\r", b"\r\n"),
        bytes([2, 1, 0, 4, 3, 0, 9, 1]) + _program(b"data: ", b"{", _USAGE, b"}", b"\n\n", b"data: ", b"[DONE]", b"\n\n"),
        bytes([2, 0, 8, 4, 3, 0, 9, 1]) + _program(b"{", _USAGE, b"}"),
        bytes([2, 0, 9, 4, 3, 0, 9, 1]) + _program(b"{", _USAGE, b"}"),
        bytes([0, 2, 0, 2, 8, 8]) + _program(*_WORDS),
        bytes([0, 0, 0, 1, 8, 5]) + b'\xef\xbb\xbfdata: {"usage": 1}\r\n\r\ndata\n: c\ndata: x\n\n',
    ],
    marks=_MARKS,
    modules=["extproc.response.sse", "extproc.response.usage"],
    tokens=_WORDS,
)
