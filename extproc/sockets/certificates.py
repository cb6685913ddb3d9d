"""Certificates and keys in PEM: read and checked, or made. A key's bytes stay out of every repr, message and log line."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from extproc.settings.base import SettingsError

KeyKind = Literal["ECDSA", "RSA"]

_VALIDITY: Final = timedelta(days=3650)
"""As upstream's. Nobody can trust a certificate that is made anew at each start, so nothing is gained by a shorter one."""

_CLOCK_SKEW: Final = timedelta(hours=1)
_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate and its intermediates, in the order of the file."""

    pem: bytes = field(repr=False)
    certificates: tuple[x509.Certificate, ...] = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        return self.certificates[0]


@dataclass(frozen=True, slots=True)
class Key:
    """A private key without a passphrase."""

    pem: bytes = field(repr=False)
    public: bytes = field(repr=False)
    """Its public half, to find the certificate that it belongs to."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a server says it is: a certificate, its intermediates, and the key to the first."""

    chain: Chain
    key: Key

    @property
    def not_after_s(self) -> float:
        """When the certificate expires, or the first of its intermediates: seconds since 1970."""
        return min(each.not_valid_after_utc for each in self.chain.certificates).timestamp()

    @property
    def not_before_s(self) -> float:
        """When the certificate becomes valid."""
        return self.chain.leaf.not_valid_before_utc.timestamp()

    @property
    def key_kind(self) -> KeyKind:
        """Which cipher suites of TLS 1.2 it is for."""
        return "RSA" if isinstance(self.chain.leaf.public_key(), rsa.RSAPublicKey) else "ECDSA"

    def describe(self) -> dict[str, Any]:
        """What a log line may say."""
        leaf = self.chain.leaf
        return {
            "subject": leaf.subject.rfc4514_string(),
            "issuer": leaf.issuer.rfc4514_string(),
            "sans": subject_alternative_names(leaf),
            "not_before": leaf.not_valid_before_utc.isoformat(),
            "not_after": leaf.not_valid_after_utc.isoformat(),
            "sha256": leaf.fingerprint(hashes.SHA256()).hex(),
        }


def subject_alternative_names(certificate: x509.Certificate) -> list[str]:
    """DNS names, addresses and URIs; what else there is, is left out."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [
        str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress | x509.UniformResourceIdentifier)
    ]


def read_chain(data: bytes) -> Chain:
    """One or more certificates, the server's first. Raises SettingsError."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(data))
        _public(chain[0].public_key())
    except Exception:  # the library has many kinds of complaint, some of them not its own
        raise SettingsError([_not_pem(data, "a certificate")]) from None
    return Chain(data, chain)


def read_key(data: bytes) -> Key:
    """A private key. Raises SettingsError, which does not tell what is in the file."""
    try:
        return _key(load_pem_private_key(data, None), data)
    except TypeError:
        raise SettingsError(["the key is encrypted, and there is nobody to ask for its passphrase"]) from None
    except Exception:
        raise SettingsError([_not_pem(data, "a private key")]) from None


def paired(chain: Chain, key: Key) -> Identity:
    """Raises SettingsError when the key does not belong to the first certificate."""
    if _public(chain.leaf.public_key()) != key.public:
        raise SettingsError(["the key does not belong to the certificate (the first one in its file)"])
    return Identity(chain, key)


def self_signed(names: Iterable[str], now_s: float, kind: KeyKind = "ECDSA") -> Identity:
    """A certificate for these names and addresses that nobody has signed: it encrypts, but proves nothing.

    `now_s` is in seconds since 1970. ECDSA on P-256 takes a millisecond; RSA fifty, and is only for clients that can't do
    otherwise.
    """
    private = ec.generate_private_key(ec.SECP256R1()) if kind == "ECDSA" else rsa.generate_private_key(65537, _RSA_BITS)
    now = datetime.fromtimestamp(now_s, UTC)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "extproc"), x509.NameAttribute(NameOID.COMMON_NAME, "extproc")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return paired(Chain(certificate.public_bytes(Encoding.PEM), (certificate,)), _key(private, pem))


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name and name.isascii() and len(name) <= 253:
                found.append(x509.DNSName(name))
    return found


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key(private: PrivateKeyTypes, pem: bytes) -> Key:
    return Key(pem, _public(private.public_key()))


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _not_pem(data: bytes, wanted: str) -> str:
    if not data.strip():
        return f"expected {wanted} in PEM, the file is empty"
    return f"expected {wanted} in PEM" + ("" if b"-----BEGIN" in data else ", found nothing of PEM")
