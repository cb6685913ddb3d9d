"""`GET …/{name}/shadows`: who may see what of an endpoint's shadows."""

from __future__ import annotations

from collections.abc import Sequence

from tests.api.served import BASE, served
from tests.api.tokens import ALICE, VICTOR, Door
from tests.control.desks import document


class Told:
    """What is asked of the shadows."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, bool]] = []

    def __call__(self, endpoint: str, *, limit: int, bodies: bool) -> Sequence[object]:
        self.asked.append((endpoint, limit, bodies))
        return [{"entity": "b"}]


async def test_the_endpoints_shadows() -> None:
    told = Told()
    async with served(shadows=told) as api:
        await api.post("", document())
        assert (await api.get("/chat/shadows")).json == {"shadows": [{"entity": "b"}]}
        await api.get("/chat/shadows?limit=3")
        await api.get("/chat/shadows?limit=100000&bodies=true")
        assert told.asked == [("chat", 20, False), ("chat", 3, False), ("chat", 200, True)]


async def test_no_endpoint_and_a_query_that_is_none() -> None:
    async with served(shadows=Told()) as api:
        assert (await api.get("/chat/shadows")).status == 404
        await api.post("", document())
        assert (await api.get("/chat/shadows?limit=x")).status == 400
        wrong = await api.get("/chat/shadows?bodies=maybe")
        assert (wrong.status, wrong.json["message"]) == (400, "bodies: got 'maybe'; expected true or false")


async def test_a_gateway_that_can_have_none() -> None:
    async with served() as api:
        await api.post("", document())
        assert (await api.get("/chat/shadows")).json == {"shadows": []}


async def test_bodies_are_for_who_manages_the_endpoint() -> None:
    told, door = Told(), Door()
    async with served(guard=door.guard, shadows=told) as api:
        api.token = ALICE
        await api.post("", document())
        assert (await api.get("/chat/shadows?bodies=true")).status == 200
        api.token = VICTOR
        assert (await api.get("/chat/shadows")).status == 200
        refused = await api.call("GET", f"{BASE}/chat/shadows?bodies=true")
        assert (refused.status, [bodies for *_, bodies in told.asked]) == (403, [True, False])
