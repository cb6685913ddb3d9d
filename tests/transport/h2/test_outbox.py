"""What we send, within the peer's windows (RFC 9113 sections 5.2 and 6.9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.transport.h2.frames import FIRST_WINDOW, MAX_WINDOW, ConnectionFault, ErrorCode, StreamFault
from extproc.transport.h2.headers import encode
from extproc.transport.h2.outbox import SLICE, Outbox, Stream
from extproc.transport.h2.table import State
from extproc.transport.held import Held
from tests.fakes.fuzz import examples
from tests.fakes.http2 import lines, message, parse

HEAD = "HEADERS {} :status=200 content-type=application/grpc"
TRAILERS = encode([("grpc-status", "0")])
LAST = "HEADERS {} grpc-status=0 end"


class Sender:
    """An outbox with its streams."""

    def __init__(self, *, stream: int = FIRST_WINDOW, connection: int = FIRST_WINDOW, frame: int = 16_384) -> None:
        self.ended: list[int] = []
        self.streams: dict[int, Stream] = {}
        self.outbox = Outbox(self._over, Held())
        self.outbox.first_window = stream
        self.outbox.window = connection
        self.outbox.frame_bytes = frame

    def open(self, stream_id: int = 1) -> Stream:
        found = self.streams[stream_id] = Stream(stream_id, self.outbox.first_window, FIRST_WINDOW)
        return found

    def sent(self) -> list[str]:
        return lines(self.outbox.take())

    def resize(self, first_window: int) -> None:
        self.outbox.resize(list(self.streams.values()), first_window)

    def _over(self, stream: Stream) -> None:
        self.ended.append(stream.id)
        stream.state = State.CLOSED
        del self.streams[stream.id]
        self.outbox.drop(stream)


class TestWithinTheWindows:
    def test_a_message_opens_our_side_once(self) -> None:
        sender = Sender()
        stream = sender.open()
        sender.outbox.message(stream, b"one")
        sender.outbox.message(stream, b"")
        assert sender.sent() == [HEAD.format(1), f"DATA 1 {message(b'one')!r}", f"DATA 1 {message()!r}"]
        assert stream.window == sender.outbox.window == FIRST_WINDOW - 13

    def test_what_was_taken_is_not_kept(self) -> None:
        sender = Sender()
        sender.outbox.control(b"x")
        assert sender.outbox.take() == b"x"
        assert sender.outbox.take() == b""

    @pytest.mark.parametrize("size", [16_379, 16_380, 40_000])
    def test_a_message_larger_than_a_frame(self, size: int) -> None:
        sender = Sender()
        raw = bytes(range(256)) * 200
        sender.outbox.message(sender.open(), raw[:size])
        _, *data = parse(sender.outbox.take())
        assert b"".join(frame.payload for frame in data) == message(raw[:size])
        assert [len(frame.payload) for frame in data[:-1]] == [16_384] * (len(data) - 1)
        assert sender.outbox.window == FIRST_WINDOW - size - 5

    def test_larger_frames_when_the_peer_wants_them(self) -> None:
        sender = Sender(frame=30_000)
        sender.outbox.message(sender.open(), bytes(29_995))
        assert sender.sent()[1:] == ["DATA 1 30000 bytes"]

    def test_the_end(self) -> None:
        sender = Sender()
        stream = sender.open()
        sender.outbox.message(stream, b"x")
        sender.outbox.end(stream, TRAILERS)
        assert sender.sent()[-1] == LAST.format(1)
        assert sender.ended == [1]

    def test_the_end_without_anything_else(self) -> None:
        sender = Sender(stream=0, connection=0)
        sender.outbox.end(sender.open(), TRAILERS)
        assert sender.sent() == [LAST.format(1)]

    def test_an_end_without_a_block(self) -> None:
        sender = Sender()
        stream = sender.open()
        sender.outbox.headers(stream, encode([(":status", "405")]))
        sender.outbox.body(stream, b"text")
        sender.outbox.end(stream, b"")
        assert sender.sent() == ["HEADERS 1 :status=405", "DATA 1 b'text'", "DATA 1 end"]

    def test_nothing_in_a_body(self) -> None:
        sender = Sender()
        stream = sender.open()
        sender.outbox.body(stream, b"")
        assert (sender.sent(), stream.waiting) == ([], None)


class TestBeyondThem:
    def test_the_rest_waits_for_the_stream(self) -> None:
        sender = Sender(stream=4)
        stream = sender.open()
        sender.outbox.message(stream, b"abc")
        sender.outbox.end(stream, TRAILERS)
        assert sender.sent() == [HEAD.format(1), f"DATA 1 {message(b'abc')[:4]!r}"]
        assert (stream.waiting_bytes, sender.outbox.unsent) == (4, 4)
        assert sender.outbox.stuck() == [stream]
        sender.outbox.widen_stream(stream, 3)
        assert sender.sent() == [f"DATA 1 {message(b'abc')[4:7]!r}"]
        assert sender.ended == []
        sender.outbox.widen_stream(stream, 1)
        assert sender.sent() == ["DATA 1 b'c'", LAST.format(1)]
        assert (sender.ended, sender.outbox.unsent, sender.outbox.stuck()) == ([1], 0, [])

    def test_the_rest_waits_for_the_connection(self) -> None:
        sender = Sender(connection=4)
        stream = sender.open()
        sender.outbox.message(stream, b"abc")
        assert sender.sent()[1:] == [f"DATA 1 {message(b'abc')[:4]!r}"]
        assert sender.outbox.stuck() == [stream]
        sender.outbox.widen(10)
        assert sender.sent() == [f"DATA 1 {message(b'abc')[4:]!r}"]
        assert sender.outbox.window == 6

    def test_nothing_overtakes_what_waits(self) -> None:
        sender = Sender(stream=10)
        stream = sender.open()
        sender.outbox.message(stream, b"first")
        sender.outbox.message(stream, b"second")
        sender.sent()
        stream.window = 100  # as if it had been opened while the first still waited
        sender.outbox.message(stream, b"third")
        data = b"".join(frame.payload for frame in parse(sender.outbox.take()))
        assert data == message(b"second") + message(b"third")

    def test_a_message_that_just_fits(self) -> None:
        sender = Sender(stream=8, connection=8)
        sender.outbox.message(sender.open(), b"abc")
        assert sender.outbox.unsent == 0

    def test_turns(self) -> None:
        """While the connection's window is what lacks, each stream gets a frame in turn."""
        sender = Sender(connection=0, frame=16_384, stream=100_000)
        streams = [sender.open(stream_id) for stream_id in (1, 3, 5)]
        for stream in streams:
            sender.outbox.message(stream, bytes(40_000))
        sender.sent()
        sender.outbox.widen(16_384 * 5)
        assert [frame.stream for frame in parse(sender.outbox.take())] == [1, 3, 5, 1, 3]
        sender.outbox.widen(16_384 * 2)
        assert [frame.stream for frame in parse(sender.outbox.take())] == [5, 1, 3, 5]

    def test_a_slow_stream_does_not_hold_up_the_others(self) -> None:
        sender = Sender(stream=10)
        slow, fast = sender.open(1), sender.open(3)
        sender.outbox.message(slow, bytes(100))
        sender.sent()
        sender.outbox.message(fast, b"fast")
        assert sender.sent()[-1] == f"DATA 3 {message(b'fast')!r}"

    def test_a_small_one_behind_a_large_one(self) -> None:
        sender = Sender(connection=0, stream=2**20)
        large, small = sender.open(1), sender.open(3)
        sender.outbox.message(large, bytes(500_000))
        sender.outbox.message(small, b"x")
        sender.outbox.end(small, TRAILERS)
        sender.sent()
        sender.outbox.widen(2 * 16_384)
        assert sender.sent() == ["DATA 1 16384 bytes", f"DATA 3 {message(b'x')!r}", LAST.format(3), "DATA 1 16378 bytes"]

    def test_what_is_dropped_is_not_sent(self) -> None:
        sender = Sender(stream=2)
        gone, stays = sender.open(1), sender.open(3)
        for stream in (gone, stays):
            sender.outbox.message(stream, b"abcd")
        sender.sent()
        gone.state = State.RESET
        sender.outbox.drop(gone)
        assert sender.outbox.unsent == stays.waiting_bytes == 7
        sender.resize(100)
        assert sender.sent() == [f"DATA 3 {message(b'abcd')[2:]!r}"]

    @pytest.mark.parametrize("state", [State.CLOSED, State.RESET])
    @pytest.mark.parametrize("opened", [False, True])
    def test_nothing_is_sent_on_a_stream_that_is_over(self, state: State, opened: bool) -> None:
        """The layer above hears of a reset after it has acted on what came before it."""
        sender = Sender()
        stream = sender.open()
        stream.opened = opened
        stream.state = state
        sender.outbox.drop(stream)
        sender.outbox.message(stream, b"x")
        sender.outbox.message(stream, b"")
        sender.outbox.headers(stream, TRAILERS)
        sender.outbox.body(stream, b"x")
        sender.outbox.end(stream, TRAILERS)
        assert (sender.sent(), sender.outbox.unsent, sender.ended) == ([], 0, [])


