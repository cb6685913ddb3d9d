"""The table of a stream's states: complete, and what the connection does."""

from __future__ import annotations

from itertools import product

import pytest

from extproc.transport.h2.frames import ErrorCode, Kind
from extproc.transport.h2.table import ON_DATA, ON_HEADERS, ON_RST_STREAM, ON_WINDOW_UPDATE, ROWS, Do, Row, State, mermaid
from tests.fakes.http2 import block, data, headers, rst, window
from tests.fakes.wire import Wire

FRAMES = (Kind.HEADERS, Kind.DATA, Kind.RST_STREAM, Kind.WINDOW_UPDATE)
SEND = {
    Kind.HEADERS: headers(3, block([("x", "y")]), end=True),
    Kind.DATA: data(3, b"x"),
    Kind.RST_STREAM: rst(3),
    Kind.WINDOW_UPDATE: window(3, 1),
}


def test_every_state_says_what_every_frame_does() -> None:
    assert len({(row.state, row.frame) for row in ROWS}) == len(ROWS)
    assert {(row.state, row.frame) for row in ROWS} == set(product(State, FRAMES))
    for rows in (ON_DATA, ON_HEADERS, ON_RST_STREAM, ON_WINDOW_UPDATE):
        assert set(rows) == set(State)


def test_faults_have_a_code_and_nothing_else_has() -> None:
    for row in ROWS:
        assert (row.code is not ErrorCode.NO_ERROR) == (row.do in (Do.STREAM_FAULT, Do.CONNECTION_FAULT)), row


def test_a_stream_fault_ends_in_reset_and_a_connection_fault_changes_no_stream() -> None:
    for row in ROWS:
        if row.do is Do.STREAM_FAULT:
            assert row.to is State.RESET
        elif row.do in (Do.CONNECTION_FAULT, Do.IGNORE):
            assert row.to is row.state


def test_the_diagram_has_an_arrow_for_each_row() -> None:
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len([line for line in lines if "-->" in line]) == len(ROWS) + 1
    assert "    OPEN --> CLOSED: RST_STREAM / end" in lines
    assert "    CLOSED --> RESET: DATA / reset the stream STREAM_CLOSED" in lines


def stream_in(state: State) -> Wire:
    """A connection whose stream 3 is in this state."""
    wire = Wire()
    if state in (State.IDLE, State.FORGOTTEN):
        wire.open(1) if state is State.IDLE else wire.open(5)
        return wire
    (stream,) = wire.open(3)
    if state in (State.HALF_CLOSED_REMOTE, State.CLOSED):
        wire.send(data(3, end=True))
    if state is State.CLOSED:
        wire.connection.outbox.end(stream, b"")
    if state is State.RESET:
        wire.connection.reset(stream, ErrorCode.CANCEL)
    assert stream.state is state
    wire.sent()
    return wire


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state.name}-{row.frame.name}")
def test_a_row_is_what_happens(row: Row) -> None:
    wire = stream_in(row.state)
    frame = headers(3) if row.do is Do.OPEN else SEND[row.frame]
    heard = wire.send(frame)
    told = wire.sent()
    if row.do is Do.CONNECTION_FAULT:
        assert heard == [f"ended {row.code.name} bad_stream_state"]
        assert told[-1].endswith(row.code.name)
        return
    if row.do is Do.STREAM_FAULT:
        assert told == [f"RST_STREAM 3 {row.code.name}"]
        open_before = row.state in (State.OPEN, State.HALF_CLOSED_REMOTE)
        assert heard == ([f"reset 3 {row.code.name} bad_stream_state by us"] if open_before else [])
    elif row.do is Do.IGNORE:
        assert (heard, told) == ([], [])
    else:
        assert told == []
        assert len(heard) == (row.do is not Do.WINDOW)
    after = wire.connection.streams.get(3)
    assert (after.state if after is not None else wire.connection._book.state_of(3)) is row.to
