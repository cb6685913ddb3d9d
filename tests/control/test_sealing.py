from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from extproc.control.changes import Create
from extproc.control.sealing import FernetSeal, NoSeal, SealError
from extproc.credentials import Secret
from tests.control.desks import Bench
from tests.settings.serving.documents import KEY, external, openai

SECRET = Secret("é" + KEY)


def test_what_is_sealed_opens_with_its_key_and_no_other() -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = FernetSeal([first]).seal(SECRET)
    assert KEY not in sealed
    assert FernetSeal([second, first]).unseal(sealed) == SECRET
    with pytest.raises(SealError, match="another key"):
        FernetSeal([second]).unseal(sealed)
    with pytest.raises(SealError, match="no key to open it is configured"):
        NoSeal().unseal(sealed)


def test_what_was_stored_before_there_was_a_key_opens() -> None:
    assert FernetSeal([Fernet.generate_key().decode()]).unseal(NoSeal().seal(SECRET)) == SECRET
    assert NoSeal().unseal(NoSeal().seal(SECRET)) == SECRET


@pytest.mark.parametrize("sealed", ["fernet:", "fernet:abc", "fernet:é"])
def test_what_is_not_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(SealError):
        FernetSeal([Fernet.generate_key().decode()]).unseal(sealed)


@pytest.mark.parametrize("key", ["", "short", "é", "A" * 44])
def test_what_is_no_key_is_said_without_it(key: str) -> None:
    with pytest.raises(SealError) as raised:
        FernetSeal([key])
    assert str(raised.value) == "expected keys of 32 bytes in URL-safe base64"


async def test_with_a_key_no_secret_lies_in_the_store() -> None:
    key = Fernet.generate_key().decode()
    bench = Bench(seal=FernetSeal([key]))
    await bench.desk.open()
    await bench.desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    state = await bench.store.load()
    assert KEY.encode() not in state.documents["proxy"]
    (handle,) = bench.desk.get("proxy").sealed
    secret = bench.desk.secret(handle)
    assert secret is not None
    assert secret.reveal() == KEY
    without = Bench(bench.store)
    await without.desk.open()
    assert without.desk.secret(handle) is None
