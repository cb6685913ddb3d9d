"""Cipher suites by the names that upstream's flags take."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.cli.options import from_text
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings
from extproc.settings.tls import DEFAULT_SUITES, INSECURE, SUITES, TLS13_SUITES, check_suites, tls12_suites

KNOWN = [*SUITES, *TLS13_SUITES]


@pytest.mark.parametrize("name", SUITES)
def test_openssl_knows_each_by_the_name_we_give_it(name: str) -> None:
    """IANA's name has the same parts as OpenSSL's description."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(SUITES[name].openssl)
    (found,) = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    description = str(found["description"])
    assert f"Au={SUITES[name].key}" in description
    assert "Kx=ECDH" in description
    for theirs, ours in (
        ("AES_128_GCM", "AESGCM(128)"),
        ("AES_256_GCM", "AESGCM(256)"),
        ("CHACHA20", "CHACHA20/POLY1305(256)"),
    ):
        assert (theirs in name) == (f"Enc={ours}" in description)


def test_the_default_is_what_http2_allows() -> None:
    assert all("GCM" in suite or "POLY1305" in suite for suite in DEFAULT_SUITES)
    assert all(suite.startswith("ECDHE-") for suite in DEFAULT_SUITES)


@given(st.lists(st.sampled_from(KNOWN)))
def test_any_known_names(names: list[str]) -> None:
    check_suites(names)
    chosen = tls12_suites(names)
    assert len(chosen) == len(set(chosen))
    assert set(chosen) == {SUITES[name] for name in names if name not in TLS13_SUITES}
    if chosen:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(":".join(suite.openssl for suite in chosen))
        found = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
        assert found == {suite.openssl for suite in chosen}


@given(st.lists(st.sampled_from(KNOWN)), st.lists(st.sampled_from(sorted(INSECURE)) | st.text(min_size=1), min_size=1))
def test_every_other_name_is_told(good: list[str], others: list[str]) -> None:
    bad = [name for name in others if name not in KNOWN]
    if not bad:
        return
    with pytest.raises(ValueError) as caught:
        check_suites([*good, *bad])
    told = str(caught.value)
    assert all((f"{name} is insecure" if name in INSECURE else f"{name!r} is unknown") in told for name in bad)
    assert told.endswith(f"(there are: {', '.join(KNOWN)})")


def test_a_flag_with_a_bad_name() -> None:
    flags = {"tls_cipher_suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265, TLS_RSA_WITH_AES_128_CBC_SHA"}
    with pytest.raises(SettingsError) as caught:
        from_text(BbrSettings, flags, {}, [])
    (problem,) = caught.value.problems
    assert problem.startswith("--tls-cipher-suites: 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265' is unknown, did you mean ")
    assert "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256?; TLS_RSA_WITH_AES_128_CBC_SHA is insecure (there are: TLS_" in problem


def test_versions() -> None:
    assert from_text(BbrSettings, {}, {}, []).tls_min_version == "VersionTLS12"
    assert from_text(BbrSettings, {"tls_min_version": "VersionTLS13"}, {}, []).tls_min_version == "VersionTLS13"
    with pytest.raises(SettingsError, match="--tls-min-version: input should be 'VersionTLS12' or 'VersionTLS13'"):
        from_text(BbrSettings, {"tls_min_version": "VersionTLS10"}, {}, [])
