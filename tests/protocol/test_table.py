"""The table against the stream: what happens is a row, and every row happens."""

from __future__ import annotations

from collections import deque

import pytest

from extproc.domain import Decision, Lease, Reply
from extproc.errors import ProtocolError, UnknownModel
from extproc.protocol import BodyMode, Event, ExtProcStream, StreamLimits
from extproc.protocol.table import REQUEST_EVENTS, REQUEST_ROWS, RESPONSE_EVENTS, RESPONSE_ROWS, Row, State, mermaid
from tests.fakes.events import (
    CLOSED,
    DEADLINE,
    EARLY,
    EVICTED,
    FDS,
    GIVEN_UP,
    RESPONSE_TRAILERS,
    SILENCE,
    TRAILERS,
    body,
    config,
    failed,
    headers,
    made,
    response,
    response_body,
)

KNOWN = {(row.state, row.event, row.to) for row in REQUEST_ROWS + RESPONSE_ROWS}
EVENTS: tuple[Event, ...] = (
    headers(),
    headers(end=True),
    body(b"x"),
    body(b"x", end=True),
    body(b"far too large"),
    body(b"known!"),
    body(b"no#"),
    TRAILERS,
    made(),
    made(Reply(200, b"")),
    made(Decision(falls_back=True)),
    made(Decision(patience_s=1.0)),
    made(Decision(lease=Lease())),
    failed(UnknownModel("no such model")),
    response(),
    response(end=True),
    response_body(b"x"),
    response_body(b"x", end=True),
    RESPONSE_TRAILERS,
    DEADLINE,
    GIVEN_UP,
    SILENCE,
    EVICTED,
    CLOSED,
)


def replay(limits: StreamLimits, path: tuple[Event, ...]) -> ExtProcStream:
    stream = ExtProcStream(limits)
    for event in path:
        stream.receive(event)
    return stream


def transitions(limits: StreamLimits) -> set[tuple[State, type, State]]:
    """Every transition that any five events can make."""
    seen: set[tuple[State, type, State]] = set()
    visited = set()
    paths: deque[tuple[Event, ...]] = deque([()])
    while paths:
        path = paths.popleft()
        for event in EVENTS:
            stream = replay(limits, path)
            is_response = type(event) in RESPONSE_EVENTS
            before = stream.response_state if is_response else stream.request_state
            over = stream.request_state in (State.ANSWERED, State.CLOSED)
            try:
                stream.receive(event)
            except ProtocolError:
                continue
            after = stream.response_state if is_response else stream.request_state
            is_row = (before, type(event), after) in KNOWN
            if is_row or not over:  # after the end, what has no row is dropped
                seen.add((before, type(event), after))
            place = (stream.request_state, stream.response_state, repr(stream))
            if len(path) < 4 and place not in visited:
                visited.add(place)
                paths.append((*path, event))
    return seen


def test_what_happens_is_a_row_and_every_row_happens() -> None:
    modes = [StreamLimits(8, fallback=config(mode, mode, early=True)) for mode in BodyMode]
    early = StreamLimits(8, fallback=config(FDS, FDS), scanner_of=EARLY.scanner_of)
    seen = set().union(*(transitions(limits) for limits in [*modes, early]))
    assert seen == KNOWN


@pytest.mark.parametrize("rows", [REQUEST_ROWS, RESPONSE_ROWS], ids=["request", "response"])
class TestRows:
    def test_no_row_hides_another(self, rows: tuple[Row, ...]) -> None:
        """A row without a condition is the last for its state and event, and no row is there twice."""
        closed: set[tuple[State, type]] = set()
        for row in rows:
            assert (row.state, row.event) not in closed, row
            if not row.when:
                closed.add((row.state, row.event))
        assert len({(row.state, row.event, row.when) for row in rows}) == len(rows)

    def test_every_state_is_reached(self, rows: tuple[Row, ...]) -> None:
        assert {row.state for row in rows} == {rows[0].state, *(row.to for row in rows)}

    def test_states_of_the_two_halves_do_not_mix(self, rows: tuple[Row, ...]) -> None:
        assert len({state.name.startswith("RESPONSE_") for row in rows for state in (row.state, row.to)}) == 1

    def test_the_diagram_has_an_arrow_for_each_row(self, rows: tuple[Row, ...]) -> None:
        lines = mermaid(rows).splitlines()
        assert lines[0] == "stateDiagram-v2"
        assert len([line for line in lines if "-->" in line]) == len(rows) + 1


def test_the_halves_share_no_event() -> None:
    assert not REQUEST_EVENTS & RESPONSE_EVENTS


def test_an_arrow_of_the_diagram() -> None:
    assert "    DECIDING --> PASSING: DecisionMade / go on" in mermaid(REQUEST_ROWS).splitlines()
