"""What a received frame does to a stream: RFC 9113 section 5.1 for a server, as one table.

A row says: a stream in this state that gets this frame does this, and is then in that state. A frame without a row on a stream
is a fault. `docs/architecture.md` draws its diagram from these rows.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from extproc.transport.h2.frames import ErrorCode, Kind


class State(Enum):
    """Where a stream stands. HALF_CLOSED_LOCAL is missing: what we end before the peer does, we reset."""

    IDLE = "not yet opened"
    OPEN = "both sides may send"
    HALF_CLOSED_REMOTE = "the peer has sent all"
    CLOSED = "ended, by both or by the peer's reset"
    RESET = "ended by our reset: what the peer sent before it knew is dropped"
    FORGOTTEN = "ended long ago, or skipped by the peer"


class Do(Enum):
    """What happens."""

    OPEN = "open"
    TRAILERS = "read trailers"
    DATA = "read data"
    RESET = "end"
    WINDOW = "widen the send window"
    IGNORE = "ignore"
    STREAM_FAULT = "reset the stream"
    CONNECTION_FAULT = "end the connection"


class Row(NamedTuple):
    """One transition; `code` is the error's when it is a fault."""

    state: State
    frame: Kind
    do: Do
    to: State
    code: ErrorCode = ErrorCode.NO_ERROR


_S, _K, _D, _E = State, Kind, Do, ErrorCode

ROWS: tuple[Row, ...] = (
    Row(_S.IDLE, _K.HEADERS, _D.OPEN, _S.OPEN),
    Row(_S.IDLE, _K.DATA, _D.CONNECTION_FAULT, _S.IDLE, _E.PROTOCOL_ERROR),
    Row(_S.IDLE, _K.RST_STREAM, _D.CONNECTION_FAULT, _S.IDLE, _E.PROTOCOL_ERROR),
    Row(_S.IDLE, _K.WINDOW_UPDATE, _D.CONNECTION_FAULT, _S.IDLE, _E.PROTOCOL_ERROR),
    # END_STREAM on a frame takes a stream from OPEN to HALF_CLOSED_REMOTE once the frame has been read.
    Row(_S.OPEN, _K.HEADERS, _D.TRAILERS, _S.HALF_CLOSED_REMOTE),
    Row(_S.OPEN, _K.DATA, _D.DATA, _S.OPEN),
    Row(_S.OPEN, _K.RST_STREAM, _D.RESET, _S.CLOSED),
    Row(_S.OPEN, _K.WINDOW_UPDATE, _D.WINDOW, _S.OPEN),
    Row(_S.HALF_CLOSED_REMOTE, _K.HEADERS, _D.STREAM_FAULT, _S.RESET, _E.STREAM_CLOSED),
    Row(_S.HALF_CLOSED_REMOTE, _K.DATA, _D.STREAM_FAULT, _S.RESET, _E.STREAM_CLOSED),
    Row(_S.HALF_CLOSED_REMOTE, _K.RST_STREAM, _D.RESET, _S.CLOSED),
    Row(_S.HALF_CLOSED_REMOTE, _K.WINDOW_UPDATE, _D.WINDOW, _S.HALF_CLOSED_REMOTE),
    Row(_S.CLOSED, _K.HEADERS, _D.CONNECTION_FAULT, _S.CLOSED, _E.STREAM_CLOSED),
    Row(_S.CLOSED, _K.DATA, _D.STREAM_FAULT, _S.RESET, _E.STREAM_CLOSED),
    Row(_S.CLOSED, _K.RST_STREAM, _D.IGNORE, _S.CLOSED),
    Row(_S.CLOSED, _K.WINDOW_UPDATE, _D.IGNORE, _S.CLOSED),
    Row(_S.RESET, _K.HEADERS, _D.IGNORE, _S.RESET),
    Row(_S.RESET, _K.DATA, _D.IGNORE, _S.RESET),
    Row(_S.RESET, _K.RST_STREAM, _D.IGNORE, _S.RESET),
    Row(_S.RESET, _K.WINDOW_UPDATE, _D.IGNORE, _S.RESET),
    Row(_S.FORGOTTEN, _K.HEADERS, _D.CONNECTION_FAULT, _S.FORGOTTEN, _E.PROTOCOL_ERROR),
    Row(_S.FORGOTTEN, _K.DATA, _D.STREAM_FAULT, _S.RESET, _E.STREAM_CLOSED),
    Row(_S.FORGOTTEN, _K.RST_STREAM, _D.IGNORE, _S.FORGOTTEN),
    Row(_S.FORGOTTEN, _K.WINDOW_UPDATE, _D.IGNORE, _S.FORGOTTEN),
)

ON_DATA: dict[State, Row] = {row.state: row for row in ROWS if row.frame is Kind.DATA}
ON_HEADERS: dict[State, Row] = {row.state: row for row in ROWS if row.frame is Kind.HEADERS}
ON_RST_STREAM: dict[State, Row] = {row.state: row for row in ROWS if row.frame is Kind.RST_STREAM}
ON_WINDOW_UPDATE: dict[State, Row] = {row.state: row for row in ROWS if row.frame is Kind.WINDOW_UPDATE}


def mermaid() -> str:
    """The rows as a Mermaid state diagram, one arrow for each."""
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    for row in ROWS:
        code = f" {row.code.name}" if row.code else ""
        lines.append(f"    {row.state.name} --> {row.to.name}: {row.frame.name} / {row.do.value}{code}")
    return "\n".join(lines)
