from __future__ import annotations

from extproc.app.endpoints import KeptSecrets
from extproc.control.changes import Create
from extproc.credentials import Reference, Secret
from extproc.secrets import SecretStore
from tests.control.desks import Bench
from tests.settings.serving.documents import KEY, external, openai


async def test_a_secret_that_was_given_as_text_is_found_by_its_reference_alone() -> None:
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    (handle,) = bench.desk.get("proxy").sealed
    ours, gone, other = Reference("@plaintext", handle), Reference("@plaintext", "gone"), Reference("scope", handle)
    source = KeptSecrets(bench.desk)
    assert await source.read([ours, gone, other]) == {ours: Secret(KEY), gone: None, other: None}
    store = SecretStore([source])
    assert set(await store.check([ours, gone])) == {gone}
    assert store.get(ours).reveal() == KEY
    assert KEY not in f"{source}{source.place(ours)}{store}"
