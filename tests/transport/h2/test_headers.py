"""Header blocks: HPACK with and without a table, and what makes fields a request."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from extproc.transport.h2.frames import ConnectionFault, ErrorCode
from extproc.transport.h2.headers import Fields, HeaderReader, KnownBlocks, bad_trailers, encode
from tests.fakes.http2 import GRPC, block, fields_of, literal

MORE = (*GRPC, ("x-request-id", "1"))


def reader(known: KnownBlocks | None = None, *, most: int = 2**14) -> HeaderReader:
    return HeaderReader(most, known if known is not None else KnownBlocks())


def emptied() -> Encoder:
    """A peer's encoder after it heard that our table has size 0: its next block begins with the update."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder


class TestBeforeTheAcknowledgement:
    def test_the_table_is_used(self) -> None:
        encoder, known = Encoder(), KnownBlocks()
        read = reader(known)
        first, second = block(MORE, encoder=encoder), block(MORE, encoder=encoder)
        assert len(second) < len(first) // 2  # indexed: only the table tells what it means
        assert read.request(first).values == dict(MORE)
        assert read.request(second).values == dict(MORE)
        assert len(known) == 0

    def test_the_same_bytes_may_mean_other_fields(self) -> None:
        encoder = Encoder()
        read = reader()
        read.request(block([*GRPC, ("x-a", "1")], encoder=encoder))
        block([*GRPC, ("x-a", "1"), ("x-b", "2")])
        one = block([*GRPC, ("x-a", "1")], encoder=encoder)
        assert read.request(one).values["x-a"] == "1"
        read.request(block([*GRPC, ("x-c", "3")], encoder=encoder))
        assert "x-c" in read.request(one).values  # index 62 is another entry now

    def test_an_update_to_a_smaller_table(self) -> None:
        encoder = Encoder()
        encoder.header_table_size = 50
        read = reader()
        for _ in range(3):
            assert read.request(block(MORE, encoder=encoder)).values == dict(MORE)

    def test_an_update_above_the_initial_table(self) -> None:
        encoder = Encoder()
        encoder.header_table_size = 4097
        with pytest.raises(ConnectionFault) as caught:
            reader().request(block(encoder=encoder))
        assert (caught.value.code, caught.value.reason) == (ErrorCode.COMPRESSION_ERROR, "bad_header_block")


class TestAfterTheAcknowledgement:
    def test_blocks_are_kept_once_the_peer_has_emptied_its_table(self) -> None:
        encoder, known = Encoder(), KnownBlocks()
        read = reader(known)
        read.request(block(MORE, encoder=encoder))
        read.acknowledged()
        encoder.header_table_size = 0
        updated = read.request(block(MORE, encoder=encoder))
        plain = block(MORE, encoder=encoder)
        once, again = read.request(plain), read.request(plain)
        assert updated.values == once.values == dict(MORE)
        assert once is again
        assert len(known) == 2

    def test_one_connection_knows_what_another_has_read(self) -> None:
        known = KnownBlocks()
        seen = []
        for _ in range(2):
            read = reader(known)
            read.acknowledged()
            encoder = emptied()
            seen += [read.request(block(MORE, encoder=encoder)), read.request(block(MORE, encoder=encoder))]
        assert seen[1] is seen[3]
        assert [fields.values for fields in seen] == [dict(MORE)] * 4

    def test_a_peer_that_keeps_its_table_is_served(self) -> None:
        encoder, known = Encoder(), KnownBlocks()
        read = reader(known)
        read.request(block(MORE, encoder=encoder))
        read.acknowledged()
        for number in range(3):
            fields = (*GRPC, ("x-number", str(number)))
            assert read.request(block(fields, encoder=encoder)).values == dict(fields)
        assert len(known) == 0

    def test_a_peer_that_has_emptied_its_table_cannot_use_it_again(self) -> None:
        read = reader()
        read.acknowledged()
        encoder = emptied()
        read.request(block(encoder=encoder))
        encoder.header_table_size = 100
        with pytest.raises(ConnectionFault) as caught:
            read.request(block(encoder=encoder))
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR

    @pytest.mark.parametrize("size", [1, 4095])
    def test_an_update_above_0_is_an_error(self, size: int) -> None:
        """RFC 7541 section 4.2: the table must be within what we announced."""
        read = reader()
        read.acknowledged()
        encoder = Encoder()
        encoder.header_table_size = size
        with pytest.raises(ConnectionFault) as caught:
            read.request(block(encoder=encoder))
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR

    @pytest.mark.parametrize("update", [b"\x20", b"\x3e", b"\x3f\xe1\x1f", b"\x3f\x00"])
    def test_updates_without_end(self, update: bytes) -> None:
        """Each costs time, and two are of use at most."""
        assert reader().request(16 * update + block()).values == dict(GRPC)
        with pytest.raises(ConnectionFault) as caught:
            reader().request(17 * update + block())
        assert (caught.value.code, caught.value.reason) == (ErrorCode.COMPRESSION_ERROR, "bad_header_block")

    def test_an_index_into_the_empty_table(self) -> None:
        read = reader()
        read.acknowledged()
        read.request(block(encoder=emptied()))
        with pytest.raises(ConnectionFault) as caught:
            read.request(b"\xbe")  # index 62: the first entry of the dynamic table
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR

    def test_trailers_are_not_kept(self) -> None:
        known = KnownBlocks()
        read = reader(known)
        read.acknowledged()
        read.request(block(encoder=emptied()))
        assert read.decode(block([("x", "y")])) == [("x", "y")]
        assert len(known) == 1


