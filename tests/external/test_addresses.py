from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.external.addresses import Base, is_inside, parse_base, refusal
from tests.fakes.fuzz import examples


@pytest.mark.parametrize(
    ("url", "base", "authority"),
    [
        ("https://api.openai.com/v1", Base(True, "api.openai.com", 443, "/v1"), "api.openai.com"),
        ("https://API.example.com./", Base(True, "api.example.com", 443, ""), "api.example.com"),
        ("http://10.0.0.1:8080/a/b/", Base(False, "10.0.0.1", 8080, "/a/b"), "10.0.0.1:8080"),
        ("http://llm", Base(False, "llm", 80, ""), "llm"),
        ("https://[2001:DB8::1]:8443", Base(True, "2001:db8::1", 8443, ""), "[2001:db8::1]:8443"),
    ],
)
def test_urls_are_taken_apart(url: str, base: Base, authority: str) -> None:
    assert parse_base(url) == base
    assert base.authority == authority
    assert parse_base(str(base)) == base


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "api.openai.com",
            "ftp://x",
            "https://",
            "https:///v1",
            "https://user:secretpw@x/",
            "https://x?a=b",
            "https://x#a",
        ),
        *("https://x y/", "https://x/\r\nhost: y", "https://exämple.com", "https://x:0", "https://x:99999", "https://x:a"),
        *("https://[::1", "https://x\\@y", "https://-x.com", "https://x_%41.com", "https://.", "https://a..b@c"),
    ],
)
def test_what_is_no_base_is_refused_without_a_quote(url: str) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as error:
        parse_base(url)
    assert "secretpw" not in str(error.value)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "255.255.255.255",
            "224.0.0.1",
        ),
        *("localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal", "api.default.svc", "printer.local"),
        *("127.1", "0x7f000001", "2130706433", "1.2.3.0x4", "0177.0.0.1"),
        *("::127.0.0.1", "::a9fe:a9fe", "::ffff:0:7f00:1", "fec0::1", "64:ff9b:1::a00:1", "5f00::1", "3fff::1"),
        *("192.0.0.8", "192.0.0.192", "192.88.99.1", "64:ff9b::c000:c0"),
    ],
)
def test_what_is_inside(host: str) -> None:
    assert is_inside(host)
    assert refusal(Base(True, host, 443, ""), ()) is not None
    assert refusal(Base(True, host, 443, ""), (host,)) is None
    assert refusal(Base(False, host, 8080, ""), (f"{host}:8080",)) is None


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "api.openai.com", "x"])
def test_what_is_not(host: str) -> None:
    assert not is_inside(host)
    assert refusal(Base(True, host, 443, ""), ()) is None
    assert f"--external-allow={host}" in str(refusal(Base(False, host, 80, ""), ()))


@given(st.ip_addresses(v=4))
@examples(200)
def test_an_address_is_inside_in_every_spelling(address: ipaddress.IPv4Address) -> None:
    inside = is_inside(str(address))
    assert inside or (address.is_global and not address.is_multicast)
    for spelling in (f"::ffff:{address}", f"64:ff9b::{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"):
        assert is_inside(spelling) == inside


@given(st.text(alphabet="htps:/@?#[]\\.%a1 -_\r\n", max_size=30))
@examples(300)
def test_any_text_is_a_base_or_refused(text: str) -> None:
    try:
        base = parse_base(text)
    except ValueError:
        return
    assert parse_base(str(base)) == base
    assert not set(base.authority + base.path) & set("\r\n @?#\\")