class TestChangedWindows:
    def test_smaller_ones_may_fall_below_zero(self) -> None:
        """RFC 9113 section 6.9.2."""
        sender = Sender(stream=100)
        stream = sender.open()
        sender.outbox.message(stream, bytes(75))
        sender.sent()
        sender.resize(50)
        assert stream.window == -30
        sender.outbox.message(stream, b"x")
        sender.outbox.widen_stream(stream, 30)
        assert sender.sent() == []
        sender.outbox.widen_stream(stream, 6)
        assert sender.sent() == [f"DATA 1 {message(b'x')!r}"]
        assert sender.open(3).window == 50

    def test_larger_ones_let_go_what_waits(self) -> None:
        sender = Sender(stream=0)
        streams = [sender.open(1), sender.open(3)]
        for stream in streams:
            sender.outbox.message(stream, b"x")
        sender.sent()
        sender.resize(6)
        assert sender.sent() == [f"DATA {stream.id} {message(b'x')!r}" for stream in streams]

    def test_streams_in_line_for_the_connection_go_back(self) -> None:
        sender = Sender(connection=0, stream=100)
        stream = sender.open()
        sender.outbox.message(stream, b"x")
        sender.sent()
        sender.resize(0)
        sender.outbox.widen(100)
        assert (sender.sent(), sender.outbox.stuck()) == ([], [stream])
        sender.resize(6)
        assert sender.sent() == [f"DATA 1 {message(b'x')!r}"]

    def test_overflows(self) -> None:
        sender = Sender(stream=10)
        stream = sender.open()
        with pytest.raises(StreamFault) as one:
            sender.outbox.widen_stream(stream, MAX_WINDOW - 9)
        with pytest.raises(ConnectionFault) as other:
            sender.outbox.widen(MAX_WINDOW - FIRST_WINDOW + 1)
        assert one.value.code is other.value.code is ErrorCode.FLOW_CONTROL_ERROR
        sender.outbox.widen_stream(stream, MAX_WINDOW - 10)
        with pytest.raises(ConnectionFault, match="stream window"):
            sender.resize(11)