class TestKnownBlocks:
    def test_are_bounded(self) -> None:
        known = KnownBlocks()
        fields = Fields(GRPC)
        for number in range(3000):
            known.keep(number.to_bytes(2, "big"), fields)
            assert len(known) <= 1024
        assert known.fields.get((2999).to_bytes(2, "big")) is fields

    def test_long_ones_are_not_kept(self) -> None:
        known = KnownBlocks()
        known.keep(bytes(1025), Fields(GRPC))
        known.keep(bytes(1024), Fields(GRPC))
        assert len(known) == 1


class TestBounds:
    def test_a_list_that_is_too_large(self) -> None:
        """As RFC 9113 section 6.5.2 counts: name, value and 32 bytes for each field."""
        size = sum(len(name) + len(value) + 32 for name, value in MORE)
        assert reader(most=size).request(block(MORE)).fault is None
        with pytest.raises(ConnectionFault) as caught:
            reader(most=size - 1).request(block(MORE))
        assert (caught.value.code, caught.value.reason) == (ErrorCode.ENHANCE_YOUR_CALM, "header_list_too_large")

    def test_a_small_block_with_a_large_list(self) -> None:
        """An HPACK bomb: one large entry, and then a byte for each time it comes again."""
        encoder = Encoder()
        large = [("x", "y" * 3000)]
        bomb = block(large, encoder=encoder) + block(large, encoder=encoder) * 1000
        assert len(bomb) < 6000
        with pytest.raises(ConnectionFault) as caught:
            reader().decode(bomb)
        assert caught.value.reason == "header_list_too_large"

    @given(st.binary(max_size=100), st.booleans())
    def test_any_bytes_are_fields_or_a_fault_of_the_connection(self, raw: bytes, acknowledged: bool) -> None:
        read = reader()
        if acknowledged:
            read.acknowledged()
        with contextlib.suppress(ConnectionFault):
            read.request(raw)

    @given(st.integers(1, 60))
    def test_a_block_that_is_cut(self, cut: int) -> None:
        whole = literal([("abc", "defg"), ("hi", "j" * 60)])
        with pytest.raises(ConnectionFault):
            reader().decode(whole[:-cut])


def without(*names: str) -> list[tuple[str, str]]:
    """The usual fields less these."""
    return [(name, value) for name, value in GRPC if name not in names]


class TestFields:
    def test_of_a_request(self) -> None:
        fields = Fields(GRPC)
        assert fields.fault is None
        assert fields.values == dict(GRPC)
        assert fields.content_length is None

    def test_a_name_that_comes_twice(self) -> None:
        assert Fields([*GRPC, ("x-a", "1"), ("x-a", "2")]).values["x-a"] == "1, 2"

    def test_content_length(self) -> None:
        assert Fields([*GRPC, ("content-length", "17")]).content_length == 17

    @pytest.mark.parametrize("told", ["", "-1", "+1", "1.0", "x", "²", "9" * 16, "1, 1"])
    def test_content_length_that_is_none(self, told: str) -> None:
        assert Fields([*GRPC, ("content-length", told)]).fault == "content-length is no number"

    @pytest.mark.parametrize(
        ("pairs", "fault"),
        [
            (without(":method"), "no :method"),
            (without(":scheme"), "no :scheme"),
            (without(":path"), "no :path"),
            ([(":path", ""), *without(":path")], "no :path"),
            ([*GRPC, (":method", "POST")], "pseudo-header :method after regular fields"),
            ([(":method", "GET"), *GRPC], "pseudo-header :method twice"),
            ([(":status", "200"), *GRPC], "pseudo-header ':status' in a request"),
            ([(":unknown", "x"), *GRPC], "pseudo-header ':unknown' in a request"),
            ([*GRPC, ("X-Upper", "1")], "a field name in upper case"),
            ([*GRPC, ("", "1")], "a field without a name"),
            ([*GRPC, ("te", "gzip")], "field te other than trailers"),
            *(
                ([*GRPC, (name, "x")], f"field {name} of HTTP/1.1")
                for name in ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
            ),
            *(([*GRPC, ("x", f"a{bad}b")], "control characters in a field's value") for bad in "\0\r\n"),
            *(([*GRPC, ("x", bad)], "a field's value with white space at an end") for bad in (" a", "a ", "\ta", "a\t", " ")),
            *(([*GRPC, (f"x{bad}y", "1")], "a field name that is no token") for bad in "\0\t\n\r :\x7f\xe9"),
        ],
    )
    def test_that_are_no_request(self, pairs: list[tuple[str, str]], fault: str) -> None:
        """RFC 9113 sections 8.2 and 8.3."""
        assert Fields(pairs).fault == fault
        assert reader().request(literal(pairs)).fault == fault

    @pytest.mark.parametrize("value", ["", "é", "a b\tc", '"quoted"', "\x7f"])
    def test_values_that_are_fine(self, value: str) -> None:
        assert Fields([*GRPC, ("x", value)]).fault is None


class TestTrailers:
    def test_that_are_fine(self) -> None:
        assert bad_trailers([("grpc-status", "0"), ("x", "")]) is None
        assert bad_trailers([]) is None

    @pytest.mark.parametrize("pair", [(":path", "/"), ("X", "y"), ("connection", "close"), ("x", "a\nb")])
    def test_that_are_none(self, pair: tuple[str, str]) -> None:
        assert bad_trailers([("a", "b"), pair]) is not None


NAMES = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)


class TestOurBlocks:
    @given(st.lists(st.tuples(NAMES, st.text("abcXYZ019 %-/", max_size=300)), max_size=5))
    def test_are_read_by_others_at_any_time(self, pairs: list[tuple[str, str]]) -> None:
        assert fields_of(encode(pairs)) == pairs

    def test_do_not_depend_on_what_went_before(self) -> None:
        pairs = [(":status", "200"), ("grpc-message", "told")]
        assert encode(pairs) == encode(pairs)
