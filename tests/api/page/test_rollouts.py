"""Rollouts on pages: begun with a preview, steered after a question, seen by who may see the endpoint."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from extproc.control.changes import Create, Declare
from extproc.rollouts.judge import Look
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times
from tests.api.page.test_splitting import fields
from tests.api.page.visitors import PARTLY, Visitor, visiting
from tests.api.tokens import ALICE, QUENTIN, VICTOR
from tests.control.desks import document

PLAN: dict[str, Any] = {"baseline": "a", "canary": "b", "steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]}
PATH = "/ui/endpoints/chat/rollout"


async def begun(visitor: Visitor, name: str = "chat", plan: dict[str, Any] = PLAN) -> None:
    await visitor.bench.desk.apply(Create(document(name, a=100, b=0)), "alice")
    await visitor.bench.rollouts.start(name, plan, "alice")
    await visitor.bench.rollouts.round()


async def do(visitor: Visitor, action: str) -> tuple[int, str]:
    """Press the button, and say yes."""
    asked = await visitor.send(f"{PATH}/command", {"action": action, "step": "ask"}, PARTLY)
    assert asked.status == 200
    (title,) = re.findall(r">(Yes: [^<]+)</button>", asked.text)
    seen = await visitor.send(f"{PATH}/command", fields(asked.text, title) | {"step": "do"}, PARTLY)
    return seen.status, seen.where or seen.text


async def test_one_is_previewed_begun_and_shown() -> None:
    async with visiting(ALICE) as visitor:
        await visitor.bench.desk.apply(Create(document("chat", a=100, b=0)), "alice")
        page = await visitor.look(PATH)
        assert "It has none, and had none." in page.text
        assert "&#34;baseline&#34;: &#34;a&#34;" in page.text, "a plan to begin with"
        seen = await visitor.send(PATH, {"plan": json.dumps(PLAN), "step": "preview"}, PARTLY)
        assert seen.status == 200
        assert "<li>setWeight 10</li><li>pause until promoted</li><li>setWeight 50</li>" in seen.text
        assert "Watched: ttft, error-rate." in seen.text
        assert "has none" in (await visitor.look(PATH)).text, "nothing is begun by a preview"
        seen = await visitor.send(PATH, {"plan": json.dumps(PLAN), "step": "do"}, PARTLY)
        assert (seen.status, seen.where) == (204, PATH)
        await visitor.bench.rollouts.round()
        assert visitor.bench.shares("chat") == {"a": 90, "b": 10}
        page = await visitor.look(PATH)
        assert '<span class="state" data-state="Progressing">' in page.text
        assert 'aria-label="b has 10 % of the requests"' in page.text
        assert "alice@example.com" in page.text
        assert 'hx-trigger="every 3s"' in page.text
        part = await visitor.ask("GET", f"{PATH}?part=1", PARTLY)
        assert "<html" not in part.text
        assert 'aria-current="step"' in part.text
        assert 'hx-swap-oob="true"' in part.text, "nobody has said which buttons there are"
        part = await visitor.ask("GET", f"{PATH}?part=1&has=pause,promote,promote-full,abort", PARTLY)
        assert "<button" not in part.text, "they are the same"


@pytest.mark.parametrize(
    ("plan", "status", "words"),
    [
        ('{"canary": "b", "steps": [{"setWeight": 1}]}', 400, "rollout.baseline: got nothing"),
        ("steps: [{setWeight: 10}, {setWeight: 5}]\nbaseline: a\ncanary: b", 400, "steps[1].setWeight: got 5 after 10"),
        ("{", 400, "Line 2, column 1"),
        ("", 400, "rollout"),
        ("baseline: a\ncanary: <script>\nsteps: [{setWeight: 10}]", 400, "&lt;script&gt;"),
    ],
)
async def test_a_plan_that_can_not_be_followed_says_where(plan: str, status: int, words: str) -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Create(document("chat", a=100, b=0)), "alice")
        for headers in (PARTLY, {}):
            seen = await visitor.send(PATH, {"plan": plan, "step": "do"}, headers)
            assert seen.status == status, seen.text
            assert words in seen.text
        assert ">" + plan.replace("<script>", "&lt;script&gt;").replace('"', "&#34;") + "</textarea>" in seen.text, "it stays"


async def test_what_is_done_with_one_is_asked_first() -> None:
    async with visiting() as visitor:
        await begun(visitor)
        await visitor.bench.rollouts.round()
        page = (await visitor.look(PATH)).text
        assert ">Paused</span> until somebody promotes it" in page
        assert 'value="resume">' not in page, "that is for promote"
        assert await do(visitor, "pause") == (204, PATH)
        page = (await visitor.look(PATH)).text
        assert ">Paused</span>" in page
        assert 'value="resume">' in page
        assert 'value="pause">' not in page
        assert await do(visitor, "resume") == (204, PATH)
        assert await do(visitor, "promote-full") == (204, PATH)
        page = (await visitor.look(PATH)).text
        assert ">Healthy</span>" in page
        assert 'hx-trigger="every 3s"' not in page, "nothing changes any more"
        assert await do(visitor, "undo") == (204, PATH)
        status, text = await do(visitor, "pause")
        assert status == 409
        assert "The rollout of &#39;chat&#39; can&#39;t do that" in text
        assert (await visitor.send(f"{PATH}/command", {"action": "launch", "step": "do"}, PARTLY)).status == 400


async def test_aborted_the_shares_of_before_come_back() -> None:
    async with visiting() as visitor:
        await begun(visitor)
        assert visitor.bench.shares("chat") == {"a": 90, "b": 10}
        assert await do(visitor, "abort") == (204, PATH)
        await visitor.bench.rollouts.round()
        assert visitor.bench.shares("chat") == {"a": 100, "b": 0}
        assert ">Degraded</span>" in (await visitor.look(PATH)).text


async def test_without_scripts_the_question_is_a_page() -> None:
    async with visiting() as visitor:
        await begun(visitor)
        seen = await visitor.send(f"{PATH}/command", {"action": "pause", "step": "ask"})
        assert "<html" in seen.text
        seen = await visitor.send(f"{PATH}/command", fields(seen.text, "Yes: pause") | {"step": "do"})
        assert (seen.status, seen.where) == (303, PATH)


async def test_who_may_only_view_looks() -> None:
    async with visiting(VICTOR) as visitor:
        await begun(visitor)
        page = await visitor.look(PATH)
        assert (page.status, "You may look at it" in page.text, "<textarea" in page.text) == (200, True, False)
        assert 'name="action"' not in page.text
        assert (await visitor.send(f"{PATH}/command", {"action": "abort", "step": "do"}, PARTLY)).status == 403
        assert (await visitor.send(PATH, {"plan": json.dumps(PLAN), "step": "do"}, PARTLY)).status == 403


async def test_the_list_has_those_that_go_on_first_and_only_what_the_visitor_may_see() -> None:
    async with visiting(QUENTIN) as visitor:
        assert "There are none" in (await visitor.look("/ui/rollouts")).text
        await begun(visitor)
        await begun(visitor, "other")
        text = (await visitor.look("/ui/rollouts")).text
        assert 'href="/ui/endpoints/chat/rollout"' in text
        assert "other" not in text
    async with visiting(ALICE) as visitor:
        await begun(visitor, "first")
        await visitor.bench.rollouts.command("first", "promote", "alice", full=True)
        await begun(visitor, "second")
        text = (await visitor.look("/ui/rollouts")).text
        assert text.index("endpoints/second/rollout") < text.index("endpoints/first/rollout")


async def test_what_a_file_declares_has_none_from_here() -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Declare("file:gateway.yaml", [document()]), "file:gateway.yaml")
        page = (await visitor.look(PATH)).text
        assert "there is no rollout from here" in page
        assert "<textarea" not in page
        assert (await visitor.send(PATH, {"plan": json.dumps(PLAN), "step": "do"}, PARTLY)).status == 409


async def test_its_measures_over_time() -> None:
    async with visiting() as visitor:
        plan = {
            **PLAN,
            "noveltyPeriod": 0,
            "metrics": [{"name": "slow", "interval": 1, "compare": {"measure": "ttft", "tolerance": 0.25}}],
        }
        await begun(visitor, plan=plan)
        page = (await visitor.look(PATH)).text
        assert f'data-plots="{PATH}/plots"' in page
        await visitor.bench.rollouts.round()
        for number in range(200, 601, 200):
            sample = ArmSample(number, ttft=Times({"": Moments(number, -1.0, 0.04 * number)}))
            visitor.bench.look = Look(Pair(sample, sample))
            visitor.bench.later_s += 2
            await visitor.bench.rollouts.round()
        (plot,) = json.loads((await visitor.look(f"{PATH}/plots")).text)["plots"]
        assert plot["title"] == "slow: how much longer the canary takes"
        high, low, difference, tolerated = [series["values"] for series in plot["series"]]
        assert difference
        assert low[-1] < difference[-1] == 0 < high[-1]
        assert set(tolerated) == {0.25}
        assert plot["y"][0] <= low[-1] < high[-1] <= plot["y"][1]
        assert "tolerated" in (await visitor.ask("GET", f"{PATH}/plots?as=table", PARTLY)).text


async def test_without_a_rollout_nothing_is_drawn() -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Create(document("chat", a=100, b=0)), "alice")
        assert json.loads((await visitor.look(f"{PATH}/plots")).text) == {"plots": []}
