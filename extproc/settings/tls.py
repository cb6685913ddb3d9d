"""Names of TLS versions and cipher suites as upstream's flags take them (Go's, which are IANA's), and as OpenSSL has them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

MinVersion = Literal["VersionTLS12", "VersionTLS13"]
"""Go also knows VersionTLS10 and VersionTLS11. HTTP/2 needs at least TLS 1.2 (RFC 9113, 9.2)."""


class Suite(NamedTuple):
    """A cipher suite of TLS 1.2."""

    openssl: str
    key: Literal["ECDSA", "RSA"]
    """What the certificate's key must be; ECDSA includes Ed25519."""


_PLAIN: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": Suite("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": Suite("ECDHE-RSA-AES128-GCM-SHA256", "RSA"),
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": Suite("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": Suite("ECDHE-RSA-AES256-GCM-SHA384", "RSA"),
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": Suite("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": Suite("ECDHE-RSA-CHACHA20-POLY1305", "RSA"),
}

DEFAULT_SUITES: Final = tuple(suite.openssl for suite in _PLAIN.values())
"""What RFC 9113, appendix A leaves for HTTP/2: ephemeral keys and authenticated encryption."""

SUITES: Final = {
    **_PLAIN,
    # On RFC 9113's list of what HTTP/2 should not use, but Go counts them as secure and a list made for Go may have them.
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": Suite("ECDHE-ECDSA-AES128-SHA", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": Suite("ECDHE-RSA-AES128-SHA", "RSA"),
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": Suite("ECDHE-ECDSA-AES256-SHA", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": Suite("ECDHE-RSA-AES256-SHA", "RSA"),
    # Kubernetes' older names.
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": Suite("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDSA"),
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": Suite("ECDHE-RSA-CHACHA20-POLY1305", "RSA"),
}
"""By Go's name."""

TLS13_SUITES: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Accepted and always on, as in Go: TLS 1.3's suites are not a choice."""

INSECURE: Final = frozenset(
    {
        "TLS_RSA_WITH_RC4_128_SHA",
        "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    }
)
"""What Go's crypto/tls lists as insecure."""


def check_suites(names: Sequence[str]) -> None:
    """Raises ValueError that names every suite which is unknown or insecure, and lists what there is."""
    known = [*SUITES, *TLS13_SUITES]
    problems = []
    for name in names:
        if name in INSECURE:
            problems.append(f"{name} is insecure")
        elif name not in known:
            near = difflib.get_close_matches(name, known, 1)
            problems.append(f"{name!r} is unknown" + (f", did you mean {near[0]}?" if near else ""))
    if problems:
        raise ValueError(f"{'; '.join(problems)} (there are: {', '.join(known)})")


def tls12_suites(names: Sequence[str]) -> tuple[Suite, ...]:
    """Those of the names that TLS 1.2 has, each once, in the order given."""
    return tuple(dict.fromkeys(SUITES[name] for name in names if name in SUITES))


__all__ = ["DEFAULT_SUITES", "INSECURE", "SUITES", "TLS13_SUITES", "MinVersion", "Suite", "check_suites", "tls12_suites"]
