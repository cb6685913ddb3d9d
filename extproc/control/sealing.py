"""Secrets that are given as text, as they lie in a store.

Without a key they lie there as they came, readable for whoever reads the database. With keys they are sealed by Fernet
(AES-128-CBC and HMAC-SHA256, github.com/fernet/spec): the first key seals, all of them open, so that keys can be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from extproc.credentials import Secret

_OPEN: Final = "text:"
_FERNET: Final = "fernet:"


class SealError(ValueError):
    """A sealed secret can't be opened, or a key is none. Nothing of either is in the message."""


class Seal(Protocol):
    """Makes text of a secret that may be stored, and a secret of that again."""

    def seal(self, secret: Secret) -> str: ...

    def unseal(self, sealed: str) -> Secret:
        """Raises SealError."""
        ...


class NoSeal:
    """Keeps them as they are."""

    def seal(self, secret: Secret) -> str:
        return _OPEN + secret.reveal()

    def unseal(self, sealed: str) -> Secret:
        if not sealed.startswith(_OPEN):
            raise SealError("the secret is sealed, and no key to open it is configured")
        return Secret(sealed.removeprefix(_OPEN))


class FernetSeal:
    """Seals with the first key. What was stored without a key opens too, and is sealed when it is next given."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Keys in base64, 32 bytes each, as `Fernet.generate_key()` makes them. Raises SealError."""
        if not keys:
            raise SealError("has no key; expected one in each line")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except (ValueError, TypeError):
            raise SealError("expected keys of 32 bytes in URL-safe base64") from None

    def __repr__(self) -> str:
        return "<FernetSeal>"

    def seal(self, secret: Secret) -> str:
        return _FERNET + self._fernet.encrypt(secret.reveal().encode()).decode()

    def unseal(self, sealed: str) -> Secret:
        if sealed.startswith(_OPEN):
            return NoSeal().unseal(sealed)
        try:
            return Secret(self._fernet.decrypt(sealed.removeprefix(_FERNET).encode()).decode())
        except (InvalidToken, ValueError):
            raise SealError("the secret is sealed with another key") from None
