"""/debug/shadows: the shadows of all endpoints."""

from __future__ import annotations

from tests.admin.pages import get, inside, serving


async def test_all_of_them() -> None:
    async with serving(inside(shadows=lambda: [{"serving_endpoint": "ep", "entity": "next"}])) as port:
        assert (await get(port, "/debug/shadows")).json() == {"shadows": [{"serving_endpoint": "ep", "entity": "next"}]}


async def test_a_server_that_can_have_none() -> None:
    async with serving() as port:
        assert (await get(port, "/debug/shadows")).json() == {"shadows": []}
        assert "/debug/shadows" in (await get(port, "/")).body.decode()
