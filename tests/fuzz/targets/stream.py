"""The ext_proc stream through a session: any messages, well formed or not.

Envoy's rules hold, no byte of a body is lost, and what was decided is finished exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc.domain import NO_MUTATION, Decision, HeaderMutation, Lease, Reply
from extproc.errors import ExtProcError, InternalError, NoEndpoints, ProtocolError
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import (
    CHUNK_BYTES,
    EVERY_REQUEST,
    Action,
    BodyMode,
    Decide,
    Direction,
    Event,
    ExtProcStream,
    OnHeaders,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    StreamLimits,
)
from extproc.protocol.table import REQUEST_ROWS, RESPONSE_EVENTS, RESPONSE_ROWS, State
from extproc.request import UPGRADE_MARKS, is_upgrade, scanner_of
from extproc.response import AnswerReader
from extproc.transport import codec
from extproc.transport.codec import Encoder, Message, joined
from extproc.transport.session import Session
from extproc.transport.waiting import Timer
from tests.fakes.decider import FakeDecider
from tests.fuzz.exchange import exchange
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_ROWS: Final[set[tuple[State, type, State]]] = set()
_ENCODER: Final = Encoder()
_FDS: Final = BodyMode.FULL_DUPLEX_STREAMED
_MARKER: Final = HeaderMutation(set_headers=(("x-marker", "true"),))
_SET: Final = (("X-Gateway-Model-Name", "m"), ("x-gateway-destination-endpoint", "10.0.0.1:8000"))
_LIMITS: Final = tuple(
    StreamLimits(most, hold, ProtocolConfig(fallback, _FDS), marker, scanner_of=scan, on_headers=on_headers)
    for most in (64 * 2**20, 150)
    for hold in (512 * 2**10, 90)
    for fallback in (_FDS, BodyMode.BUFFERED)
    for marker in (NO_MUTATION, _MARKER)
    for scan in (None, scanner_of)
    for on_headers in (None, OnHeaders(is_upgrade, UPGRADE_MARKS), EVERY_REQUEST)
)


def _outcome(source: Source) -> Decision | Reply | ExtProcError:
    kind = source.below(10)
    if kind == 9:
        return Reply(200, b"ours")
    if kind == 8:
        return NoEndpoints("none")
    reader = AnswerReader(restore_model=("s", "client")) if kind == 7 else None
    lease = Lease() if kind == 6 else None
    return Decision(_SET, (), (("k", "v"),), "ticket", "10.0.0.1:8000", reader, lease=lease)


class _Account:
    """What went in and what came out of one stream."""

    def __init__(self) -> None:
        self.sent = {Direction.REQUEST: bytearray(), Direction.RESPONSE: bytearray()}
        self.echoed = {Direction.REQUEST: bytearray(), Direction.RESPONSE: bytearray()}
        self.ended = {Direction.REQUEST: False, Direction.RESPONSE: False}
        self.over = {Direction.REQUEST: False, Direction.RESPONSE: False}
        self.echoed_end = {Direction.REQUEST: 0, Direction.RESPONSE: 0}
        self.kinds: list[str] = []
        self.immediate = False

    def send(self, raw: bytes) -> None:
        """Count a message that was taken. After a body's end nothing more of it is passed on."""
        event = codec.decode(raw)
        if isinstance(event, RequestBody | ResponseBody):
            direction = Direction.REQUEST if isinstance(event, RequestBody) else Direction.RESPONSE
            if not self.over[direction]:
                self.sent[direction] += event.body
                self.ended[direction] = self.over[direction] = event.end_of_stream
        elif isinstance(event, RequestTrailers | RequestHeaders):
            self.over[Direction.REQUEST] |= isinstance(event, RequestTrailers) or event.end_of_stream
        elif isinstance(event, ResponseTrailers | ResponseHeaders):
            self.over[Direction.RESPONSE] |= isinstance(event, ResponseTrailers) or event.end_of_stream

    def hear(self, answer: Message) -> None:
        """Read an answer as Envoy does."""
        assert not self.immediate, "an answer after the last word"
        message = pb.ProcessingResponse.FromString(joined(answer))
        kind = message.WhichOneof("response") or ""
        assert kind
        self.kinds.append(kind)
        if kind == "immediate_response":
            self.immediate = True
        elif kind in ("request_body", "response_body"):
            mutation = getattr(message, kind).response.body_mutation
            if mutation.HasField("streamed_response"):
                direction = Direction.REQUEST if kind == "request_body" else Direction.RESPONSE
                piece = mutation.streamed_response
                assert len(piece.body) <= CHUNK_BYTES
                assert not self.echoed_end[direction], "a piece after the end"
                self.echoed[direction] += piece.body
                self.echoed_end[direction] += piece.end_of_stream

    def check(self, session: Session, *, broken: bool, reads: bool) -> None:
        """Envoy's rules over the whole stream."""
        stream = session._stream
        for half in ("request", "response"):
            ranks = [
                ("headers", "body", "trailers").index(kind[len(half) + 1 :]) for kind in self.kinds if kind.startswith(half)
            ]
            assert ranks == sorted(ranks), self.kinds
            assert ranks.count(0) <= 1
        for direction, mode in (
            (Direction.REQUEST, stream._config.request_body),
            (Direction.RESPONSE, stream._config.response_body),
        ):
            sent, echoed = self.sent[direction], self.echoed[direction]
            if mode is not _FDS:
                assert not echoed
                continue
            if direction is Direction.RESPONSE and reads:
                continue  # what a reader changes is another target's
            assert sent.startswith(echoed), "bytes that were not sent"
            decided = stream.request_state in (State.PASSING, State.WATCHING) or direction is Direction.RESPONSE
            if decided and not broken and not self.immediate:
                assert echoed == sent, "bytes are lost"
                assert self.echoed_end[direction] == self.ended[direction]


