"""The state machine of an ext_proc stream, as one table; a new transition is a new row.

The two halves of an exchange have a state each. A row says: in this state, on this event, when this holds (rows are tried in
order, '' always holds), do this, and go to that state. An event without a row breaks the protocol. Conditions only look; what
has to be done before they can (`BEFORE`) stands beside the rows. `docs/architecture.md` draws its diagram from these rows.

Rules that the rows keep (Envoy `ext_proc` filter, 1.30 to 1.40):
- replies come in the order headers, body, trailers, and one reply of each kind at most, but for body pieces;
- in FULL_DUPLEX_STREAMED Envoy keeps no copy of the body, so what is not echoed is lost; no body reply may be sent before a
  piece of body came, and only the headers' reply can change headers;
- in the buffered modes the headers are answered at once, or Envoy waits forever, and the changes ride on the body's reply;
- when trailers exist, no piece of body says end_of_stream;
- in full duplex Envoy sets no timer for the request, so a client that stops sending is ours to end (`Deadline`);
- an ImmediateResponse is taken at any time: Envoy answers the client with it, or resets what is under way;
- after the end of a body some versions send another, empty end: it is dropped (Envoy issue 46237).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from extproc.protocol import events as e
from extproc.protocol.actions import Actions


class State(Enum):
    """Where one half of a stream stands. The value is what the state waits for."""

    # request half
    START = "request headers"
    COLLECTING = "the body, with the headers held back"
    SCANNING = "the model, with the headers held back"
    BUFFERING = "the body that Envoy buffers, with the headers answered"
    DECIDING = "the director"
    WATCHING = "the end, while the body goes on and is watched"
    PASSING = "nothing: what still comes goes on unchanged"
    ANSWERED = "nothing: we answered the client ourselves"
    CLOSED = "nothing: the stream is over"
    # response half
    RESPONSE_START = "response headers"
    RESPONSE_HELD = "the first piece of the response, with its headers held back"
    RESPONSE_BODY = "the response's body or trailers"
    RESPONSE_DONE = "nothing: the response is over"

    __hash__ = object.__hash__  # members are single; Enum's own is written in Python


class Row(NamedTuple):
    """One transition. `when` and `do` name methods of ExtProcStream, without their leading underscore."""

    state: State
    event: type
    when: str
    do: str
    to: State


_S = State

REQUEST_ROWS: tuple[Row, ...] = (
    Row(_S.START, e.RequestHeaders, "body_is_not_seen", "decide_on_headers", _S.DECIDING),
    Row(_S.START, e.RequestHeaders, "body_is_buffered", "answer_headers", _S.BUFFERING),
    Row(_S.START, e.RequestHeaders, "body_can_be_scanned", "hold_headers", _S.SCANNING),
    Row(_S.START, e.RequestHeaders, "", "hold_headers", _S.COLLECTING),
    Row(_S.START, e.Deadline, "", "time_out", _S.ANSWERED),
    Row(_S.START, e.GivenUp, "", "refuse", _S.ANSWERED),
    Row(_S.START, e.PeerClosed, "", "finish", _S.CLOSED),
    Row(_S.COLLECTING, e.RequestBody, "body_is_too_large", "refuse_body", _S.ANSWERED),
    Row(_S.COLLECTING, e.RequestBody, "body_is_enough", "decide_on_body", _S.DECIDING),
    Row(_S.COLLECTING, e.RequestBody, "", "collect", _S.COLLECTING),
    Row(_S.COLLECTING, e.RequestTrailers, "", "decide_at_trailers", _S.DECIDING),
    Row(_S.COLLECTING, e.Deadline, "", "time_out", _S.ANSWERED),
    Row(_S.COLLECTING, e.GivenUp, "", "refuse", _S.ANSWERED),
    Row(_S.COLLECTING, e.PeerClosed, "", "finish", _S.CLOSED),
    # Early mode. A body that ends before it was decided on is known whole, so it is decided on whole.
    Row(_S.SCANNING, e.RequestBody, "body_is_too_large", "refuse_body", _S.ANSWERED),
    Row(_S.SCANNING, e.RequestBody, "ends", "decide_on_body", _S.DECIDING),
    Row(_S.SCANNING, e.RequestBody, "model_is_known", "decide_on_body", _S.DECIDING),
    Row(_S.SCANNING, e.RequestBody, "model_may_still_come", "collect", _S.SCANNING),
    Row(_S.SCANNING, e.RequestBody, "", "collect_whole", _S.COLLECTING),
    Row(_S.SCANNING, e.RequestTrailers, "", "decide_at_trailers", _S.DECIDING),
    Row(_S.SCANNING, e.Deadline, "", "time_out", _S.ANSWERED),
    Row(_S.SCANNING, e.GivenUp, "", "refuse", _S.ANSWERED),
    Row(_S.SCANNING, e.PeerClosed, "", "finish", _S.CLOSED),
    Row(_S.BUFFERING, e.RequestBody, "body_is_too_large", "refuse_body", _S.ANSWERED),
    Row(_S.BUFFERING, e.RequestBody, "", "decide_on_body", _S.DECIDING),
    Row(_S.BUFFERING, e.RequestTrailers, "", "pass_trailers", _S.PASSING),
    Row(_S.BUFFERING, e.Deadline, "", "time_out", _S.ANSWERED),
    Row(_S.BUFFERING, e.GivenUp, "", "refuse", _S.ANSWERED),
    Row(_S.BUFFERING, e.PeerClosed, "", "finish", _S.CLOSED),
    Row(_S.DECIDING, e.DecisionMade, "answer_is_ours", "answer", _S.ANSWERED),
    Row(_S.DECIDING, e.DecisionMade, "body_goes_on", "go_on", _S.WATCHING),
    Row(_S.DECIDING, e.DecisionMade, "", "go_on", _S.PASSING),
    Row(_S.DECIDING, e.DecisionFailed, "", "fail", _S.ANSWERED),
    # The decision takes its time. What comes meanwhile waits; who does not want it any more withdraws the question.
    Row(_S.DECIDING, e.RequestBody, "body_is_too_large", "withdraw_and_refuse_body", _S.ANSWERED),
    Row(_S.DECIDING, e.RequestBody, "", "defer", _S.DECIDING),
    Row(_S.DECIDING, e.RequestTrailers, "", "defer", _S.DECIDING),
    Row(_S.DECIDING, e.Deadline, "", "withdraw_and_give_up", _S.ANSWERED),
    Row(_S.DECIDING, e.GivenUp, "", "withdraw_and_refuse", _S.ANSWERED),
    Row(_S.DECIDING, e.PeerClosed, "", "withdraw", _S.CLOSED),
    Row(_S.WATCHING, e.RequestBody, "body_may_not_pass", "stop_body", _S.ANSWERED),
    Row(_S.WATCHING, e.RequestBody, "ends", "pass_body", _S.PASSING),
    Row(_S.WATCHING, e.RequestBody, "", "pass_body", _S.WATCHING),
    Row(_S.WATCHING, e.RequestTrailers, "", "pass_trailers", _S.PASSING),
    Row(_S.WATCHING, e.Deadline, "", "drop", _S.WATCHING),
    Row(_S.WATCHING, e.GivenUp, "", "drop", _S.WATCHING),
    Row(_S.WATCHING, e.Silence, "answer_has_not_begun", "end_silence", _S.ANSWERED),
    Row(_S.WATCHING, e.Silence, "", "drop", _S.WATCHING),
    # A request in flight is taken back for a more important one, while its client can still be told.
    Row(_S.WATCHING, e.Evicted, "answer_has_not_begun", "evict", _S.ANSWERED),
    Row(_S.WATCHING, e.Evicted, "", "drop", _S.WATCHING),
    Row(_S.WATCHING, e.PeerClosed, "", "finish", _S.CLOSED),
    Row(_S.PASSING, e.RequestBody, "request_has_ended", "drop", _S.PASSING),
    Row(_S.PASSING, e.RequestBody, "", "pass_body", _S.PASSING),
    Row(_S.PASSING, e.RequestTrailers, "", "pass_trailers", _S.PASSING),
    Row(_S.PASSING, e.Deadline, "", "drop", _S.PASSING),
    Row(_S.PASSING, e.GivenUp, "", "drop", _S.PASSING),
    Row(_S.PASSING, e.Silence, "answer_has_not_begun", "end_silence", _S.ANSWERED),
    Row(_S.PASSING, e.Silence, "", "drop", _S.PASSING),
    Row(_S.PASSING, e.Evicted, "answer_has_not_begun", "evict", _S.ANSWERED),
    Row(_S.PASSING, e.Evicted, "", "drop", _S.PASSING),
    Row(_S.PASSING, e.PeerClosed, "", "finish", _S.CLOSED),
    Row(_S.ANSWERED, e.RequestBody, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.RequestTrailers, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.Deadline, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.GivenUp, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.Silence, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.Evicted, "", "drop", _S.ANSWERED),
    Row(_S.ANSWERED, e.PeerClosed, "", "finish", _S.CLOSED),
    # What is decided although the question was withdrawn is given back, not lost.
    Row(_S.ANSWERED, e.DecisionMade, "", "give_back", _S.ANSWERED),
    Row(_S.ANSWERED, e.DecisionFailed, "", "drop", _S.ANSWERED),
    Row(_S.CLOSED, e.DecisionMade, "", "give_back", _S.CLOSED),
    Row(_S.CLOSED, e.DecisionFailed, "", "drop", _S.CLOSED),
    Row(_S.CLOSED, e.Deadline, "", "drop", _S.CLOSED),
    Row(_S.CLOSED, e.GivenUp, "", "drop", _S.CLOSED),
    Row(_S.CLOSED, e.Silence, "", "drop", _S.CLOSED),
    Row(_S.CLOSED, e.Evicted, "", "drop", _S.CLOSED),
    Row(_S.CLOSED, e.PeerClosed, "", "drop", _S.CLOSED),
)

RESPONSE_ROWS: tuple[Row, ...] = (
    Row(_S.RESPONSE_START, e.ResponseHeaders, "ends", "end_response_headers", _S.RESPONSE_DONE),
    # An answer that has only headers may still be cut, and then somebody else is asked: nobody has seen anything of it yet.
    Row(_S.RESPONSE_START, e.ResponseHeaders, "answer_may_still_fail", "hold_response_headers", _S.RESPONSE_HELD),
    Row(_S.RESPONSE_START, e.ResponseHeaders, "", "pass_response_headers", _S.RESPONSE_BODY),
    Row(_S.RESPONSE_START, e.ResponseBody, "ends", "end_response_body", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_START, e.ResponseBody, "", "pass_response_body", _S.RESPONSE_BODY),
    Row(_S.RESPONSE_START, e.ResponseTrailers, "", "end_response_trailers", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_HELD, e.ResponseBody, "ends", "end_held_response", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_HELD, e.ResponseBody, "", "pass_held_response", _S.RESPONSE_BODY),
    Row(_S.RESPONSE_HELD, e.ResponseTrailers, "", "end_held_response_at_trailers", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_BODY, e.ResponseBody, "ends", "end_response_body", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_BODY, e.ResponseBody, "", "pass_response_body", _S.RESPONSE_BODY),
    Row(_S.RESPONSE_BODY, e.ResponseTrailers, "", "end_response_trailers", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_DONE, e.ResponseBody, "", "drop", _S.RESPONSE_DONE),
    Row(_S.RESPONSE_DONE, e.ResponseTrailers, "", "end_response_trailers", _S.RESPONSE_DONE),
)

BEFORE: Final[Mapping[tuple[State, type], str]] = {
    (_S.START, e.RequestHeaders): "begin",
    (_S.SCANNING, e.RequestBody): "scan",
    (_S.WATCHING, e.RequestBody): "look_at",
    (_S.RESPONSE_START, e.ResponseHeaders): "learn_modes",
    (_S.RESPONSE_START, e.ResponseBody): "learn_modes",
    (_S.RESPONSE_START, e.ResponseTrailers): "learn_modes",
}
"""What is done with an event in a state before its rows are tried: a method of ExtProcStream, as in `Row.do`."""

REQUEST_EVENTS = frozenset(row.event for row in REQUEST_ROWS)
RESPONSE_EVENTS = frozenset(row.event for row in RESPONSE_ROWS)


Rule: TypeAlias = "tuple[Callable[[Any, Any], bool] | None, Callable[[Any, Any], Actions], State, Rules]"
"""A row with functions for names: when, do, to, and the rules of the state that it leads to."""
Rules: TypeAlias = "dict[type, tuple[Callable[[Any, Any], None] | None, tuple[Rule, ...]]]"
"""By event: what is done first, and the rules to try."""


def rules_of(stream: type, rows: Sequence[Row]) -> dict[State, Rules]:
    """The rows by state and event, with the methods of `stream`. Following one hashes no State, which costs a Python call."""
    rules: dict[State, Rules] = {state: {} for row in rows for state in (row.state, row.to)}
    for row in rows:
        when = getattr(stream, f"_{row.when}") if row.when else None
        do = getattr(stream, f"_{row.do}")
        of_state = rules[row.state]
        before = BEFORE.get((row.state, row.event))
        first = getattr(stream, f"_{before}") if before else None
        tried = of_state[row.event][1] if row.event in of_state else ()
        of_state[row.event] = (first, (*tried, (when, do, row.to, rules[row.to])))
    return rules


def mermaid(rows: tuple[Row, ...]) -> str:
    """The rows as a Mermaid state diagram, one arrow for each row."""

    def words(name: str) -> str:
        return name.replace("_", " ")

    lines = ["stateDiagram-v2", f"    [*] --> {rows[0].state.name}"]
    for row in rows:
        when = f" [{words(row.when)}]" if row.when else ""
        lines.append(f"    {row.state.name} --> {row.to.name}: {row.event.__name__}{when} / {words(row.do)}")
    states = {row.state for row in rows}
    for (state, event), do in BEFORE.items():
        if state in states:
            lines.append(f"    note right of {state.name}: {event.__name__}, first {words(do)}")
    return "\n".join(lines)
