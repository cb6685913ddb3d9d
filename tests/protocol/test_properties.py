"""Any exchange that Envoy may hold with us, in any mode, cut anywhere: the replies keep Envoy's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import Decision, Lease, Reply
from extproc.errors import ConflictingModel, DecisionTimeout, ExtProcError, NoEndpoints, ProtocolError, RequestEvicted
from extproc.protocol import (
    CHUNK_BYTES,
    EVERY_REQUEST,
    Action,
    BodyMode,
    Deadline,
    Decide,
    DecisionFailed,
    DecisionMade,
    Direction,
    Event,
    Evicted,
    ExtProcStream,
    Finished,
    LetOnLease,
    PeerClosed,
    ReplyBody,
    ReplyChunk,
    ReplyImmediately,
    ReplyRequestHeaders,
    ReplyResponseHeaders,
    ReplyTrailers,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    StreamLimits,
)
from extproc.protocol.table import REQUEST_ROWS, RESPONSE_ROWS
from tests.fakes.events import BUFFERED, DECISION, FDS, HEAD, NONE, PARTIAL, STREAMED, config
from tests.fakes.fuzz import examples

Outcome: TypeAlias = Decision | Reply | ExtProcError

PATTERN = bytes(range(256)) * 600

sizes = st.one_of(
    st.just(0),
    st.integers(1, 40),
    st.sampled_from([CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1]),
)
# What keeps an exchange going is drawn more often: an answer of ours or a cut leaves less to look at.
OUTCOMES: tuple[Outcome, ...] = (*[DECISION] * 4, *[DECISION._replace(lease=Lease())] * 2, Reply(200, b""), NoEndpoints("none"))
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(range(8)).map(lambda index: OUTCOMES[index])
delays = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 3))
modes: st.SearchStrategy[BodyMode] = st.sampled_from((FDS, FDS, FDS, STREAMED, STREAMED, BUFFERED, PARTIAL, NONE))


class CountingScanner:
    """Knows after so many bytes, and can't go on after so many, if at all."""

    def __init__(self, known_at: int, error_at: int | None) -> None:
        self.known = False
        self._known_at = known_at
        self._error_at = error_at
        self._seen = 0

    def seal(self) -> None:
        self._error_at = 0

    def feed(self, piece: bytes | memoryview) -> ExtProcError | None:
        self._seen += len(piece)
        if self._error_at is not None and self._seen >= self._error_at:
            return ConflictingModel("two models")
        self.known = self._seen >= self._known_at
        return None


@dataclass
class Exchange:
    """One exchange as Envoy may hold it."""

    limits: StreamLimits
    request_mode: BodyMode
    response_mode: BodyMode
    events: list[Event]
    outcome: Outcome
    decide_after: int
    """Events that come before the decision does."""
    seen: set[tuple[object, type, object]] = field(default_factory=set)

    def run(self) -> tuple[list[Event], list[Action]]:
        """The events that were sent, the last of them PeerClosed, and what the stream did."""
        stream = ExtProcStream(self.limits)
        done: list[Action] = []
        sent: list[Event] = []
        wait: int | None = None
        for event in [*self.events, PeerClosed()]:
            if isinstance(event, Evicted) and not any(isinstance(action, LetOnLease) for action in done):
                continue  # nobody can say it
            actions = self._receive(stream, event)
            sent.append(event)
            done += actions
            if any(isinstance(action, Decide) for action in actions):
                wait = self.decide_after
            if wait == 0:
                done += self._receive(stream, self._decision())
            wait = None if wait is None else wait - 1
        if wait is not None and wait >= 0:
            done += self._receive(stream, self._decision())
        assert self._receive(stream, PeerClosed()) == []
        return sent, done

    def _decision(self) -> Event:
        return DecisionFailed(self.outcome) if isinstance(self.outcome, ExtProcError) else DecisionMade(self.outcome)

    def _receive(self, stream: ExtProcStream, event: Event) -> list[Action]:
        before = stream.request_state, stream.response_state
        actions = stream.receive(event)
        after = stream.request_state, stream.response_state
        for a, b in zip(before, after, strict=True):
            if a is not b:
                self.seen.add((a, type(event), b))
        return actions


