"""Where a provider may be: https, and nowhere inside our own network unless somebody said so.

An endpoint's configuration names URLs, so whoever may write it could make us ask what only we can reach: services on loopback,
the metadata of a cloud. Literal addresses are judged here at once, names once more when they are resolved (`is_inside`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""What IANA gives out of the internet's IPv6 addresses. Outside are site-local ones, the local NAT64 prefix, and those that
hold an IPv4 address for an old translator."""
_NOT_THE_INTERNET: Final = (
    ipaddress.IPv6Network("3fff::/20"),  # documentation (RFC 9637)
    ipaddress.IPv4Network("192.0.0.0/24"),  # IETF's protocols (RFC 6890); a cloud's metadata stand at 192.0.0.192
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4's relays (RFC 7526)
)
"""What releases of Python before 3.13 take for global."""
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PATH: Final = re.compile(r"[!-~]*")
EXPECTED: Final = "expected a URL such as https://api.example.com/v1"


class Base(NamedTuple):
    """A base URL, taken apart."""

    tls: bool
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int
    path: str
    """Without a slash at its end: '' or '/v1'."""

    @property
    def authority(self) -> str:
        """For the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"


def parse_base(url: str) -> Base:
    """Raises ValueError with a few words; what could hold a password is never quoted."""
    if _PATH.fullmatch(url) is None or "\\" in url:
        raise ValueError(f"{EXPECTED}, in ASCII and without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(EXPECTED) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(EXPECTED)
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no user or password in the URL")
    if parts.query or parts.fragment:
        raise ValueError("expected no query and no fragment in the URL")
    host = parts.hostname.lower().rstrip(".")
    if _HOST.fullmatch(host) is None and _address(host) is None:
        raise ValueError(EXPECTED)
    tls = parts.scheme == "https"
    if port == 0:
        raise ValueError("expected a port in 1..65535")
    return Base(tls, host, port or (443 if tls else 80), parts.path.rstrip("/"))


def refusal(base: Base, allowed: Collection[str]) -> str | None:
    """Why this address may not be asked, None when it may. `allowed` are hosts, with or without a port (`--external-allow`)."""
    if base.host in allowed or f"{base.host}:{base.port}" in allowed or base.authority in allowed:
        return None
    if not base.tls:
        return f"plain http to {base.host} is not allowed; expected https, or --external-allow={base.host}"
    if is_inside(base.host):
        return f"{base.host} is inside our own network; --external-allow={base.host} allows it"
    return None


def is_inside(host: str) -> bool:
    """Whether an address, or a name that can mean no other, is loopback, private, link-local or otherwise not the internet's.

    A name that is not known to be inside is not: its addresses are asked about when it was resolved.
    """
    address = _address(host)
    if address is not None:
        if address.version == 6 and address not in _UNICAST:
            return True
        return not address.is_global or address.is_multicast or any(address in each for each in _NOT_THE_INTERNET)
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal", ".svc")):
        return True
    # 127.1, 0x7f000001 and 2130706433 are addresses to some resolvers.
    return _NUMBER.fullmatch(name.rpartition(".")[2]) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that counts: the IPv4 one that an IPv6 address stands for."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        return inner or address
    return address
