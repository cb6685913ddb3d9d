"""What the connections of a process hold together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.domain import Decision
from extproc.protocol import StreamLimits
from extproc.transport.h2.call import Services
from extproc.transport.h2.limits import H2Limits
from extproc.transport.held import Held
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import Frame, data, headers, message, rst, window
from tests.fakes.wire import CallWire, services_of

LIMITS = H2Limits(stream_window=65_535)
MIB = 2**20


def services(most: int, *, max_message_bytes: int = MIB) -> Services:
    return services_of(
        FakeDecider(Decision()),
        held=Held(most),
        limits=StreamLimits(request_timeout_s=0),
        max_message_bytes=max_message_bytes,
    )


class Side:
    """A peer on its connection, which takes all answers, and hears what concerns each of its uploads."""

    def __init__(self, shared: Services) -> None:
        self.wire = CallWire(services=shared, limits=LIMITS)
        self.uploads: dict[int, Upload] = {}

    def send(self, *parts: bytes | Frame) -> None:
        self.hear(self.wire.send(*parts))

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            kind, stream, *_ = *line.split(), "0"
            if stream.isdigit() and int(stream) in self.uploads:
                self.uploads[int(stream)].hear(kind, line)

    def upload(self, stream: int, size: int, *, length: bool = False) -> Upload:
        """Begin one."""
        announced = {**messages.JSON_HEADERS, **({"content-length": str(size).encode()} if length else {})}
        upload = self.uploads[stream] = Upload(self, stream)
        upload.left = message(messages.request_headers(announced)) + b"".join(
            message(messages.request_body(b"x" * min(10_000, size - at), end=at + 10_000 >= size))
            for at in range(0, size, 10_000)
        )
        self.send(headers(stream))
        return upload


class Upload:
    """A body that a peer sends as the stream's window lets it."""

    def __init__(self, side: Side, stream: int) -> None:
        self.side = side
        self.id = stream
        self.left = b""
        self.window = 65_535
        self.answered = False
        self.over = False

    def hear(self, kind: str, line: str) -> None:
        if kind == "WINDOW_UPDATE":
            self.window += int(line.rsplit("+", 1)[1])
        self.answered = self.answered or kind == "DATA"
        self.over = self.over or kind == "RST_STREAM" or line.endswith(" end")

    @property
    def decided(self) -> bool:
        """Its stream goes on, as the answer to the request is to come."""
        return not self.left and self.answered and not self.over

    def send(self) -> bool:
        """One frame, if the window lets it; whether it did."""
        self.side.hear(self.side.wire.sent())
        size = min(len(self.left), self.window, 16_384)
        if size <= 0 or self.over:
            return False
        piece, self.left = self.left[:size], self.left[size:]
        self.window -= size
        self.side.send(data(self.id, piece), window(0, 2**18), window(self.id, 2**18))
        return True


def send_each(uploads: list[Upload]) -> bool:
    """A frame of each; whether any was sent."""
    return sum(upload.send() for upload in uploads) > 0


def upload_all(uploads: list[Upload]) -> None:
    """In turns, as long as any goes on."""
    while send_each(uploads):
        pass


class TestLargeBodies:
    def test_are_all_whole_although_they_don_t_fit_together(self) -> None:
        """The fault that was: each connection had a bound of its own, and ended bodies that waited for each other."""
        shared = services(2_000_000)
        sides = [Side(shared) for _ in range(4)]
        most = 0
        uploads = [side.upload(stream, 500_000) for side in sides for stream in (1, 3, 5)]
        while send_each(uploads):
            most = max(most, shared.held.bytes)
        assert [upload.decided for upload in uploads] == [True] * 12
        assert 500_000 < most <= 2_000_000
        assert (shared.held.bytes, shared.held.promised, shared.held.waiting, shared.held.given_up) == (0, 0, {}, 0)
        assert shared.held.let_on > 0

    def test_small_ones_pass_while_they_wait(self) -> None:
        shared = services(1_500_000)
        one, other = Side(shared), Side(shared)
        large = [one.upload(stream, 500_000) for stream in range(1, 21, 2)]
        while not shared.held.waiting:
            assert send_each(large)
        small = other.upload(1, 50_000)
        upload_all([small])
        assert small.decided

    def test_what_they_announce_is_what_they_are_promised(self) -> None:
        """Else a few bodies of a MiB at most would be promised all there is, whatever their length."""
        shared = services(2_000_000)
        side = Side(shared)
        large = [side.upload(stream, 300_000, length=True) for stream in (1, 3, 5)]
        while shared.held.bytes < 700_000:
            assert send_each(large)
        assert shared.held.promised < 3 * 300_000
        assert not shared.held.waiting

    def test_beyond_the_bound_those_are_given_up_that_wait(self) -> None:
        """One is on its way to be whole, and each of many uses its first window: it is not the largest that has to go."""
        shared = services(1_200_000)
        side, other = Side(shared), Side(shared)
        large = side.upload(1, 600_000)
        while not side.wire.connection.streams[1].promised:
            large.send()
        upload_all([*(other.upload(stream, 500_000) for stream in range(1, 25, 2))])
        assert shared.held.given_up > 0
        upload_all([large])
        assert large.decided

    def test_one_that_is_alone_gets_what_it_needs(self) -> None:
        shared = services(600_000)
        upload = Side(shared).upload(1, 500_000)
        upload_all([upload])
        assert upload.decided

    def test_one_that_fits_never_is_answered(self) -> None:
        shared = services(400_000)
        upload = Side(shared).upload(1, 500_000)
        upload_all([upload])
        assert (upload.answered, upload.over, shared.held.given_up) == (True, True, 1)
        assert shared.held.bytes == 0

    @pytest.mark.parametrize("how", ["reset", "lost"])
    def test_one_that_leaves_lets_the_next_go_on(self, how: str) -> None:
        shared = services(1_000_000)
        first, second = Side(shared), Side(shared)
        large = first.upload(1, 600_000)
        while shared.held.bytes < 400_000:
            large.send()
        other = second.upload(1, 600_000)
        upload_all([other])
        assert other.left
        assert len(shared.held.waiting) == 1
        if how == "reset":
            first.send(rst(1))
        else:
            first.wire.calls.lost()
        assert second.wire.woken > 0
        upload_all([other])
        assert other.decided
        assert (shared.held.bytes, shared.held.promised) == (0, 0)


