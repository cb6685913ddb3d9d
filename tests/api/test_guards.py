"""Guards of `PUT …/config`."""

from __future__ import annotations

import time

from tests.api.served import served
from tests.control.desks import Bench, document, split


async def test_guarded_when_asked_for_and_past_it_by_force() -> None:
    bench = Bench()
    bench.desk._clock = lambda: int(time.time() * 1000)
    async with served(bench) as api:
        await api.post("", document("chat", a=100, b=0))
        assert (await api.put("/chat/config?guard=true", split(a=50, b=50))).status == 200
        refused = await api.put("/chat/config?guard=true", split(a=0, b=100))
        status, code, message = refused.error
        assert (status, code) == (409, "RESOURCE_CONFLICT")
        assert message.startswith("50 % of the traffic were moved ")
        assert message.endswith("; or say force")
        tried = await api.put("/chat/config?guard=true&dry_run=true", split(a=0, b=100))
        assert tried.status == 200
        assert [each.partition(" % of")[0] for each in tried.json["guards"]] == ["50"]
        assert (await api.put("/chat/config?bake=1m", split(a=0, b=100))).status == 409
        assert bench.shares("chat") == {"a": 50, "b": 50}
        assert (await api.put("/chat/config?guard=true&force=true", split(a=0, b=100))).status == 200
        assert (await api.put("/chat/config", split(a=100, b=0))).status == 200, "as clients do that know nothing of it"
        assert (await api.put("/chat/config?dry_run=true", split(a=0, b=100))).json["guards"] == []


async def test_the_twin_has_them_too() -> None:
    bench = Bench(guarded="all")
    bench.desk._clock = lambda: int(time.time() * 1000)
    async with served(bench) as api:
        await api.post("", document("chat", a=100, b=0))
        assert (await api.put("/pt/chat/config", {"config": split(a=50, b=50)})).status == 200
        assert (await api.put("/pt/chat/config", {"config": split(a=0, b=100)})).status == 409
        assert (await api.put("/pt/chat/config?force=true", {"config": split(a=0, b=100)})).status == 200


async def test_words_that_mean_nothing() -> None:
    async with served() as api:
        await api.post("", document("chat", a=100, b=0))
        for words, said in (
            ("bake=soon", "bake: got 'soon'; expected a duration such as 50ms, 2s or 1m30s"),
            ("guard=perhaps", "guard: got 'perhaps'; expected true or false"),
            ("force=2", "force: got '2'; expected true or false"),
        ):
            assert (await api.put(f"/chat/config?{words}", split(a=50, b=50))).error == (400, "INVALID_PARAMETER_VALUE", said)
