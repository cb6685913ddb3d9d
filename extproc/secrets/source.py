"""What a source of secrets is, and what text can be a secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from extproc.credentials import Reference, Secret

MAX_SECRET_BYTES: Final = 64 * 1024
"""Of one secret. Envoy takes 60 KiB of headers unless set; private keys need 4 KiB."""


class Unreadable(NamedTuple):
    """It may be there, and can't be read now. `why` is a few words for people, with nothing of the value."""

    why: str


Found: TypeAlias = Secret | Unreadable | None
"""None: it is not there."""


class Source(Protocol):
    """Reads secrets. Never on the way of a request: who needs one asks the `SecretStore`."""

    def place(self, reference: Reference) -> str:
        """Where this source would look, for messages: `EXTPROC_SECRET_OPENAI_KEY of the environment`."""
        ...

    async def read(self, references: Collection[Reference]) -> Mapping[Reference, Found]:
        """What there is now, for each of them. Raises nothing."""
        ...


def secret_of(data: bytes) -> Secret | Unreadable:
    """The secret in bytes that somebody wrote. White space around it is not part of it: editors and `echo` leave line ends.

    What can't be the value of a header is no secret that we could use: control characters, bytes that are not UTF-8.
    Lines are allowed inside, for private keys in PEM; who makes headers of them refuses those.
    """
    if len(data) > MAX_SECRET_BYTES:
        return Unreadable(f"larger than {MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    if not text:
        return Unreadable("empty")
    if any((char < " " and char not in "\r\n\t") or char == "\x7f" for char in text):
        return Unreadable("has control characters")
    return Secret(text)