def bodies(mode: BodyMode, *, trailers: bool) -> st.SearchStrategy[list[int]]:
    """Sizes of the body's pieces."""
    if mode is NONE:
        return st.just([])
    if mode in (BUFFERED, PARTIAL):
        return st.lists(sizes, min_size=0 if trailers else 1, max_size=1)
    return st.lists(sizes, min_size=0 if trailers else 1, max_size=6)


@st.composite
def halves(draw: st.DrawFn, mode: BodyMode, direction: Direction) -> list[Event]:
    """The messages of one direction, in order: its end is in the headers, in the body, or in the trailers."""
    is_request = direction is Direction.REQUEST
    end = draw(st.sampled_from(("headers", "body", "body", "trailers", "trailers")))
    repeats_end = draw(st.booleans())
    ends_there = end == "headers"
    head: Event = RequestHeaders(HEAD, ends_there) if is_request else ResponseHeaders(draw(st.integers(0, 599)), ends_there)
    events: list[Event] = [head]
    if ends_there:
        return events
    pieces = draw(bodies(mode, trailers=end == "trailers"))
    for index, size in enumerate(pieces):
        data = PATTERN[index : index + size]
        last = end == "body" and index == len(pieces) - 1
        events.append(RequestBody(data, last) if is_request else ResponseBody(data, last))
    if end == "trailers":
        events.append(RequestTrailers() if is_request else ResponseTrailers())
    elif pieces and repeats_end:  # Envoy issue 46237
        events.append(RequestBody(b"", True) if is_request else ResponseBody(b"", True))
    return events


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """Both halves, interleaved, possibly cut short."""
    request_mode, response_mode = draw(modes), draw(modes)
    told = config(request_mode, response_mode, early=draw(st.booleans()))
    request = draw(halves(request_mode, Direction.REQUEST))
    answer = draw(halves(response_mode, Direction.RESPONSE))
    if draw(st.booleans()):
        limits = StreamLimits(fallback=told, streamed_hold_bytes=draw(st.integers(1, 100)))
    else:
        assert isinstance(request[0], RequestHeaders)
        request[0] = RequestHeaders(request[0].head, request[0].end_of_stream, told)
        limits = StreamLimits(fallback=config(draw(modes), draw(modes)), streamed_hold_bytes=draw(st.integers(1, 100)))
    if draw(st.booleans()):
        known_at, error_at = draw(st.integers(0, 99)), draw(st.none() | st.integers(0, 150) | st.integers(0, 3 * CHUNK_BYTES))
        hold = draw(st.sampled_from((50, 1 << 20)))
        limits = limits._replace(scanner_of=lambda head: CountingScanner(known_at, error_at), streamed_hold_bytes=hold)
    if not draw(st.integers(0, 4)):
        limits = limits._replace(on_headers=EVERY_REQUEST)
    events = request[:1]
    request = request[1:]
    while request or answer:
        events.append((request if request and (not answer or draw(st.booleans())) else answer).pop(0))
    if draw(st.sampled_from((False, False, False, True))):
        events.insert(draw(st.integers(1, len(events))), Deadline())
    if draw(st.booleans()):
        events.insert(draw(st.integers(1, len(events))), Evicted(1))
    if draw(st.sampled_from((False, False, False, True))):
        events = events[: draw(st.integers(0, len(events)))]
    return Exchange(limits, request_mode, response_mode, events, draw(outcomes), draw(delays))


HEADS = (ReplyRequestHeaders, ReplyResponseHeaders)


def replies_of(done: list[Action], direction: Direction) -> list[Action]:
    kinds = (ReplyChunk, ReplyBody, ReplyTrailers)
    head = ReplyRequestHeaders if direction is Direction.REQUEST else ReplyResponseHeaders
    return [
        action for action in done if isinstance(action, head) or (isinstance(action, kinds) and action.direction is direction)
    ]