@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("message"), st.integers(0, 3), st.integers(0, 60)),
            st.tuples(st.just("widen"), st.integers(-1, 3), st.integers(1, 40)),
            st.tuples(st.just("resize"), st.just(0), st.integers(0, 80)),
            st.tuples(st.just("end"), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("drop"), st.integers(0, 3), st.just(0)),
        ),
        max_size=60,
    )
)
@examples(300)
def test_any_windows(actions: list[tuple[str, int, int]]) -> None:
    """Whatever the peer does with its windows, they are kept to, and every stream's bytes come whole and in order."""
    sender = Sender(stream=20, connection=30, frame=16)
    streams = [sender.open(2 * number + 1) for number in range(4)]
    wanted, got = [b""] * 4, [b""] * 4
    room, connection_room, first = [20] * 4, 30, 20
    ending = set()

    def check() -> None:
        nonlocal connection_room
        for frame in parse(sender.outbox.take()):
            number = frame.stream // 2
            if frame.kind == 0:
                size = len(frame.payload)
                assert size <= min(room[number], connection_room, 16)
                got[number] += frame.payload
                room[number] -= size
                connection_room -= size
        for number, stream in enumerate(streams):
            assert wanted[number].startswith(got[number])
            if not stream.over and got[number] != wanted[number]:
                assert min(room[number], connection_room) <= 0, "could have sent more"
            assert stream.over or stream.window == room[number]
        assert sender.outbox.unsent == sum(stream.waiting_bytes for stream in streams)
        assert {stream.id for stream in sender.outbox.stuck()} == {stream.id for stream in streams if stream.waiting_bytes}

    for number_of, (what, which, size) in enumerate(actions):
        stream = streams[which]
        if what == "message" and not stream.over and which not in ending:
            raw = bytes([number_of]) * size
            wanted[which] += message(raw)
            sender.outbox.message(stream, raw)
        elif what == "widen" and which < 0:
            connection_room += size
            sender.outbox.widen(size)
        elif what == "widen" and not stream.over:
            room[which] += size
            sender.outbox.widen_stream(stream, size)
        elif what == "resize":
            room = [window + size - first if not s.over else window for window, s in zip(room, streams, strict=True)]
            first = size
            sender.resize(size)
        elif what == "end" and not stream.over and which not in ending:
            ending.add(which)
            sender.outbox.end(stream, TRAILERS)
        elif what == "drop" and not stream.over:
            stream.state = State.RESET
            del sender.streams[stream.id]
            sender.outbox.drop(stream)
        check()
    for number in ending:
        if streams[number].state is not State.RESET:
            assert (got[number] == wanted[number]) == (streams[number].state is State.CLOSED)


