"""Events out of pieces: the same events however the stream is cut, and as a slow reader of the specification sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.response.sse import EventStream, ServerSentEvent
from tests.fakes.fuzz import examples
from tests.response.pieces import cut


def by_the_specification(stream: bytes) -> list[ServerSentEvent]:
    """Section 9.2.6, line by line."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, _unfinished = text.split(b"\n")
    events: list[ServerSentEvent] = []
    kind, data = b"", b""
    for line in lines:
        if not line:
            if data:
                events.append(ServerSentEvent(kind or b"message", data[:-1]))
            kind, data = b"", b""
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data += value + b"\n"
            elif name == b"event":
                kind = value
    return events


def read(pieces: list[bytes], wanted: bytes = b"", max_event_bytes: int = 1 << 20) -> list[ServerSentEvent]:
    stream = EventStream(max_event_bytes)
    return [event for piece in pieces for event in stream.feed(piece, wanted)]


line_ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
lines = st.sampled_from(
    [
        b"",
        b"",
        b'data: {"a": 1}',
        b"data: [DONE]",
        b"data:x",
        b"data:  two spaces",
        b"data",
        b"data:",
        b": a comment",
        b":",
        b"event: message_start",
        b"event",
        b"id: 7",
        b"retry: 10",
        b"database: 1",
        b"\xef\xbb\xbfdata: late mark",
        b"data: \xf0\x9f\x92\xa1",
    ]
)
streams = st.builds(
    lambda mark, parts: mark + b"".join(line + end for line, end in parts),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(lines, line_ends), max_size=14),
)


@examples(300)
@given(streams, st.data())
def test_any_stream_cut_anywhere(stream: bytes, data: st.DataObject) -> None:
    assert read(data.draw(cut(stream))) == by_the_specification(stream)


@examples(100)
@given(st.lists(st.sampled_from([b"d", b"data:", b"\r", b"\n", b"\xef\xbb\xbf", b":", b" "]), max_size=20), st.data())
def test_any_bytes_cut_anywhere(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    assert read(data.draw(cut(stream))) == by_the_specification(stream)


@examples(100)
@given(streams, st.data())
def test_only_what_is_wanted(stream: bytes, data: st.DataObject) -> None:
    found = read(data.draw(cut(stream)), b"DONE")
    assert [event for event in found if b"DONE" in event.data] == [e for e in by_the_specification(stream) if b"DONE" in e.data]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_told_with_the_byte_that_ends_it(end: bytes) -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1" + end) == []
    assert stream.feed(end[:1]) == [ServerSentEvent(b"message", b"1")]
    assert stream.feed(end[1:] + b"event: e" + end + b"data: 2" + end + b"data: 3" + end + end) == [
        ServerSentEvent(b"e", b"2\n3")
    ]


def test_what_the_stream_ends_in_is_dropped() -> None:
    assert read([b"data: 1\n\n", b"data: 2\n"]) == [ServerSentEvent(b"message", b"1")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_that_are_too_long_are_passed_over(size: int) -> None:
    events = [b"data: 1\n\n", b"data: " + b"x" * 500 + b"\n\n", b"data: 2\n\n"]
    data = b"".join(events)
    stream = EventStream(max_event_bytes=100)
    found = [event.data for at in range(0, len(data), size) for event in stream.feed(data[at : at + size])]
    if size == 1000:  # it came at once, so nothing had to be kept
        assert [len(data) for data in found] == [1, 500, 1]
    else:
        assert found == [b"1", b"2"]
        assert stream.skipped == 1


def test_a_mark_at_the_start_of_a_piece_whose_rest_is_too_long() -> None:
    stream = EventStream(max_event_bytes=100)
    assert stream.feed(b"\xef\xbb\xbfdata: 1\n\ndata: " + b"x" * 500) == [ServerSentEvent(b"message", b"1")]


@examples(100)
@given(st.lists(st.sampled_from([3, 50, 150, 400]), max_size=6), st.data())
def test_the_bound_holds_however_it_is_cut(sizes: list[int], data: st.DataObject) -> None:
    stream = b"".join(b"data: %s\n\n" % (b"x" * size) for size in sizes)
    reader = EventStream(max_event_bytes=100)
    found = []
    for piece in data.draw(cut(stream)):
        found += [len(event.data) for event in reader.feed(piece)]
        assert sum(map(len, reader._parts)) <= 100
    assert [size for size in found if size <= 50] == [size for size in sizes if size <= 50]
    assert len(found) + reader.skipped == len(sizes)
