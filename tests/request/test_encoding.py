"""Content codings are undone, within bounds, whatever came."""

from __future__ import annotations

import gzip
import json
import random
import string
import struct
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import BodyTooLarge, InvalidBody
from extproc.request import ParseOptions, parse
from extproc.request.encoding import ANY_RATIO_BYTES, MAX_FRAMES, MAX_INFLATED_BYTES, codings_of, inflate
from tests.costs import costs_less
from tests.fakes.encoders import ENCODERS, SKIPPABLE, VARIANTS, encode
from tests.fakes.events import head
from tests.fakes.fuzz import examples

BODY = json.dumps({"messages": ["".join(random.Random(1).choices(string.printable, k=3000))], "model": "m"}).encode()
BLANK = bytes(64 * 2**20)
JSON = "application/json"


def model(body: bytes, encoding: str, *, complete: bool = True, content_type: str = JSON) -> str | None:
    return parse(head(content_type=content_type, content_encoding=encoding), body, complete=complete).model


class TestHeader:
    @pytest.mark.parametrize(
        ("header", "codings"),
        [
            (b"gzip", (b"gzip",)),
            (b" GZip\t", (b"gzip",)),
            (b"x-gzip", (b"x-gzip",)),
            (b"gzip, br", (b"gzip", b"br")),
            (b"gzip,br", (b"gzip", b"br")),
            (b"identity, zstd , , identity", (b"zstd",)),
            (b"identity", ()),
            (b"", ()),
            (b" , ", ()),
        ],
    )
    def test_is_a_list_in_the_order_of_application(self, header: bytes, codings: tuple[bytes, ...]) -> None:
        assert codings_of(header) == codings

    @pytest.mark.parametrize("header", [b"compress", b"gzip, compress", b"gzip;q=1", b"gzip br", b"\xff", b"*", b"br, br, br"])
    def test_what_is_unknown_or_too_much(self, header: bytes) -> None:
        assert codings_of(header) is None


class TestModel:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_is_found(self, variant: str) -> None:
        encoding, encoder = VARIANTS[variant]
        encoded = encoder(BODY)
        request = parse(head(content_type=JSON, content_encoding=encoding), encoded)
        assert (request.model, request.unread) == ("m", None)
        assert request.body_bytes == len(encoded), "what the client sent is counted"
        assert request.payload == json.loads(BODY)

    @pytest.mark.parametrize("encoding", ["gzip, br", "br, gzip", "identity, zstd, identity, deflate", "zstd,zstd"])
    def test_of_several_codings(self, encoding: str) -> None:
        assert model(encode(BODY, encoding.replace("identity, ", "")), encoding) == "m"

    def test_the_last_of_several_counts(self) -> None:
        assert model(gzip.compress(b'{"model":"a","messages":"' + b"x" * 500_000 + b'","model":"b"}'), "gzip") == "b"

    def test_of_a_form(self) -> None:
        form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--b--\r\n'
        assert model(gzip.compress(form), "gzip", content_type="multipart/form-data; boundary=b") == "whisper"

    def test_of_an_object_under_another_content_type(self) -> None:
        assert model(gzip.compress(BODY), "gzip", content_type="application/x-www-form-urlencoded") == "m"

    @pytest.mark.parametrize("encoding", ENCODERS)
    def test_nothing_in_it_is_no_body(self, encoding: str) -> None:
        request = parse(head(content_type=JSON, content_encoding=encoding), encode(b"", encoding))
        assert (request.model, request.unread) == (None, None)

    def test_no_body_needs_no_inflating(self) -> None:
        assert parse(head(content_type=JSON, content_encoding="gzip"), b"").unread is None


