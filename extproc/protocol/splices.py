"""A body that goes on changed: cut for Envoy, copied no more than needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extproc.domain import Splice, segments
from extproc.protocol.actions import Action, ReplyBody, ReplyChunk
from extproc.protocol.events import Bytes, Direction
from extproc.protocol.pieces import CHUNK_BYTES


def changed_replies(body: bytes, splices: Sequence[Splice], pieces: Sequence[Bytes] | None, *, ends: bool) -> list[Action]:
    """The body's replies. `pieces` as it came, when each has its own answer; None in full duplex, where it is cut anew and
    what holds no change is a view of the body.
    """
    if pieces is not None:
        return [ReplyBody(Direction.REQUEST, None, new) for new in changed_pieces(pieces, splices)]
    cut = list(_cut(segments(body, splices)))
    last = len(cut) - 1
    return [ReplyChunk(Direction.REQUEST, piece, ends and at == last) for at, piece in enumerate(cut)]


def changed_pieces(pieces: Sequence[Bytes], splices: Sequence[Splice]) -> list[bytes | None]:
    """For each piece of the body what goes on instead, None where it stays. A change stands where it begins."""
    out: list[bytes | None] = []
    first, begin_of_piece = 0, 0
    for piece in pieces:
        end_of_piece = begin_of_piece + len(piece)
        parts: list[Bytes] = []
        at = begin_of_piece
        while first < len(splices) and splices[first].begin < end_of_piece:
            begin, end, data = splices[first]
            if begin >= begin_of_piece:
                parts += (piece[at - begin_of_piece : begin - begin_of_piece], data)
            at = min(end, end_of_piece)
            if end > end_of_piece:
                break  # the rest of it is in the next piece
            first += 1
        if at > begin_of_piece or parts:
            parts.append(piece[at - begin_of_piece :])
        out.append(b"".join(parts) if parts else None)
        begin_of_piece = end_of_piece
    return out


def _cut(segments: Iterator[Bytes]) -> Iterator[Bytes]:
    """In pieces of CHUNK_BYTES, the last with what is left; at least one."""
    parts: list[Bytes] = []
    room = CHUNK_BYTES
    for segment in segments:
        at, size = 0, len(segment)
        while at < size:
            if not room:
                yield parts[0] if len(parts) == 1 else b"".join(parts)
                parts, room = [], CHUNK_BYTES
            part = segment if size <= room and not at else segment[at : at + room]
            parts.append(part)
            room -= len(part)
            at += len(part)
    yield parts[0] if len(parts) == 1 else b"".join(parts)
