"""A split is shown before it is moved; two people who move the same one see both changes."""

from __future__ import annotations

import re

import pytest

from extproc.control.changes import Create, Declare, Delete, PatchTags, UpdateConfig
from tests.api.page.visitors import PARTLY, visiting
from tests.control.desks import Bench, document, split


def fields(text: str, button: str) -> dict[str, str]:
    """Of the form that has this button."""
    (form,) = [each for each in re.findall(r"(?s)<form.*?</form>", text) if f">{button}</button>" in each]
    return dict(re.findall(r'<input[^>]*name="([^"]+)" value="([^"]*)"', form))


async def test_a_preview_says_who_moves_and_changes_nothing() -> None:
    bench = Bench(load_of=lambda pool: {"endpoints": 3.0, "waiting": 2.0})
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        seen = await visitor.split(a=50, b=50)
        assert seen.status == 200
        assert "<strong>40 %</strong> of the users move" in seen.text
        assert "40 % go" in seen.text
        assert "40 % come" in seen.text
        assert '90 % <span class="arrow">becomes</span> 50 %' in seen.text, "of pool a"
        assert "3 endpoints, 2 waiting" in seen.text
        assert "<html" not in seen.text, "a part of the page"
        assert bench.shares("chat") == {"a": 90, "b": 10}


async def test_what_was_previewed_is_applied_with_its_reason() -> None:
    bench = Bench()
    async with visiting("dapi-token-of-alice", bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        form = fields((await visitor.split(a=50, b=50)).text, "Apply")
        seen = await visitor.send("/ui/endpoints/chat/split", form | {"reason": "half & half", "step": "apply"}, PARTLY)
        assert (seen.status, seen.where) == (204, "/ui/endpoints/chat?done=2")
        assert bench.shares("chat") == {"a": 50, "b": 50}
        entry = (await bench.desk.history("chat"))[0]
        assert (entry.actor, entry.reason) == ("alice@example.com", "half & half")
        text = (await visitor.look(seen.where)).text
        assert "Version 2 is in force" in text
        assert "half &amp; half" in text
        assert "<del>90</del>" in text


async def test_what_guards_are_against_is_said_before_and_not_done() -> None:
    bench = Bench(
        guarded="all", load_of=lambda pool: {"endpoints": 4.0 if pool == "a" else 1.0, "running": 80.0 if pool == "a" else 0.0}
    )
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        seen = await visitor.split(a=50, b=50)
        assert "This is refused here: pool b would have about 32 requests at once" in seen.text
        form = fields(seen.text, "Apply")
        assert form.pop("force") == "yes", "a box to tick"
        done = await visitor.send("/ui/endpoints/chat/split", form | {"step": "apply"}, PARTLY)
        assert done.status == 409
        assert "or say force" in done.text
        assert bench.shares("chat") == {"a": 90, "b": 10}
        done = await visitor.send("/ui/endpoints/chat/split", form | {"step": "apply", "force": "yes"}, PARTLY)
        assert (done.status, bench.shares("chat")) == (204, {"a": 50, "b": 50})


async def test_without_scripts_the_same_is_a_page() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        began = {"began:a": "90", "began:b": "10"}
        wanted = {"version": 1, "step": "preview", "share:a": 40, "share:b": 60, **began}
        seen = await visitor.send("/ui/endpoints/chat/split", wanted)
        assert seen.status == 200
        assert "<html" in seen.text
        assert 'name="share:a" min="0" max="100" step="1" value="40"' in seen.text, "the editor has what was wanted"
        seen = await visitor.send("/ui/endpoints/chat/split", fields(seen.text, "Apply") | {"step": "apply"})
        assert (seen.status, seen.where) == (303, "/ui/endpoints/chat?done=2")
        seen = await visitor.send("/ui/endpoints/chat/split", wanted)
        assert seen.status == 409
        assert "Somebody was faster" in seen.text
        assert "<html" in seen.text


async def test_a_split_that_is_none_is_refused_in_the_api_s_words() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        seen = await visitor.split(a=50, b=51)
        assert seen.status == 400
        assert "expected shares that add up to 100" in seen.text
        assert 'role="alert"' in seen.text
        assert "10 % go" in (await visitor.split(a=100)).text, "who is not named gets nothing"


async def test_who_comes_second_sees_both_changes_and_may_have_both() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "nobody", reason="in a former life")
        await bench.desk.apply(Delete("chat"), "alice")
        await bench.desk.apply(Create(document(a=80, b=10, c=10)), "alice")
        await bench.desk.apply(UpdateConfig("chat", split(a=70, b=20, c=10)), "bob <b>", reason="more for b")
        wanted = {f"share:{name}": share for name, share in (("a", 70), ("b", 10), ("c", 20))}
        began = {f"began:{name}": share for name, share in (("a", 80), ("b", 10), ("c", 10))}
        seen = await visitor.send("/ui/endpoints/chat/split", {"version": 1, "step": "apply", **began, **wanted}, PARTLY)
        assert seen.status == 409
        assert bench.shares("chat") == {"a": 70, "b": 20, "c": 10}
        assert "bob &lt;b&gt; has changed it" in seen.text
        assert "more for b" in seen.text
        both = fields(seen.text, "Preview both together")
        assert {name: both[f"share:{name}"] for name in "abc"} == {"a": "60", "b": "20", "c": "20"}
        assert both["version"] == "2"
        mine = fields(seen.text, "Preview yours over it")
        assert {name: mine[f"share:{name}"] for name in "abc"} == {"a": "70", "b": "10", "c": "20"}
        seen = await visitor.send("/ui/endpoints/chat/split", both | {"step": "preview"}, PARTLY)
        seen = await visitor.send("/ui/endpoints/chat/split", fields(seen.text, "Apply") | {"step": "apply"}, PARTLY)
        assert (seen.status, bench.shares("chat")) == (204, {"a": 60, "b": 20, "c": 20})