class TestCut:
    """The proxy sends only the beginning."""

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_the_model_is_found_when_it_is_in_there(self, variant: str) -> None:
        encoding, encoder = VARIANTS[variant]
        text = random.Random(4).randbytes(10_000 if "members" in variant else 300_000).hex().encode()  # some blocks of zstd
        encoded = encoder(b'{"model":"m","messages":["' + text + b'"]}')
        assert model(encoded[: len(encoded) * 9 // 10], encoding, complete=False) == "m"

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_any_cut_gives_the_model_or_nothing(self, variant: str) -> None:
        encoding, encoder = VARIANTS[variant]
        encoded = encoder(b'{"model":"m","messages":["hello, how are you today?"]}')
        for cut in range(1, len(encoded)):
            request = parse(head(content_type=JSON, content_encoding=encoding), encoded[:cut], complete=False)
            assert request.model == "m" or request.unread == "the proxy sends only the beginning of the body"

    def test_what_can_not_go_on_well_is_refused(self) -> None:
        with pytest.raises(InvalidBody):
            model(b"\x1f\x8b\x07" + bytes(20), "gzip", complete=False)


class TestBroken:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_every_cut_is_told(self, variant: str) -> None:
        encoding, encoder = VARIANTS[variant]
        encoded = encoder(b'{"model":"m","messages":["hello, how are you today?"]}')
        whole = _ends_of_frames(variant, encoded)
        for cut in set(range(1, len(encoded))) - whole:
            with pytest.raises(InvalidBody, match=f"before its {encoding.removeprefix('x-')} data does"):
                model(encoded[:cut], encoding)

    @pytest.mark.parametrize("more", [b"x", b"\0", b"\0" * 20, b'{"model":"other"}', b"\r\n"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_more_after_the_end(self, variant: str, more: bytes) -> None:
        encoding, encoder = VARIANTS[variant]
        with pytest.raises(InvalidBody, match=encoding.removeprefix("x-")):
            model(encoder(BODY) + more, encoding)

    @pytest.mark.parametrize("body", [BODY, b"x", b"\x1f\x8b", b"\xff" * 50, bytes(50), encode(BODY, "br")])
    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
    def test_something_else(self, encoding: str, body: bytes) -> None:
        with pytest.raises(InvalidBody, match=encoding):
            model(body, encoding)

    def test_a_checksum_that_is_wrong(self) -> None:
        encoded = bytearray(gzip.compress(BODY))
        encoded[-6] ^= 1
        with pytest.raises(InvalidBody, match="not valid gzip"):
            model(bytes(encoded), "gzip")

    def test_the_wrong_order(self) -> None:
        with pytest.raises(InvalidBody, match="not valid gzip"):
            model(encode(BODY, "gzip, br"), "br, gzip")

    def test_a_dictionary(self) -> None:
        deflate = zlib.compressobj(zdict=b'{"model":"m"}')
        with pytest.raises(InvalidBody, match="not valid deflate"):
            model(deflate.compress(BODY) + deflate.flush(), "deflate")

    def test_a_large_window(self) -> None:
        """RFC 9659: 8 MiB are enough. A frame of 11 bytes could ask for 2 GiB."""
        for log, fits in ((23, True), (24, False), (27, False)):
            made = zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(window_log=log)
            ).compressobj()
            encoded = made.compress(BODY) + made.flush()
            if fits:
                assert model(encoded, "zstd") == "m"
            else:
                with pytest.raises(InvalidBody, match="window of more than 8388608 bytes"):
                    model(encoded, "zstd")

    def test_what_is_not_read_anyway_may_be_broken(self) -> None:
        for body in (b"x", gzip.compress(BLANK)):
            request = parse(head(content_type="image/png", content_encoding="gzip"), body)
            assert (request.model, request.unread) == (None, "content-encoding gzip")

    def test_passes_where_bodies_that_are_not_json_do(self) -> None:
        broken = parse(head(content_encoding="gzip"), b"x", options=ParseOptions(invalid_json_passes=True))
        assert (broken.model, broken.unread) == (None, "content-encoding gzip")
        with pytest.raises(BodyTooLarge):
            parse(head(content_encoding="gzip"), gzip.compress(BLANK), options=ParseOptions(invalid_json_passes=True))


def _ends_of_frames(variant: str, encoded: bytes) -> set[int]:
    """Cuts after which there is a whole body: between two frames."""
    magic = {"gzip in members": b"\x1f\x8b\x08", "zstd in frames": b"\x28\xb5\x2f\xfd"}.get(variant)
    found = {at for at in range(1, len(encoded)) if magic and encoded.startswith(magic, at)}
    return found | ({encoded.find(SKIPPABLE)} if SKIPPABLE in encoded else set())


class TestBounds:
    @pytest.mark.parametrize("encoding", ENCODERS)
    def test_the_size_is_exact(self, encoding: str) -> None:
        body = random.Random(2).randbytes(5000)
        assert inflate(encode(body, encoding), (encoding.encode(),), max_bytes=5000) == body
        with pytest.raises(BodyTooLarge, match="larger than the limit of 4999 bytes") as caught:
            inflate(encode(body, encoding), (encoding.encode(),), max_bytes=4999)
        assert encoding.removeprefix("x-") in caught.value.message

    def test_the_ratio(self) -> None:
        """A quarter of the limit is too much for a body that came to nearly nothing."""
        small = gzip.compress(BLANK[: MAX_INFLATED_BYTES // 4])
        with pytest.raises(BodyTooLarge, match="the limit is 100 times its size"):
            inflate(small, (b"gzip",))
        assert len(inflate(gzip.compress(BLANK[:ANY_RATIO_BYTES]), (b"gzip",))) == ANY_RATIO_BYTES

    @pytest.mark.parametrize("encoding", ENCODERS)
    def test_a_bomb_costs_no_more_than_the_limit(self, encoding: str) -> None:
        bomb = encode(BLANK, encoding)
        bomb += random.Random(3).randbytes(200_000 - len(bomb) if len(bomb) < 200_000 else 0)  # so that the ratio is kept
        _bounded(bomb, encoding)

    def test_a_bomb_in_a_bomb(self) -> None:
        _bounded(gzip.compress(gzip.compress(BLANK)), "gzip, gzip")

    def test_blocks_of_zstd_that_repeat_a_byte(self) -> None:
        """Four bytes make 128 KiB."""
        block = struct.pack("<I", 131072 << 3 | 1 << 1)[:3] + b"a"
        _bounded(b"\x28\xb5\x2f\xfd\x00\x58" + block * 100_000, "zstd")

    @pytest.mark.parametrize(
        ("encoding", "frame"),
        [("gzip", gzip.compress(b"")), ("zstd", zstandard.ZstdCompressor().compress(b"")), ("zstd", SKIPPABLE)],
        ids=["gzip", "zstd", "zstd, skippable"],  # gzip's frame has the time in it
    )
    def test_frames_are_counted(self, encoding: str, frame: bytes) -> None:
        last = encode(b'{"model":"m"}', encoding)
        assert model(frame * (MAX_FRAMES - 1) + last, encoding) == "m"
        with pytest.raises(InvalidBody, match="more than 1000 frames"):
            model(frame * MAX_FRAMES + last, encoding)
        _bounded(frame * (8 * 2**20 // len(frame)), encoding)

    def test_blocks_that_hold_nothing(self) -> None:
        _bounded(b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * 1_000_000, "deflate")
        _bounded(b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\0\0a" * 1_000_000, "zstd")


def _bounded(body: bytes, encoding: str) -> None:
    """It is refused, and the time is that of a body within the limits; without bounds it would be many times that."""

    def refused() -> None:
        with pytest.raises((BodyTooLarge, InvalidBody)):
            model(body, encoding)

    assert costs_less(refused, 5.0)


bodies = st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda some: some * 400))


@examples(60)
@given(bodies, st.sampled_from(sorted(VARIANTS)))
def test_what_was_encoded_comes_back(body: bytes, variant: str) -> None:
    encoding, encoder = VARIANTS[variant]
    if body or "members" not in variant:
        assert inflate(encoder(body), (encoding.encode(),)) == body


@examples(60)
@given(bodies, st.sampled_from(sorted(VARIANTS)), st.data())
def test_a_cut_gives_a_beginning(body: bytes, variant: str, data: st.DataObject) -> None:
    encoding, encoder = VARIANTS[variant]
    encoded = encoder(body)
    cut = data.draw(st.integers(0, len(encoded)))
    assert body.startswith(inflate(encoded[:cut], (encoding.encode(),), complete=False))


@examples(100)
@given(bodies, st.sampled_from(sorted(VARIANTS)), st.booleans(), st.data())
def test_damage_raises_nothing_else(body: bytes, variant: str, complete: bool, data: st.DataObject) -> None:
    encoding, encoder = VARIANTS[variant]
    damaged = bytearray(encoder(body) or b"x")
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidBody, BodyTooLarge):
        assert len(inflate(bytes(damaged), (encoding.encode(),), complete=complete)) <= MAX_INFLATED_BYTES


@examples(100)
@given(st.binary(max_size=100), st.sampled_from(sorted(ENCODERS)), st.booleans())
def test_any_bytes_raise_nothing_else(body: bytes, encoding: str, complete: bool) -> None:
    with suppress(InvalidBody, BodyTooLarge):
        inflate(body, (encoding.encode(),), complete=complete)
