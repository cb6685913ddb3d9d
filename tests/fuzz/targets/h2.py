"""HTTP/2 and the calls on it.

A peer that keeps the rules gets every byte that a session answers, whatever the windows are. Bytes of any other peer mean the
same however they are cut. And when a connection is gone, everything is given back.
"""

from __future__ import annotations

import re
from typing import Final

from hpack import Encoder

from extproc.transport.held import Held
from tests.fuzz import wire as w
from tests.fuzz.exchange import exchange
from tests.fuzz.h2call import PoliteCall
from tests.fuzz.h2peer import LIMITS, OUTCOMES, Server, begin, settled, streams_of, wild
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_VALUE: Final = re.compile(r"[0-9'\"]")


class _Polite:
    """A peer that keeps RFC 9113, windows included."""

    def __init__(self, source: Source, *, tight: bool) -> None:
        self.source = source
        self.tight = tight
        limits, outcome = LIMITS[source.pick((0, 0, 4, 4, 2))], source.pick(OUTCOMES)
        # Bounds so tight that bodies wait for each other, and now and then that they are given up.
        held = Held(source.pick((1_000_000, 600_000, 300_000, 60_000))) if tight else Held()
        self.server = Server(limits, outcome, held=held, turns=tight)
        self.reader = w.Reader(exact=True)
        self.streams: dict[int, PoliteCall] = {}
        self.next_id = 1
        self.sent = 0
        self.pings = 0
        self.encoder = Encoder()
        first_window = source.pick((65_535, 65_535, 0, 100, 2**20))
        self.reader.largest_frame = source.pick((16_384, 16_384, 2**16))
        self.reader.feed(self.server.take())
        values = ((4, first_window), (5, self.reader.largest_frame))
        self.reader.resize(first_window)
        self.send(w.PREFACE + w.settings(*values))

    def send(self, data: bytes) -> None:
        """Send it, in pieces now and then, and read what comes."""
        for piece in self.source.cut(data, 3) if self.source.chance(3) else [data]:
            answer = self.server.receive(piece)
            if answer:
                self.reader.feed(answer)
            self.server.bounds()
        assert self.server.calls.fault is None, self.server.calls.fault

    def step(self) -> None:
        source = self.source
        kind = source.below(16)
        if kind < 3 or not self.streams:
            if len(self.streams) < 5:
                self.open()
        elif kind < 10:
            self.write(source.pick(list(self.streams.values())))
        elif kind < 12:
            self.widen(0 if source.chance(2) else source.pick(list(self.streams)), source.pick((1, 100, 5000, 65_535)))
        elif kind == 12:
            first_window = source.pick((0, 100, 65_535, 2**20))
            before = {stream_id: seen.window for stream_id, seen in self.reader.streams.items()}
            if first_window >= self.reader.first_window:
                self.reader.resize(first_window)
                self.send(w.settings((4, first_window)))
            else:
                self.send(w.settings((4, first_window)))
                self.reader.resize(first_window)
            assert before.keys() == self.reader.streams.keys()
        elif kind == 13:
            self.encoder.header_table_size = 0
            self.send(w.frame(w.SETTINGS, w.ACK, 0))
        elif kind == 14:
            self.pings += 1
            self.send(w.frame(w.PING, 0, 0, self.pings.to_bytes(8, "big")))
        else:
            stream = source.pick(list(self.streams.values()))
            if not stream.reset and not self.reader.streams[stream.id].ended:
                stream.reset = True
                self.send(w.frame(w.RST_STREAM, 0, stream.id, b"\0\0\0\x08"))

    def open(self) -> None:
        source = self.source
        stream = self.streams[self.next_id] = PoliteCall(self.next_id, exchange(Source(source.piece(60))), self.server.outcome)
        self.next_id += 2
        self.reader.opens(stream.id)
        block = w.stateless(w.request()) if source.chance(4) else bytes(self.encoder.encode(w.request()))
        self.send(w.frame(w.HEADERS, w.END_HEADERS, stream.id, block))

    def widen(self, stream_id: int, increment: int) -> None:
        if stream_id:
            seen = self.reader.streams[stream_id]
            if seen.window + increment > w.MAX_WINDOW or self.streams[stream_id].reset:
                return
        elif self.reader.window + increment > w.MAX_WINDOW:
            return
        self.reader.grant(stream_id, increment)
        self.send(w.window_update(stream_id, increment))

    def room(self, stream: PoliteCall) -> int:
        """What we may send on it."""
        granted = self.reader.granted
        return min(granted[0] - self.sent, self.reader.their_first_window + granted.get(stream.id, 0) - stream.credit, 16_384)

    def write(self, stream: PoliteCall, most: int | None = None) -> bool:
        """Send some of what is left; whether anything was."""
        seen = self.reader.streams[stream.id]
        if stream.reset or stream.ended or seen.ended or seen.reset is not None:
            return False
        source = self.source
        room = self.room(stream)
        size = min(source.pick((1, 5, 300, 5000, 16_384, 16_384)) if most is None else most, len(stream.left), room)
        if size < len(stream.left) and room < 1:
            return False
        piece, stream.left = stream.left[:size], stream.left[size:]
        flags = 0
        if most is None and source.chance(8) and room >= size + 30:
            padding = source.below(29)
            piece = bytes((padding,)) + piece + bytes(padding)
            flags = w.PADDED
        with_trailers = False
        if not stream.left and (most is not None or source.chance(2)):
            stream.ended = True
            with_trailers = source.chance(4)
            if not with_trailers:
                flags |= w.END_STREAM
        self.sent += len(piece)
        stream.credit += len(piece)
        self.send(w.frame(w.DATA, flags, stream.id, piece))
        if with_trailers:
            block = w.stateless((("x-trailer", "1"),))
            self.send(w.frame(w.HEADERS, w.END_HEADERS | w.END_STREAM, stream.id, block))
        return True

    def finish(self) -> None:
        """Open all windows, send all that is left, and see that everything came."""
        again = True
        while again:
            self.widen(0, min(2**24, w.MAX_WINDOW - self.reader.window))
            for stream in self.streams.values():
                if self.reader.streams[stream.id].window < 2**24:
                    self.widen(stream.id, 2**24)
            again = False
            for stream in self.streams.values():
                again = self.write(stream, 16_384) or again
        how = "tight" if self.tight else "polite"
        held = self.server.held
        _MARKS.add(f"{how} {min(held.given_up, 3)} given up, {min(held.let_on, 3)} waited")
        given_up = held.given_up
        for stream in self.streams.values():
            seen = self.reader.streams[stream.id]
            if stream.reset:
                assert stream.began(seen)
                continue
            over = seen.ended or seen.reset is not None  # whoever is given up may be reset before a byte of an answer
            assert over, f"stream {stream.id} stalls with {len(stream.left)} bytes to send"
            if given_up and stream.gave_up(seen):
                given_up -= 1
                _MARKS.add(f"{how} given up {seen.reset} {bool(seen.body)} {(seen.trailers or {}).get('grpc-status')}")
                continue
            messages = seen.messages()
            # An answer that waits for its turn is for nobody when the peer breaks the protocol meanwhile.
            late = self.tight and stream.status == "3"
            assert messages == (stream.expected[: len(messages)] if late else stream.expected)
            assert (seen.trailers or {}).get("grpc-status") == stream.status
            assert seen.reset in (None, 0)
            _MARKS.add(f"{how} {stream.status} {len(stream.expected)} answers")
        assert len(self.reader.pongs) == self.pings
        assert not self.server.connection.streams
        assert held.bytes == self.server.connection.outbox.unsent == 0