def replies_keep_the_order_headers_body_trailers(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    for direction in Direction:
        ranks = [
            0 if isinstance(reply, HEADS) else 2 if isinstance(reply, ReplyTrailers) else 1
            for reply in replies_of(done, direction)
        ]
        assert ranks == sorted(ranks)
        assert ranks.count(0) <= 1
        assert ranks.count(2) <= 1


def full_duplex_echoes_every_byte_and_one_end(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    for direction, mode, kind in (
        (Direction.REQUEST, exchange.request_mode, RequestBody),
        (Direction.RESPONSE, exchange.response_mode, ResponseBody),
    ):
        replies = replies_of(done, direction)
        chunks = [reply for reply in replies if isinstance(reply, ReplyChunk)]
        if mode is not FDS:
            assert chunks == []
            continue
        assert not any(isinstance(reply, ReplyBody) for reply in replies)
        assert all(len(chunk.body) <= CHUNK_BYTES for chunk in chunks)
        pieces = [event for event in sent if isinstance(event, kind)]
        ends = [chunk.end_of_stream for chunk in chunks]
        assert ends.count(True) <= 1
        assert True not in ends[:-1]
        echoed = b"".join(chunk.body for chunk in chunks)
        whole = b"".join(piece.body for piece in pieces)
        if chunks and not any(isinstance(action, ReplyImmediately) for action in done):
            assert echoed == whole
            assert ends[-1] == any(piece.end_of_stream for piece in pieces)
        else:
            assert whole.startswith(echoed)


def nothing_is_left_unanswered(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    """Once decided, each message has its reply: Envoy waits for one for each (but for pieces in full duplex)."""
    if any(isinstance(action, ReplyImmediately) for action in done) or not isinstance(exchange.outcome, Decision):
        return
    decided = any(isinstance(a, ReplyRequestHeaders | ReplyBody) and a.decision for a in replies_of(done, Direction.REQUEST))
    for direction, mode in ((Direction.REQUEST, exchange.request_mode), (Direction.RESPONSE, exchange.response_mode)):
        if direction is Direction.REQUEST and not decided:
            continue
        replies = replies_of(done, direction)
        head, body, tail = (
            (RequestHeaders, RequestBody, RequestTrailers)
            if direction is Direction.REQUEST
            else (ResponseHeaders, ResponseBody, ResponseTrailers)
        )
        pieces = [event for event in sent if isinstance(event, body)]
        if direction is Direction.RESPONSE and exchange.outcome.lease is not None and mode is FDS and not replies:
            assert not pieces  # an answer that has not begun is held back
            continue
        assert sum(isinstance(r, HEADS) for r in replies) == sum(isinstance(e, head) for e in sent)
        assert sum(isinstance(r, ReplyTrailers) for r in replies) == sum(isinstance(e, tail) for e in sent)
        counted = pieces[: next((i + 1 for i, p in enumerate(pieces) if p.end_of_stream), len(pieces))]
        if mode is FDS:
            assert bool(counted) == any(isinstance(r, ReplyChunk) for r in replies)
        else:
            assert sum(isinstance(r, ReplyBody) for r in replies) == len(counted)


def a_decision_rides_once_and_is_given_back_once(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    asked = sum(isinstance(action, Decide) for action in done)
    carrying = [a for a in replies_of(done, Direction.REQUEST) if isinstance(a, ReplyRequestHeaders | ReplyBody) and a.decision]
    ended = [action for action in done if isinstance(action, Finished)]
    assert asked <= 1
    assert len(carrying) <= 1
    assert len(ended) == (1 if asked and isinstance(exchange.outcome, Decision) else 0)
    if ended:
        statuses = [event.status for event in sent if isinstance(event, ResponseHeaders)]
        assert ended[0].decision is exchange.outcome
        evicted = any(isinstance(a, ReplyImmediately) and isinstance(a.answer, RequestEvicted) for a in done)
        assert ended[0].status == 429 if evicted else ended[0].status in (0, *statuses)


def an_answer_of_ours_is_the_last_word(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    at = next((i for i, action in enumerate(done) if isinstance(action, ReplyImmediately)), None)
    if at is not None:
        answer = done[at]
        assert isinstance(answer, ReplyImmediately)
        # A late decision comes after it, and one that was acted on ends after it: both are given back.
        given_back = isinstance(answer.answer, DecisionTimeout | ConflictingModel | RequestEvicted)
        assert [type(action) for action in done[at + 1 :]] in ([], [Finished] if given_back else [])
        under_way = isinstance(answer.answer, ConflictingModel | RequestEvicted)
        assert under_way or replies_of(done, Direction.REQUEST)[1:] == []


def who_is_evicted_has_seen_nothing_of_an_answer(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    if any(isinstance(action, ReplyImmediately) and isinstance(action.answer, RequestEvicted) for action in done):
        assert isinstance(exchange.outcome, Decision)
        assert exchange.outcome.lease is not None
        assert replies_of(done, Direction.RESPONSE) == []


def buffered_headers_are_answered_before_the_body_comes(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    if exchange.request_mode in (BUFFERED, PARTIAL) and exchange.events:
        first = exchange.events[0]
        assert isinstance(first, RequestHeaders)
        stream = ExtProcStream(exchange.limits)
        (action,) = stream.receive(first)
        is_asked = first.end_of_stream or exchange.limits.on_headers is not None
        assert isinstance(action, Decide if is_asked else ReplyRequestHeaders)


def every_change_of_state_is_a_row(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    assert exchange.seen <= {(row.state, row.event, row.to) for row in REQUEST_ROWS + RESPONSE_ROWS}


def the_director_is_asked_on_what_came(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    """What is asked of the director: the whole body, its beginning in STREAMED and BUFFERED_PARTIAL, or none."""
    for question in (action for action in done if isinstance(action, Decide)):
        pieces = [event.body for event in sent if isinstance(event, RequestBody)]
        if question.body is None:
            assert exchange.request_mode in (NONE, STREAMED) or exchange.limits.on_headers is not None
        elif question.complete and exchange.request_mode in (FDS, BUFFERED):
            assert question.body == b"".join(pieces)
        else:
            assert b"".join(pieces).startswith(question.body)
            early = exchange.request_mode is FDS and exchange.limits.scanner_of is not None
            assert question.complete or early or exchange.request_mode in (STREAMED, PARTIAL)


def early_mode_lets_go_of_what_it_echoed(exchange: Exchange, sent: list[Event], done: list[Action]) -> None:
    """Asked on a beginning, the stream holds nothing back: each piece is echoed before the next is looked at."""
    if exchange.request_mode is not FDS or exchange.limits.scanner_of is None or exchange.decide_after:
        return
    stream = ExtProcStream(exchange.limits)
    early = False
    for event in sent[:-1]:
        for action in stream.receive(event):
            if isinstance(action, Decide):
                early = not action.complete
                stream.receive(DecisionMade(DECISION))
        if early:
            assert repr(stream).endswith("held=0>")


RULES = (
    early_mode_lets_go_of_what_it_echoed,
    replies_keep_the_order_headers_body_trailers,
    full_duplex_echoes_every_byte_and_one_end,
    nothing_is_left_unanswered,
    a_decision_rides_once_and_is_given_back_once,
    an_answer_of_ours_is_the_last_word,
    who_is_evicted_has_seen_nothing_of_an_answer,
    buffered_headers_are_answered_before_the_body_comes,
    every_change_of_state_is_a_row,
    the_director_is_asked_on_what_came,
)


@examples(100)
@given(exchanges())
def test_any_exchange_keeps_envoys_rules(exchange: Exchange) -> None:
    sent, done = exchange.run()
    for rule in RULES:
        rule(exchange, sent, done)


any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(RequestHeaders, st.just(HEAD), st.booleans(), st.none() | st.builds(config, st.sampled_from(BodyMode))),
    st.builds(RequestBody, st.binary(max_size=9), st.booleans(), st.none() | st.just(("10.0.0.1",))),
    st.just(RequestTrailers()),
    st.builds(ResponseHeaders, st.integers(0, 999), st.booleans(), config=st.none()),
    st.builds(ResponseBody, st.binary(max_size=9), st.booleans(), config=st.none()),
    st.just(ResponseTrailers()),
    st.just(Deadline()),
    st.just(PeerClosed()),
)


@examples(100)
@given(st.lists(any_event, max_size=12), outcomes, st.sampled_from(BodyMode), st.booleans())
def test_any_order_of_messages_is_taken_or_refused(events: list[Event], outcome: Outcome, mode: BodyMode, early: bool) -> None:
    stream = ExtProcStream(StreamLimits(max_body_bytes=30, fallback=config(mode, mode, early=early)))
    done: list[Action] = []

    def receive(event: Event) -> None:
        for action in stream.receive(event):
            done.append(action)
            if isinstance(action, Decide):
                receive(DecisionFailed(outcome) if isinstance(outcome, ExtProcError) else DecisionMade(outcome))

    try:
        for event in events:
            receive(event)
    except ProtocolError:
        pass
    receive(PeerClosed())
    asked = sum(isinstance(action, Decide) for action in done)
    ended = sum(isinstance(action, Finished) for action in done)
    assert asked <= 1
    assert ended == (asked if isinstance(outcome, Decision) else 0)
