"""Large bodies stay in what was read from the socket, however it is cut, and little else stays in memory because of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.transport.h2.call import ProcessCall
from extproc.transport.h2.grpc import Messages
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.http2 import Frame, data, headers, message, with_path
from tests.fakes.wire import CallWire, services_of

FULL_DUPLEX = (4, 0)


def viewed(call: ProcessCall) -> dict[int, int]:
    """What was read and is viewed by what the call keeps: sizes, by identity."""
    begun = call.messages._parts if call.messages is not None else []
    return viewed_of([*begun, *call.session._stream._parts])


def viewed_of(kept: Iterable[object]) -> dict[int, int]:
    return {id(part.obj): len(part.obj) for part in kept if isinstance(part, memoryview) and isinstance(part.obj, bytes)}


def calls(wire: CallWire) -> Iterator[tuple[int, ProcessCall]]:
    for stream in wire.connection.streams.values():
        if isinstance(stream.call, ProcessCall):
            yield stream.held, stream.call


def cut(whole: bytes, chance: random.Random, sizes: list[int]) -> list[bytes]:
    at, out = 0, []
    while at < len(whole):
        size = chance.choice(sizes)
        out.append(whole[at : at + size])
        at += size
    return out


def sent(stream: int, body: bytes, chance: random.Random) -> list[Frame]:
    """The frames of a request whose body comes in messages of any size."""
    pieces = cut(body, chance, [100, 5000, 40_000, 70_000])
    raws = [messages.request_headers(modes=FULL_DUPLEX)]
    raws += [messages.request_body(piece, end=at == len(pieces)) for at, piece in enumerate(pieces, start=1)]
    whole = b"".join(map(message, raws))
    return [headers(stream), *(data(stream, payload) for payload in cut(whole, chance, [50, 3000, 16_384]))]


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([9000, 65_536, 256_000]))
@example(4372, 4, 65_536)  # a message in pieces whose first is too short to be read by hand
def test_any_streams_in_any_reads(seed: int, streams: int, read_bytes: int) -> None:
    chance = random.Random(seed)
    bodies = {2 * at + 1: chance.randbytes(chance.choice([0, 30, 20_000, 150_000])) for at in range(streams)}
    queues = {stream: sent(stream, body, chance) for stream, body in bodies.items()}
    frames = b""
    for stream in queues:
        frames += bytes(queues[stream].pop(0))
    while any(queues.values()):
        frames += bytes(queues[chance.choice([stream for stream, queue in queues.items() if queue])].pop(0))
    decider = FakeDecider()
    wire = CallWire(decider)
    for read in cut(frames, chance, [read_bytes, read_bytes // 7]):
        wire.calls.receive(read)
        for held, call in calls(wire):
            assert sum(viewed(call).values()) <= 2 * held
            assert not wire.calls.unsettled
    assert sorted(question.body or b"" for question in decider.asked) == sorted(body for body in bodies.values() if body)


@pytest.mark.parametrize("streams", [1, 2])
def test_a_large_body_stays_in_what_was_read(streams: int) -> None:
    """A part of it at least: a message is joined while more of its read is of no use to the stream than the stream holds."""
    wire = CallWire(FakeDecider())
    chance = random.Random(1)
    queues = [sent_plainly(2 * at + 1, chance.randbytes(900_000))[:-1] for at in range(streams)]
    frames = b"".join(bytes(frame) for turn in zip(*queues, strict=True) for frame in turn)
    reads = [frames[at : at + 256_000] for at in range(0, len(frames), 256_000)]
    for read in reads:
        wire.calls.receive(read)
    looked_at = 0
    for held, call in calls(wire):
        looked_at += 1
        kept = [*(call.messages._parts if call.messages else []), *call.session._stream._parts]
        stays = sum(len(part) for part in kept if isinstance(part, memoryview) and any(part.obj is read for read in reads))
        assert held > 800_000
        assert stays > held // 4
    assert looked_at == streams


def sent_plainly(stream: int, body: bytes) -> list[Frame]:
    """As Envoy sends it: messages of 64 KiB in frames of 16."""
    raws = [messages.request_headers(modes=FULL_DUPLEX)]
    raws += [messages.request_body(body[at : at + 65_536], end=at + 65_536 >= len(body)) for at in range(0, len(body), 65_536)]
    whole = b"".join(map(message, raws))
    return [headers(stream), *(data(stream, whole[at : at + 16_384]) for at in range(0, len(whole), 16_384))]


def test_what_is_answered_piece_by_piece_keeps_little() -> None:
    services = services_of(FakeDecider())
    wire = CallWire(services=services)
    wire.send(headers(1), data(1, message(messages.request_headers(modes=(0, 4)))))
    whole = b"".join(message(messages.response_body(bytes(60_000))) for _ in range(20))
    wire.send(data(1, message(messages.response_headers())))
    for at in range(0, len(whole) - 100_000, 100_000):
        frames = [data(1, whole[begin : min(begin + 16_000, at + 100_000)]) for begin in range(at, at + 100_000, 16_000)]
        wire.calls.receive(b"".join(map(bytes, frames)))
        for held, call in calls(wire):
            assert sum(viewed(call).values()) <= 2 * held


def test_health_calls_keep_nothing_of_a_read() -> None:
    """They are of no use to who fills the memory: a message of theirs has 4 KB at most."""
    wire = CallWire(FakeDecider())
    begun = message(bytes(4000))[:3900]
    wire.send(headers(1, with_path("/grpc.health.v1.Health/Check")))
    for at in range(0, 3900, 1300):
        wire.send(data(1, begun[at : at + 1300]), *[data(3, bytes(16_000))] * 10)
        (stream,) = wire.connection.streams.values()
        assert all(not isinstance(part, memoryview) for part in stream.call.messages._parts)


class TestMessages:
    @pytest.mark.parametrize("size", [1023, 1024, 4096, 16_384])
    def test_little_of_each_read(self, size: int) -> None:
        """A peer may send little of a message in each read, and much that is done with."""
        begun = Messages()
        whole = message(bytes(200_000))
        for at in range(0, 180_000, size):
            assert begun.feed(memoryview(whole[at : at + size] + bytes(65_536))[:size], 200_000) == []
            assert begun.unsettled == (size >= 1024)
            begun.settle(at + size)
            reads = [part.obj for part in begun._parts if isinstance(part, memoryview)]
            assert sum(len(bytes(read)) for read in reads) <= 2 * (at + size)
        (found,) = begun.feed(whole[at + size :], 200_000)
        assert (found if isinstance(found, bytes) else begun.joined(found)) == bytes(200_000)

    def test_in_pieces_until_it_is_answered(self) -> None:
        begun = Messages()
        read = memoryview(message(bytes(100_000)) + bytes(400_000))
        assert begun.feed(read[:60_000], 200_000) == []
        (pieces,) = begun.feed(read[60_000:100_005], 200_000)
        assert not isinstance(pieces, bytes)
        assert sum(map(len, pieces)) == 100_000
        wasted = len(read) - 100_005
        assert not begun.may_stay(wasted - 1)
        assert begun.may_stay(wasted)
        begun.settle(wasted)
        begun.feed(memoryview(message(bytes(100_000)))[:50_000], 200_000)
        assert not begun.may_stay(wasted)
        begun.answered()
        assert begun.may_stay(50_000)

    def test_many_small_pieces_are_joined(self) -> None:
        """Each is an object of a few hundred bytes."""
        begun = Messages()
        whole = message(bytes(100_000))
        found = [each for at in range(0, len(whole), 2000) for each in begun.feed(whole[at : at + 2000], 200_000)]
        assert found == [bytes(100_000)]
