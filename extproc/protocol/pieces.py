"""Pieces of body on their way through: cut to what Envoy takes, and shown to whoever reads the response."""

from __future__ import annotations

from typing import Final

from extproc.domain import BodyPath, HeaderMutation, ResponseReader
from extproc.protocol.actions import Action, ReplyBody, ReplyChunk
from extproc.protocol.events import BodyMode, Direction, ResponseBody, ResponseHeaders

CHUNK_BYTES: Final = 62_000
"""Most bytes in one `streamed_response`: Envoy refuses messages over 64 KiB in full duplex (GIE issue 2056)."""


def chunks(direction: Direction, body: bytes | memoryview, *, ends: bool) -> list[Action]:
    """`body` in pieces of at most CHUNK_BYTES, at least one; only the last carries the end."""
    size = len(body)
    if size <= CHUNK_BYTES:
        return [ReplyChunk(direction, body, ends)]
    view = memoryview(body)
    return [
        ReplyChunk(direction, view[at : at + CHUNK_BYTES], ends and at + CHUNK_BYTES >= size)
        for at in range(0, size, CHUNK_BYTES)
    ]


def path_of(event: ResponseHeaders, mode: BodyMode) -> BodyPath:
    """How the body of this response will come by."""
    if event.end_of_stream:
        return BodyPath.EMPTY
    if mode is BodyMode.NONE:
        return BodyPath.UNSEEN
    return BodyPath.FREE if mode is BodyMode.FULL_DUPLEX_STREAMED else BodyPath.PIECEWISE


def both(first: HeaderMutation, then: HeaderMutation) -> HeaderMutation:
    """What the two do, one after the other; of a name that both set, the later value counts."""
    if not (first[0] or first[1] or first[2]):
        return then
    if not (then[0] or then[1] or then[2]):
        return first
    gone = {name.lower() for name in then.remove_headers}
    again = gone.union([name.lower() for name, _ in then.set_headers])
    return HeaderMutation(
        (*first.remove_headers, *then.remove_headers),
        (*[each for each in first.set_headers if each[0].lower() not in again], *then.set_headers),
        (*[each for each in first.append_headers if each[0].lower() not in again], *then.append_headers),
    )


def read_piece(reader: ResponseReader, event: ResponseBody, mode: BodyMode) -> list[Action]:
    """Show the piece to the reader; what goes on instead."""
    piece = bytes(event.body)
    body = reader.body(piece, event.end_of_stream)
    if mode is not BodyMode.FULL_DUPLEX_STREAMED:
        return [ReplyBody(Direction.RESPONSE, replaced=None if body is piece else body)]
    if body or event.end_of_stream:
        return chunks(Direction.RESPONSE, body, ends=event.end_of_stream)
    return []
