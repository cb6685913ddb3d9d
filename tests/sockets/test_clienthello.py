"""ALPN as clients offer it: real ClientHellos by OpenSSL, whole and in pieces, and anything else."""

from __future__ import annotations

import contextlib
import ssl

from hypothesis import given
from hypothesis import strategies as st

from extproc.sockets.clienthello import MAX_BYTES, offered_protocols

NAMES = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20), max_size=5)


def hello(protocols: list[str], *, tls12: bool = False, server_name: str | None = "example.com") -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of at most so many bytes."""
    message = data[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(part).to_bytes(2) + part for part in parts)


@given(NAMES, st.booleans(), st.sampled_from([None, "a.example"]), st.integers(1, 600))
def test_what_openssl_offers(protocols: list[str], tls12: bool, server_name: str | None, size: int) -> None:
    data = hello(protocols, tls12=tls12, server_name=server_name)
    expected = tuple(name.encode() for name in protocols)
    assert offered_protocols(data) == expected
    assert offered_protocols(in_records(data, size)) == expected
    assert offered_protocols(data + b"more") == expected


@given(st.data())
def test_no_answer_before_it_is_whole(data: st.DataObject) -> None:
    whole = hello(["h2", "http/1.1"])
    whole = in_records(whole, data.draw(st.integers(1, 600)))
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert offered_protocols(whole[:cut]) is None


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    offered_protocols(data)


@given(st.integers(0, 500), st.binary(min_size=1, max_size=4))
def test_any_damage(at: int, noise: bytes) -> None:
    data = hello(["h2"])
    offered_protocols(data[:at] + noise + data[at + len(noise) :])


def test_other_protocols_offer_nothing() -> None:
    assert offered_protocols(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == ()
    assert offered_protocols(b"GET / HTTP/1.1\r\n\r\n") == ()
    assert offered_protocols(b"\x15\x03\x01\x00\x02\x02\x28") == ()
    assert offered_protocols(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00") == ()


def test_one_that_never_ends() -> None:
    endless = b"\x16\x03\x01\xff\xff\x01\xff\xff\xff" + bytes(MAX_BYTES)
    assert offered_protocols(endless[:100]) is None
    assert offered_protocols(endless) == ()