class _Recorded(ExtProcStream):
    """Marks the rows of the table that are followed."""

    __slots__ = ()

    def receive(self, event: Event) -> list[Action]:
        before = self.request_state, self.response_state
        actions = super().receive(event)
        half = event.__class__ in RESPONSE_EVENTS
        row = before[half], event.__class__, (self.request_state, self.response_state)[half]
        if row not in _ROWS:
            _ROWS.add(row)
            _MARKS.add(_row(*row))
        return actions


def _row(state: State, event: type, to: State) -> str:
    return f"row {state.name} {event.__name__} {to.name}"


class _Carrier:
    """Hears what a session says outside of any read; nothing comes late, and no time passes."""

    def __init__(self, session: Session, account: _Account) -> None:
        self._session = session
        self._account = account

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        raise AssertionError("nobody waits here")

    def ask(self) -> bool:
        return False

    def resume(self, outcome: object) -> None:
        for answer in self._session.resume(outcome):
            self._account.hear(answer)


class _LateSession(Session):
    """Whose decisions come later: when `decide` is said."""

    __slots__ = ("_question",)

    def __init__(self, decider: FakeDecider, limits: StreamLimits) -> None:
        super().__init__(decider, _ENCODER, limits)
        self._question: Decide | None = None

    def _perform(self, actions: list[Action], out: list[Message]) -> list[Message]:
        for action in actions:
            if isinstance(action, Decide):
                assert self._question is None
                self._question = action
        return super()._perform([action for action in actions if not isinstance(action, Decide)], out)

    def decide(self) -> list[Message]:
        question, self._question = self._question, None
        made = None if question is None else self._decide(question)
        return [] if made is None else self._perform(self._stream.receive(made), [])


