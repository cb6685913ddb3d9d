"""Frames against numbers and bytes that others wrote."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe import frame as other
from hypothesis import given
from hypothesis import strategies as st

from extproc.transport.h2 import frames as f
from extproc.transport.h2.frames import ConnectionFault, ErrorCode, Kind, Setting
from tests.fakes import http2


def test_the_numbers_are_hyper_h2s() -> None:
    theirs = {number: kind.__name__.removesuffix("Frame").upper() for number, kind in other.FRAMES.items()}
    assert {kind.name.replace("_", "") for kind in Kind} < set(theirs.values())
    assert all(theirs[kind] == kind.name.replace("_", "") for kind in Kind)
    assert {code.value: code.name for code in ErrorCode} == {code.value: code.name for code in ErrorCodes}
    assert {s.value: s.name for s in Setting} == {s.value: s.name for s in SettingCodes if s.value <= 6}


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (f.settings({Setting.MAX_FRAME_SIZE: 2**24 - 1}), "SETTINGS MAX_FRAME_SIZE=16777215"),
        (f.settings({}), "SETTINGS"),
        (f.window_update(0, 1), "WINDOW_UPDATE 0 +1"),
        (f.window_update(2**31 - 1, 2**31 - 1), "WINDOW_UPDATE 2147483647 +2147483647"),
        (f.rst_stream(3, ErrorCode.ENHANCE_YOUR_CALM), "RST_STREAM 3 ENHANCE_YOUR_CALM"),
        (f.goaway(7, ErrorCode.NO_ERROR, "bye"), "GOAWAY 7 NO_ERROR"),
        (f.frame(Kind.PING, f.ACK, 0, bytes(8)), "PING ack"),
        (f.frame(Kind.DATA, f.END_STREAM, 1, b"x"), "DATA 1 b'x' end"),
    ],
)
def test_frames_that_we_write(made: bytes, line: str) -> None:
    assert http2.lines(made) == [line]


def test_goaways_text_is_cut() -> None:
    (frame,) = http2.parse(f.goaway(0, ErrorCode.NO_ERROR, "é" * 1000))
    assert len(frame.payload) == 8 + 256


@given(
    kind=st.sampled_from(Kind),
    flags=st.integers(0, 255),
    stream=st.integers(0, 2**31 - 1),
    size=st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**24 - 1]),
)
def test_a_frames_head(kind: Kind, flags: int, stream: int, size: int) -> None:
    payload = bytes(size)
    assert f.frame(kind, flags, stream, payload) == bytes(http2.Frame(kind, flags, stream, payload))


@given(size=st.integers(0, 70), largest=st.integers(1, 20), end=st.booleans())
def test_header_blocks_in_frames(size: int, largest: int, end: bool) -> None:
    block = bytes(range(size))
    first, *rest = http2.parse(f.header_frames(5, block, end=end, largest=largest))
    everything = [first, *rest]
    assert first.kind == Kind.HEADERS
    assert bool(first.flags & f.END_STREAM) is end
    assert all(frame.kind == Kind.CONTINUATION and not frame.flags & f.END_STREAM for frame in rest)
    assert b"".join(frame.payload for frame in everything) == block
    assert all(len(frame.payload) <= largest for frame in everything)
    assert [bool(frame.flags & f.END_HEADERS) for frame in everything] == [False] * len(rest) + [True]


class TestPadding:
    @given(content=st.binary(max_size=20), padding=st.integers(0, 20), before=st.binary(max_size=5))
    def test_is_taken_off(self, content: bytes, padding: int, before: bytes) -> None:
        data = before + bytes([padding]) + content + bytes(padding)
        begin, end = f.unpadded(data, len(before), len(data))
        assert data[begin:end] == content

    def test_may_fill_the_frame(self) -> None:
        assert f.unpadded(b"\x02\0\0", 0, 3) == (1, 1)

    @pytest.mark.parametrize(
        ("data", "code"),
        [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\1", ErrorCode.PROTOCOL_ERROR), (b"\3ab", ErrorCode.PROTOCOL_ERROR)],
    )
    def test_longer_than_its_frame(self, data: bytes, code: ErrorCode) -> None:
        with pytest.raises(ConnectionFault) as caught:
            f.unpadded(data, 0, len(data))
        assert caught.value.code is code