class TestAnswersThatAreNotTaken:
    def test_count(self) -> None:
        shared = services(MIB)
        wire = CallWire(services=shared, limits=LIMITS, INITIAL_WINDOW_SIZE=0)
        upload = b"".join(map(message, [messages.request_headers(), messages.request_body(b"x" * 9000, end=True)]))
        wire.send(headers(1), data(1, upload))
        assert shared.held.bytes == wire.connection.outbox.unsent > 9000
        wire.send(window(1, 10_000))
        assert shared.held.bytes == wire.connection.outbox.unsent == 0

    def test_are_reset_when_it_is_too_much(self) -> None:
        shared = services(30_000)
        wire = CallWire(services=shared, limits=LIMITS, INITIAL_WINDOW_SIZE=0)
        upload = b"".join(map(message, [messages.request_headers(), messages.request_body(b"x" * 12_000, end=True)]))
        wire.send(headers(1), data(1, upload), headers(3), data(3, upload))
        assert "RST_STREAM 1 CANCEL" in wire.send(headers(5), data(5, upload))
        assert wire.resets == {"held_too_much": 1}
        assert shared.held.bytes <= 30_000
        wire.calls.lost()
        assert shared.held.bytes == 0


def test_nothing_to_give_up() -> None:
    shared = services(10)
    held, _ = shared.held, CallWire(services=shared, limits=LIMITS)
    held.bytes = 11
    held.relieve()
    assert (held.bytes, held.given_up) == (11, 0)
    assert repr(held) == "<Held 11 of 10 promised=0 waiting=0>"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_all_is_given_back_and_nobody_waits_for_ever(drawn: st.DataObject) -> None:
    """Connections and bodies of any size in any order; some leave. Whoever stays is decided on, or was given up."""
    shared = services(drawn.draw(st.sampled_from([300_000, 700_000, 2_000_000])), max_message_bytes=400_000)
    held = shared.held
    sides = [Side(shared) for _ in range(3)]
    uploads: list[Upload] = []
    for step in range(drawn.draw(st.integers(5, 60))):
        what = drawn.draw(st.integers(0, 9))
        if what < 3 or not uploads:
            size, length = drawn.draw(st.integers(1, 300_000)), drawn.draw(st.booleans())
            uploads.append(drawn.draw(st.sampled_from(sides)).upload(2 * step + 1, size, length=length))
        elif what < 9:
            upload = drawn.draw(st.sampled_from(uploads))
            for _ in range(drawn.draw(st.integers(1, 12))):
                upload.send()
        else:
            gone = uploads.pop(drawn.draw(st.integers(0, len(uploads) - 1)))
            gone.side.send(rst(gone.id))
        assert held.bytes <= held.most
        streams = [stream for side in sides for stream in side.wire.connection.streams.values()]
        assert held.bytes == sum(stream.held + stream.waiting_bytes for stream in streams)
        assert held.promised == sum(stream.promised for stream in streams)
    upload_all(uploads)
    given_up = sum(not upload.decided for upload in uploads)
    assert given_up <= held.given_up
    assert (held.bytes, held.promised, held.waiting) == (0, 0, {})
    for side in sides:
        side.wire.calls.lost()
    assert held.holders == {}