def run(data: bytes) -> None:
    source = Source(data)
    limits = _LIMITS[source.below(len(_LIMITS))]
    outcome = _outcome(source)
    decider = FakeDecider(outcome)
    late = _LateSession(decider, limits) if source.chance(4) else None
    session = late or Session(decider, _ENCODER, limits, waits=source.chance(2))
    stream = session._stream = _Recorded(limits)
    expires = source.below(12) if source.chance(8) else 99
    closes = source.below(12) if source.chance(8) else 99
    account = _Account()
    lease = outcome.lease if isinstance(outcome, Decision) else None
    evicted = 99
    if lease is not None:
        evicted = source.below(12)
        session.carrier = _Carrier(session, account)
    broken = False
    for number, raw in enumerate(exchange(source)):
        if number == closes:
            break
        if number == expires:
            for answer in session.expire():
                account.hear(answer)
                assert account.immediate
        if number == evicted and lease is not None and lease.revoke is not None:
            seen = account.immediate or any(kind.startswith("response") for kind in account.kinds)
            told = lease.revoke(1)
            assert not (told and seen), "an answer that has begun is taken back"
            assert account.immediate or not told
        try:
            answers = session.receive(raw)
            account.send(raw)
        except ProtocolError:
            broken = True
            break
        if late is not None and source.chance(3):
            answers += late.decide()
        for answer in answers:
            account.hear(answer)
        _MARKS.add(f"{stream.request_state.name} {stream.response_state.name}")
        assert stream._held_bytes <= limits.max_body_bytes
        assert sum(map(len, stream._parts)) <= limits.max_body_bytes
    if late is not None and source.chance(2) and not broken:
        for answer in late.decide():
            account.hear(answer)
    reads = isinstance(outcome, Decision) and outcome.reader is not None
    if session._held is None:
        account.check(session, broken=broken, reads=reads)
    session.closed()
    if late is not None:
        assert late.decide() == []  # given back
    session.closed()
    assert session.expire() == []
    assert not session.may_leave or stream.request_state is State.CLOSED
    _accounts(decider, outcome)
    assert stream._parts == [] or stream.request_state is not State.CLOSED
    _MARKS.add(f"{stream._config.request_body.name} {stream._config.response_body.name} {sorted(set(account.kinds))} {broken}")


def _accounts(decider: FakeDecider, outcome: Decision | Reply | ExtProcError) -> None:
    assert len(decider.asked) <= 1
    assert all(isinstance(question, Decide) for question in decider.asked)
    made = len(decider.asked) if isinstance(outcome, Decision) else 0
    assert len(decider.ended) == made
    assert len(decider.answers) <= made
    assert not any(isinstance(error, InternalError) for error in decider.errors)


TARGET: Final = Target(
    run,
    seeds=[
        bytes(
            [
                limits,
                outcome,
                0,
                0,
                0,
                mode,
                mode2,
                0,
                early,
                0,
                0,
                0,
                ends,
                words,
                3,
                4,
                5,
                6,
                7,
                8,
                0,
                0,
                0,
                0,
                1,
                3,
                9,
                9,
                9,
                9,
            ]
        )
        for limits, outcome, mode, mode2, early, ends, words in (
            *(
                (0, 0, 0, 0, 0, 0, 0),
                (1, 0, 0, 0, 0, 0, 1),
                (1, 0, 0, 0, 3, 2, 1),
                (31, 7, 0, 0, 0, 1, 1),
                (8, 9, 4, 4, 0, 0, 0),
            ),
            *(
                (16, 8, 5, 5, 0, 1, 0),
                (3, 0, 6, 6, 0, 2, 1),
                (0, 0, 7, 7, 0, 0, 0),
                (9, 7, 0, 4, 3, 2, 1),
                (5, 9, 0, 0, 0, 2, 0),
            ),
        )
    ],
    marks=_MARKS,
    wanted=frozenset(_row(row.state, row.event, row.to) for row in REQUEST_ROWS + RESPONSE_ROWS),
    modules=["extproc.transport.session", "extproc.protocol.stream", "extproc.protocol.early", "extproc.protocol.pieces"],
)
