"""/debug/plugins: who the plugins are, who needs whom, and what they keep, in bounds."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.admin.plugins import MAX_STATE_BYTES, PluginsOfPool
from extproc.scheduling import build_scheduler
from extproc.settings.picker import load_picker_config
from tests.admin.pages import get, inside, serving
from tests.fakes.chance import seeded
from tests.scheduling.test_needs import ELSEWHERE


def plugins(text: str) -> PluginsOfPool:
    blueprint = build_scheduler(load_picker_config(text)[0], elsewhere=ELSEWHERE)
    return PluginsOfPool(blueprint, blueprint.scheduler(seeded()).dumpers)


CONFIG = """
plugins: [{type: by-sum}, {type: sum}, {type: length}, {type: queue-scorer, name: q}]
schedulingProfiles: [{name: p, plugins: [{pluginRef: by-sum}, {pluginRef: q}]}]
"""


async def test_who_they_are_and_whom_they_need() -> None:
    async with serving(inside(plugins={"a": plugins(CONFIG), "b": plugins("plugins: [{type: queue-scorer}]")})) as port:
        answer = await get(port, "/debug/plugins")
    first, second = answer.json()["pools"]
    by_name: dict[str, Any] = {each["name"]: each for each in first["plugins"]}
    assert list(by_name) == ["length", "sum", "by-sum", "q"], "in the order in which they are made"
    assert by_name["by-sum"] == {
        "name": "by-sum",
        "type": "by-sum",
        "roles": ["scorer"],
        "used_by": ["profile p"],
        "made_on_demand": False,
        "needs": [{"what": "sum", "from": "sum", "optional": False}],
        "asks": [],
    }
    assert by_name["length"]["used_by"] == ["sum"]
    assert by_name["length"]["state"] == {"asked": 0}
    assert by_name["q"]["type"] == "queue-scorer"
    assert (second["pool"], [each["name"] for each in second["plugins"]]) == ("b", ["queue-scorer"])


async def test_a_server_without_pools_has_none() -> None:
    async with serving() as port:
        assert (await get(port, "/debug/plugins")).json() == {"pools": []}
        assert "/debug/plugins" in (await get(port, "/")).body.decode()


class Dumps:
    def __init__(self, state: object) -> None:
        self._state = state

    def dump(self) -> object:
        return self._state


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"n": [1, None]}, {"n": [1, None]}),
        ("x" * MAX_STATE_BYTES, {"error": f"{MAX_STATE_BYTES + 2} bytes, more than {MAX_STATE_BYTES}"}),
        ({1, 2}, {"error": "no JSON: Type is not JSON serializable: set"}),
    ],
)
def test_a_state_is_what_a_page_can_hold(state: object, shown: object) -> None:
    made = plugins(CONFIG)._replace(dumpers={"q": Dumps(state)})
    assert next(each for each in made.shapes() if each["name"] == "q")["state"] == shown