async def test_an_entity_that_came_meanwhile_leaves_no_choice_but_to_look() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        await bench.desk.apply(UpdateConfig("chat", document(a=40, b=30, c=30)["config"]), "bob")
        seen = await visitor.split("apply", a=50, b=50)
        assert seen.status == 409
        assert "does not fit any more" in seen.text
        assert "Preview yours" not in seen.text


async def test_a_version_of_before_is_previewed_and_taken_back() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "alice")
        text = (await visitor.look("/ui/endpoints/chat")).text
        back = fields(text, "Back to version 1 …")
        seen = await visitor.send("/ui/endpoints/chat/revert", back | {"step": "preview"}, PARTLY)
        assert "Back to version 1: what it would do" in seen.text
        assert bench.shares("chat") == {"a": 50, "b": 50}
        again = fields(seen.text, "Back to version 1")
        assert again["reason"] == "back to version 1"
        seen = await visitor.send("/ui/endpoints/chat/revert", again | {"step": "apply"}, PARTLY)
        assert (seen.status, bench.shares("chat")) == (204, {"a": 90, "b": 10})
        stale = await visitor.send("/ui/endpoints/chat/revert", again | {"step": "apply"}, PARTLY)
        assert stale.status == 409
        assert "changed meanwhile" in stale.text
        gone = again | {"step": "preview", "version": 3, "back_to": 77}
        assert (await visitor.send("/ui/endpoints/chat/revert", gone)).status == 404


async def test_versions_of_a_former_life_and_of_no_other_config_are_no_way_back() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Create(document()), "alice")
        await bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "alice")
        await bench.desk.apply(Delete("chat"), "alice")
        await bench.desk.apply(Create(document(a=10, b=90)), "alice")
        assert "Back to version" not in (await visitor.look("/ui/endpoints/chat")).text
        assert (await visitor.look("/ui/endpoints/chat")).text.count("in force") == 1
        await bench.desk.apply(PatchTags("chat", {"add_tags": [{"key": "team"}]}), "alice")
        await bench.desk.apply(UpdateConfig("chat", split(a=20, b=80)), "alice")
        text = (await visitor.look("/ui/endpoints/chat")).text
        assert text.count(">Back to version 1 …</button>") == 1
        assert text.count("Back to version 2") == 0
        await bench.desk.apply(Delete("chat"), "alice")
        text = (await visitor.look("/ui/endpoints/chat/history")).text
        assert "The endpoint was deleted." in text
        assert "Back to version" not in text


async def test_what_a_file_declares_is_not_edited_here() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        await bench.desk.apply(Declare("file:gateway.yaml", [document()]), "file:gateway.yaml")
        text = (await visitor.look("/ui/endpoints/chat")).text
        assert "It is declared by <strong>file:gateway.yaml</strong>" in text
        assert 'method="post"' not in text
        seen = await visitor.split("apply", a=50, b=50)
        assert seen.status == 409
        assert "belongs to file:gateway.yaml" in seen.text


async def test_a_new_endpoint() -> None:
    async with visiting() as visitor:
        row = {"name:0": "a", "model:0": "model-A", "share:0": "60", "name:1": "b", "model:1": "model-B", "share:1": "40"}
        draft = {"name": "chat", "description": "d", "reason": "why", **row}
        more = await visitor.send("/ui/new", draft | {"step": "more"})
        assert more.text.count('name="model:') == 3
        assert 'value="model-B"' in more.text
        seen = await visitor.send("/ui/new", draft | {"name:2": "", "model:2": "", "share:2": "", "step": "create"})
        assert (seen.status, seen.where) == (303, "/ui/endpoints/chat?done=1")
        assert visitor.bench.shares("chat") == {"a": 60, "b": 40}
        assert (await visitor.bench.desk.history("chat"))[0].reason == "why"


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"share:0": "61"}, 400, "add up to 100"),
        ({"share:0": "x"}, 400, "expected a share in percent"),
        ({"model:0": "no-such"}, 400, "no-such"),
        ({"name": "two words"}, 400, "name"),
        ({"name": "there"}, 409, "exists already"),
    ],
)
async def test_a_new_endpoint_that_is_refused_keeps_what_was_written(wrong: dict[str, str], status: int, words: str) -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Create(document("there")), "alice")
        row = {"name:0": "a", "model:0": "model-A", "share:0": "60", "name:1": "b", "model:1": "model-B", "share:1": "40"}
        seen = await visitor.send("/ui/new", {"name": "chat", "description": "", "reason": "", "step": "create", **row} | wrong)
        assert seen.status == status
        assert words in seen.text
        assert 'value="model-B"' in seen.text
