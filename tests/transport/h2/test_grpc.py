"""gRPC on HTTP/2: messages in any pieces, timeouts, statuses."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.protocol import Pieces
from extproc.transport.h2.grpc import (
    OK_TRAILERS,
    CallFault,
    Code,
    Messages,
    percent_encode,
    status_block,
    timeout_s,
)
from tests.fakes.http2 import fields_of, message

MOST = 40_000


def feed(messages: Messages, *pieces: bytes | memoryview) -> list[bytes]:
    return [whole(messages, found) for piece in pieces for found in messages.feed(piece, MOST)]


def whole(messages: Messages, found: bytes | Pieces) -> bytes:
    return found if isinstance(found, bytes) else messages.joined(found)


def outcome(sent: bytes, cuts: list[int], *, views: bool = False) -> tuple[list[bytes], Code | None]:
    """The messages that a call is given, and the status that it ends with."""
    messages = Messages()
    found: list[bytes] = []
    at = 0
    for cut in [*cuts, len(sent)]:
        piece = sent[at : at + cut]
        at += cut
        try:
            found += feed(messages, memoryview(piece) if views else piece)
            if messages.fault is not None:
                return found, messages.fault.code
        except CallFault as fault:
            return found, fault.code
    return found, None


class TestMessages:
    @given(
        raws=st.lists(
            st.one_of(st.binary(max_size=30), st.integers(1000, MOST).map(bytes), st.sampled_from([32_763, MOST]).map(bytes)),
            max_size=6,
        ),
        cuts=st.lists(st.one_of(st.integers(0, 2500), st.integers(0, MOST)), max_size=12),
        views=st.booleans(),
    )
    def test_in_any_pieces(self, raws: list[bytes], cuts: list[int], views: bool) -> None:
        found, code = outcome(b"".join(map(message, raws)), cuts, views=views)
        assert (found, code) == (raws, None)
        assert all(type(raw) is bytes for raw in found)

    def test_byte_by_byte(self) -> None:
        whole = message(b"abc") + message() + message(b"d" * 300)
        messages = Messages()
        assert feed(messages, *(bytes([byte]) for byte in whole)) == [b"abc", b"", b"d" * 300]
        assert messages.empty

    @given(st.binary(max_size=40), st.integers(1, 44))
    def test_one_that_is_not_whole(self, raw: bytes, cut: int) -> None:
        messages = Messages()
        whole = message(raw)
        assert feed(messages, whole[:-cut]) == []
        assert messages.empty == (cut >= len(whole))

    def test_what_is_kept_does_not_hold_what_was_read(self) -> None:
        """A small rest of a large read is copied, so that the read can be let go."""
        messages = Messages()
        read = bytearray(message(b"x" * 100) + message(b"abc")[:6])
        assert feed(messages, memoryview(read)) == [b"x" * 100]
        read.clear()  # raises BufferError while a view of it is alive
        assert feed(messages, b"bc") == [b"abc"]

    @pytest.mark.parametrize("size", [MOST, MOST + 1])
    def test_the_largest(self, size: int) -> None:
        assert outcome(message(bytes(size)), []) == (([bytes(size)], None) if size == MOST else ([], Code.RESOURCE_EXHAUSTED))

    def test_one_that_is_too_large_is_refused_by_its_head(self) -> None:
        with pytest.raises(CallFault, match=r"message of 4294967295 bytes is larger than the limit of 40000"):
            Messages().feed(b"\0\xff\xff\xff\xff", MOST)

    @pytest.mark.parametrize(("flag", "words"), [(1, "compressed message"), (2, "flags 0x02"), (255, "flags 0xff")])
    def test_flags(self, flag: int, words: str) -> None:
        with pytest.raises(CallFault, match=words) as caught:
            Messages().feed(bytes([flag, 0, 0, 0, 0]), MOST)
        assert caught.value.code is Code.INTERNAL

    @given(
        good=st.lists(st.binary(max_size=30), max_size=3),
        bad=st.sampled_from([b"\1\0\0\0\0", b"\0\x7f\0\0\0", b"\x80\xff\xff\xff\xff"]),
        cuts=st.lists(st.integers(0, 40), max_size=6),
    )
    def test_what_came_before_a_fault_is_given_however_it_came(self, good: list[bytes], bad: bytes, cuts: list[int]) -> None:
        found, code = outcome(b"".join(map(message, good)) + bad + b"more", cuts)
        assert found == good
        assert code is (Code.RESOURCE_EXHAUSTED if bad[0] == 0 else Code.INTERNAL)


class TestTimeout:
    @pytest.mark.parametrize(
        ("told", "seconds"),
        [
            ("1H", 3600),
            ("2M", 120),
            ("3S", 3),
            ("4m", 0.004),
            ("5u", 5e-6),
            ("6n", 6e-9),
            ("0S", 0),
            ("99999999H", 359999996400),
        ],
    )
    def test_units(self, told: str, seconds: float) -> None:
        assert timeout_s(told) == pytest.approx(seconds)

    @pytest.mark.parametrize("told", ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "1 S", "1S\n", "١S", " 1S"])
    def test_that_are_none(self, told: str) -> None:
        with pytest.raises(CallFault, match="malformed grpc-timeout") as caught:
            timeout_s(told)
        assert caught.value.code is Code.INTERNAL


class TestPercentEncoding:
    @given(st.text())
    def test_is_undone(self, text: str) -> None:
        encoded = percent_encode(text)
        assert encoded.isascii()
        assert encoded.isprintable()
        assert unquote_to_bytes(encoded).decode() == text

    def test_only_where_it_must_be(self) -> None:
        assert percent_encode("a b~!é%\n") == "a b~!%C3%A9%25%0A"


class TestStatus:
    def test_in_trailers(self) -> None:
        assert fields_of(status_block(Code.INTERNAL, "100 %", opened=True)) == [
            ("grpc-status", "13"),
            ("grpc-message", "100 %25"),
        ]

    def test_as_the_only_headers(self) -> None:
        assert fields_of(status_block(Code.UNAVAILABLE, "", opened=False)) == [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "14"),
        ]

    def test_ok(self) -> None:
        assert fields_of(OK_TRAILERS) == [("grpc-status", "0")]

    def test_codes_are_grpcs(self) -> None:
        import grpc

        assert {code.name: code.value for code in Code} == {
            code.name: code.value[0] for code in grpc.StatusCode if code.name in Code.__members__
        }