def _polite(source: Source, *, tight: bool) -> None:
    peer = _Polite(source, tight=tight)
    for _ in range(60):
        if not source.left:
            break
        peer.step()
    peer.finish()
    peer.server.close()


def _words(message: str) -> str:
    """What a message says before its first value. With values every input would be like no other."""
    return _VALUE.split(message, 1)[0][:30]


def _play(opened: set[int], pieces: list[bytes], limits: int, outcome: int, actions: Source | None) -> tuple[Server, w.Reader]:
    held = Held(60_000) if actions is not None and limits == 2 else Held()
    server = Server(LIMITS[limits], OUTCOMES[outcome], held=held, turns=actions is not None)
    reader = w.Reader(exact=False)
    reader.largest_frame = 2**16
    for stream_id in opened:
        reader.opens(stream_id)
    reader.feed(server.take())
    for piece in pieces:
        reader.feed(server.receive(piece))
        server.bounds()
        if actions is not None:
            server.happens(actions)
            reader.feed(server.take())
    return server, reader


def _leave_marks(how: str, server: Server, reader: w.Reader) -> None:
    fault = server.calls.fault
    if fault is not None:
        _MARKS.add(f"{how} {fault.reason} {_words(fault.message)}")
    for seen in reader.streams.values():
        trailers = seen.trailers or {}
        status, message = trailers.get("grpc-status"), trailers.get("grpc-message")
        _MARKS.add(f"{how} {status} ended={seen.ended} reset={seen.reset} body={bool(seen.body)}")
        if message:
            _MARKS.add(f"{how} {_words(message)}")


