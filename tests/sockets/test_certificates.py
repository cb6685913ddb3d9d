"""Certificates and keys, read and made."""

from __future__ import annotations

import subprocess
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.sockets.certificates import KeyKind, paired, read_chain, read_key, self_signed, subject_alternative_names
from tests.costs import costs_less
from tests.fakes.certificates import RSA, Authority, PrivateKey

NOW_S = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_self_signed(kind: KeyKind) -> None:
    made = self_signed(["localhost", "host_1", "127.0.0.1", "::1", "localhost", "", "größe"], NOW_S, kind)
    assert subject_alternative_names(made.chain.leaf) == ["localhost", "host_1", "127.0.0.1", "::1"]
    assert made.key_kind == kind
    assert made.not_before_s < NOW_S
    assert made.not_after_s == NOW_S + 3650 * 86400
    assert paired(read_chain(made.chain.pem), read_key(made.key.pem)).describe() == made.describe()
    assert made.describe()["subject"] == made.describe()["issuer"] == "CN=extproc,O=extproc"


def test_each_start_has_its_own() -> None:
    one, two = self_signed(["a"], NOW_S), self_signed(["a"], NOW_S)
    assert one.key.pem != two.key.pem
    assert one.chain.leaf.serial_number != two.chain.leaf.serial_number


def test_making_one_does_not_hold_up_the_start() -> None:
    assert costs_less(lambda: self_signed(["a"], NOW_S), 0.5)  # it takes about 2 ms; upstream's RSA key takes seconds


def test_openssl_agrees(authority: Authority) -> None:
    made = self_signed(["localhost"], time.time())
    command = ["openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName,extendedKeyUsage", "-checkend", "86400"]
    done = subprocess.run(command, input=made.chain.pem, capture_output=True, check=True)
    assert b"DNS:localhost" in done.stdout
    assert b"TLS Web Server Authentication" in done.stdout


@pytest.mark.parametrize("key", [None, RSA, ed25519.Ed25519PrivateKey.generate()])
def test_keys_of_all_kinds(authority: Authority, key: PrivateKey | None) -> None:
    signed = authority.issue("name", key=key)
    found = paired(read_chain(signed.chain), read_key(signed.key))
    assert found.key_kind == ("RSA" if isinstance(key, rsa.RSAPrivateKey) else "ECDSA")
    assert found.describe()["subject"] == "CN=name"
    assert found.describe()["sans"] == ["name", "localhost", "127.0.0.1"]


def test_a_key_as_openssl_ecparam_writes_it() -> None:
    pem = subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey"], capture_output=True, check=True).stdout
    assert pem.startswith(b"-----BEGIN EC PARAMETERS")
    assert read_key(pem).public


def test_the_first_to_expire_of_a_chain_counts(authority: Authority) -> None:
    soon = authority.issue("intermediate", days=(-1, 2))
    signed = authority.issue(intermediates=soon.chain)
    found = paired(read_chain(signed.chain), read_key(signed.key))
    assert len(found.chain.certificates) == 2
    assert found.not_after_s - time.time() < 2 * 86400


def test_a_key_of_another(authority: Authority) -> None:
    with pytest.raises(SettingsError, match="the key does not belong to the certificate"):
        paired(read_chain(authority.issue().chain), read_key(authority.issue().key))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "expected a certificate in PEM, the file is empty"),
        (b"\n", "expected a certificate in PEM, the file is empty"),
        (b"hello", "expected a certificate in PEM, found nothing of PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "expected a certificate in PEM"),
    ],
)
def test_no_certificate(data: bytes, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_chain(data)
    assert caught.value.problems == [problem]


def test_no_key(authority: Authority) -> None:
    signed = authority.issue(password=b"secret")
    for data, problem in (
        (b"", "expected a private key in PEM, the file is empty"),
        (signed.chain, "expected a private key in PEM"),
        (signed.key, "the key is encrypted, and there is nobody to ask for its passphrase"),
    ):
        with pytest.raises(SettingsError) as caught:
            read_key(data)
        assert caught.value.problems == [problem]


@given(st.binary(max_size=200), st.integers(0, 600), st.booleans())
def test_any_bytes(noise: bytes, at: int, as_key: bool) -> None:
    """What can't be read is said, and without what it is."""
    pem = _PEM[0 if as_key else 1]
    data = pem[:at] + noise + pem[at + len(noise) :]
    problems = []
    try:
        if as_key:
            read_key(data)
        else:
            read_chain(data)
    except SettingsError as error:
        problems = error.problems
    assert problems in ([], ["the key is encrypted, and there is nobody to ask for its passphrase"]) or (
        len(problems) == 1 and problems[0].startswith("expected a ")
    )


def test_keys_stay_out_of_reprs() -> None:
    made = self_signed(["a"], NOW_S)
    assert "BEGIN" not in repr(made)
    assert "PRIVATE" not in f"{made} {made.key} {made.describe()}"


_MADE = self_signed(["a"], NOW_S)
_PEM = (_MADE.key.pem, _MADE.chain.pem)
