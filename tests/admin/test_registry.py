"""/debug/registry: what the registry of models has said last."""

from __future__ import annotations

from tests.admin.pages import get, inside, serving


async def test_the_page() -> None:
    shape = {"trouble": "", "answer_age_s": 1.5, "models": {"churn": {"aliases": {"champion": "3"}, "there": True}}}
    async with serving(inside(registry=lambda: shape)) as port:
        assert (await get(port, "/debug/registry")).json() == shape


async def test_a_server_without_a_registry_says_nothing_of_one() -> None:
    async with serving(inside()) as port:
        assert (await get(port, "/debug/registry")).json() == {}
        assert "/debug/registry" in (await get(port, "/")).body.decode()
