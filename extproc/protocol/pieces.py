"""Pieces of body on their way through: cut to what Envoy takes, and shown to whoever reads the response."""

from __future__ import annotations

from typing import Final

from extproc.domain import EMPTY_DECISION, BodyPath, Decision, ResponseReader
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


def without(changes: Decision | None, names: tuple[str, ...]) -> Decision | None:
    """The changes to a response's headers, with these removed too."""
    if not names:
        return changes
    changes = changes or EMPTY_DECISION
    return changes._replace(remove_headers=(*changes.remove_headers, *names))


def read_piece(reader: ResponseReader, event: ResponseBody, mode: BodyMode) -> list[Action]:
    """Show the piece to the reader; what goes on instead."""
    piece = bytes(event.body)
    body = reader.body(piece, event.end_of_stream)
    if mode is not BodyMode.FULL_DUPLEX_STREAMED:
        return [ReplyBody(Direction.RESPONSE, replaced=None if body is piece else body)]
    if body or event.end_of_stream:
        return chunks(Direction.RESPONSE, body, ends=event.end_of_stream)
    return []