def _wild(source: Source, *, acts: bool) -> None:
    limits, outcome = source.below(len(LIMITS)), source.below(len(OUTCOMES))
    cuts = Source(source.piece(20))
    actions = Source(source.piece(30))
    messages = exchange(Source(source.piece(40)))
    sent = wild(source, messages) if not source.chance(8) else w.PREFACE + w.settings() + source.rest()
    opened = streams_of(sent, w.HEADERS)
    if acts:
        server, reader = _play(opened, cuts.cut(sent, 9), limits, outcome, actions)
        _leave_marks("acts", server, reader)
        server.close()
        return
    whole, as_whole = _play(opened, [sent], limits, outcome, None)
    cut, as_cut = _play(opened, cuts.cut(sent, 9), limits, outcome, None)
    assert whole.calls.fault == cut.calls.fault
    assert as_whole.streams.keys() == as_cut.streams.keys()
    assert whole.connection.outbox.unsent == cut.connection.outbox.unsent
    for stream_id, seen in as_whole.streams.items():
        _same(seen, as_cut.streams[stream_id])
    _leave_marks("cut", whole, as_whole)
    whole.close()
    cut.close()


def _same(whole: w.Seen, cut: w.Seen) -> None:
    """What came of a stream."""
    assert whole.body == cut.body
    assert whole.headers == cut.headers
    assert whole.trailers == cut.trailers
    assert whole.reset == cut.reset


def run(data: bytes) -> None:
    source = Source(data)
    begin()
    kind = source.below(4)
    if kind < 2:
        _polite(source, tight=kind == 1)
    else:
        _wild(source, acts=kind == 3)
    settled()


_LARGE: Final = [0, 60, *[0] * 10, *(2, 14, 14, 0), *[0] * 6, *(5, 14, 14, 14, 14, 14, 0), *[0] * 33, 0, 0]
"""Opens a stream whose bodies have 124 KB and 310 KB."""

_MODULES: Final = (
    *("connection", "control", "intake", "outbox", "headers", "limits"),
    *("calls", "call", "plan", "probes", "grpc"),
)

TARGET: Final = Target(
    run,
    seeds=[
        *(
            bytes([0, limits, 0, window, 0, 0, *_LARGE, *_LARGE, *([5, 0, 4, 0, 0] * 45)])
            for limits in (3, 4)
            for window in (4, 2)
        ),
        *(
            bytes([1, limits, 0, held, window, 0, 0, *_LARGE, *_LARGE, *([5, 0, 4, 0, 0] * 45)])
            for limits in (0, 4)
            for held in (1, 2, 3)
            for window in (0, 2)
        ),
        bytes([0, 0, 0, 0, 0, 0, 0, 30, *([0] * 12), 0, 3, *range(12), 0, 0, *([5, 0, 4, 0, 0] * 12)]),
        bytes([0, 2, 0, 3, 0, 0, 0, 40, *([0] * 12), 1, 1, *range(26), 0, 0, *([5, 0, 4, 0, 0, 10, 0, 3, 0] * 8)]),
        bytes(
            [1, 0, 5, 2, 2, 0, 0, 20, *range(20), 0, 0, *([0, 20, *range(20), 0, 0], [4, 1, 3, 0, 0])[0] * 3, *([6, 1, 5] * 20)]
        ),
        *(
            bytes([kind, limits, 0, 4, 5, 0, 9, 1, 9, 4, 1, 0, 5, 0, 40, *([0] * 11), 0, 3, *range(27), 0, *more])
            for kind in (2, 3)
            for limits in range(4)
            for more in ([0] * 12 + [5, 0, 0, 4] * 9, [*range(20)] * 6, [0, 6, 1, 9, 12, 3, 16, 17, 18, 19] * 6)
        ),
        bytes([2, 0, 0, 2, 1, 9, 0, 0, 7])
        + w.frame(w.HEADERS, 4, 1, w.stateless(w.request()))[:200]
        + w.frame(w.DATA, 1, 1, w.grpc(b"")),
    ],
    marks=_MARKS,
    modules=[
        *(f"extproc.transport.h2.{name}" for name in _MODULES),
    ],
    tokens=[w.settings(), w.window_update(0, 1), w.frame(w.PING, 0, 0, b"12345678"), w.frame(w.RST_STREAM, 0, 1, b"\0\0\0\0")],
)