class TestSlices:
    """A large answer is written in slices, however wide the windows are, so that a socket's buffer never holds all of it."""

    def full(self, frame: int = 16_384) -> tuple[Sender, int]:
        sender = Sender(stream=2**30, connection=2**30, frame=frame)
        stream = sender.open()
        for _ in range(240):
            sender.outbox.message(stream, (b"head", memoryview(bytes(60_000))))
        size = 240 * 60_009
        return sender, size

    @pytest.mark.parametrize("frame", [16_384, 2**20])
    def test_come_as_they_are_asked_for(self, frame: int) -> None:
        sender, size = self.full(frame)
        outbox = sender.outbox
        slices = []
        while outbox.full:
            slices.append(sum(map(len, outbox.take_pieces())))
            outbox.go_on()
        slices.append(sum(map(len, outbox.take_pieces())))
        assert 3 <= len(slices) <= 5
        assert max(slices) < 2 * SLICE
        assert outbox.unsent == 0
        assert outbox.window == 2**30 - size
        outbox.go_on()
        assert outbox.take() == b""

    def test_what_is_behind_one_waits_and_counts_as_held(self) -> None:
        sender, size = self.full()
        outbox = sender.outbox
        assert outbox.window == 0
        assert size - 2 * SLICE < outbox.unsent < size
        other = sender.open(3)
        outbox.message(other, b"small")
        outbox.end(other, TRAILERS)
        assert sender.ended == []
        outbox.widen(5)
        outbox.take()
        while outbox.full:
            outbox.go_on()
            outbox.take()
        assert sender.ended == [3]
        assert outbox.window == 2**30 + 5 - size - 10

    def test_a_window_may_not_overflow_behind_one(self) -> None:
        sender, size = self.full()
        with pytest.raises(ConnectionFault):
            sender.outbox.widen(2**30 + size)
