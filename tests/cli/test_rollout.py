"""`extproc rollout` and `extproc split` against the API."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from extproc.cli import main
from extproc.cli.rollout_view import lines, picture, showing
from extproc.control.changes import Create
from tests.api.served import Api, served
from tests.control.desks import Bench, document

PLAN = {"baseline": "a", "canary": "b", "steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 20}]}


async def run(api: Api, *arguments: str) -> Result:
    environ = {"EXTPROC_API": f"http://127.0.0.1:{api.port}"}
    return await asyncio.to_thread(lambda: CliRunner().invoke(main, list(arguments), env=environ))


async def made(bench: Bench, **shares: int) -> None:
    await bench.desk.apply(Create(document("chat", **(shares or {"a": 100, "b": 0}))), "ann")


async def test_a_rollout_from_the_command_line(tmp_path: Path) -> None:
    bench = Bench()
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"rollout": PLAN}))
    async with served(bench) as api:
        await made(bench)
        assert (await run(api, "rollout", "start", "chat", "--plan", str(plan), "--dry-run")).exit_code == 0
        begun = await run(api, "rollout", "start", "chat", "--plan", str(plan))
        assert begun.exit_code == 0, begun.output
        assert "chat: Progressing" in begun.output
        await bench.rollouts.round()
        status = await run(api, "rollout", "status", "chat", "--json")
        assert json.loads(status.output[status.output.index("{\n") :])["weight"] == 10, (
            "behind the log of the API, which runs here too"
        )
        for action, said in (("pause", "Paused"), ("resume", "Progressing"), ("promote", "Progressing")):
            done = await run(api, "rollout", action, "chat")
            assert f"chat: {said}" in done.output, done.output
        promoted = await run(api, "rollout", "promote", "chat", "--full", "--watch")
        assert promoted.exit_code == 0
        assert "promoted: b has taken over" in promoted.output
        assert "chat: Undone, by " in (await run(api, "rollout", "undo", "chat")).output


async def test_who_watches_a_rollout_that_is_taken_back_hears_it_in_the_exit_code(tmp_path: Path) -> None:
    bench = Bench()
    async with served(bench) as api:
        await made(bench)
        await bench.rollouts.start("chat", PLAN, "ann")
        await bench.rollouts.round()
        done = await run(api, "rollout", "abort", "chat", "--watch")
        assert done.exit_code == 1
        assert "rolled back: by " in done.output


async def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    bench = Bench()
    bad = tmp_path / "plan.yaml"
    bad.write_text("baseline: a\ncanary: b\nsteps: [{setWeight: 10}, {setWeight: 5}]\n")
    async with served(bench) as api:
        await made(bench)
        refused = await run(api, "rollout", "start", "chat", "--plan", str(bad))
        assert refused.exit_code == 2
        assert "rollout.steps[1].setWeight: got 5 after 10; expected more" in refused.output
        assert "has no rollout" in (await run(api, "rollout", "status", "chat")).output
        for text, said in (
            (b"a: [", "plan.yaml: line 2, column 1: expected YAML or JSON"),
            (b"", "plan.yaml: got nothing; expected a plan"),
            (b"- a", "plan.yaml: got a list of 1; expected a plan"),
            (b"rollout: {}", "plan.yaml: got an object with 0 keys; expected a plan"),
            (b"\xff", "plan.yaml: line 1: expected UTF-8 text"),
        ):
            bad.write_bytes(text)
            wrong = await run(api, "rollout", "start", "chat", "--plan", str(bad))
            assert wrong.exit_code == 2
            assert said in wrong.output
        for words, said in (
            (("rollout", "status", "chat", "--full"), "--full belongs to promote, not to status"),
            (("rollout", "status", "chat", "--api", "ftp://x"), "expected an address such as"),
            (("split", "chat", "a"), "expected ENTITY=PERCENT"),
            (("split", "chat", "a=50", "a=50"), "a: is given twice; expected each entity once"),
            (("split", "chat", "a=89.5", "b=10.5"), "a: got '89.5'; expected a whole number from 0 to 100"),
            (("split", "chat", "a=90%"), "a: got '90%'; expected a whole number"),
            (("split", "chat", "a=90", "b=20"), "the shares add up to 110; expected 100"),
            (("split", "a/b", "a=100"), "NAME: got 'a/b'; expected the name of a serving endpoint"),
            (("rollout", "status", ""), "NAME: got ''; expected the name"),
        ):
            wrong = await run(api, *words)
            assert wrong.exit_code == 2
            assert said in wrong.output
    away = await run(api, "rollout", "status", "chat")
    assert away.exit_code == 2
    assert "expected the gateway's API there" in away.output


async def test_somebody_else_than_the_api_answers() -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(says, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        words = ["rollout", "status", "chat", "--api", address]
        done = await asyncio.to_thread(lambda: CliRunner().invoke(main, words))
    assert done.exit_code == 2
    assert f"{address}: answers 404; expected the gateway's API there" in done.output


async def test_split_says_what_it_does_and_does_it() -> None:
    bench = Bench(load_of=lambda pool: {"endpoints": 2.0, "running": 4.0})
    async with served(bench) as api:
        await made(bench)
        tried = await run(api, "split", "chat", "a=90", "b=10", "--dry-run")
        assert tried.exit_code == 0, tried.output
        assert "b: 0 % to 10 %" in tried.output
        assert "of 10,000 users about 1,000 get another entity" in tried.output
        assert "pool b: 0 % to 10 % (endpoints 2, running 4)" in tried.output
        assert bench.shares("chat") == {"a": 100, "b": 0}
        done = await run(api, "split", "chat", "a=90", "b=10", "--reason", "a first step")
        assert done.output.endswith("chat: config version 2\n"), done.output
        assert bench.shares("chat") == {"a": 90, "b": 10}
        assert (await bench.desk.history("chat"))[0].reason == "a first step"
        assert "the split is so already" in (await run(api, "split", "chat", "a=90", "b=10")).output


@pytest.mark.parametrize("forced", [False, True])
async def test_split_has_guards(forced: bool) -> None:
    load: dict[str, dict[str, float]] = {"a": {"endpoints": 4.0, "running": 80.0}, "b": {"endpoints": 1.0, "running": 0.0}}
    bench = Bench(load_of=lambda pool: load[pool])
    async with served(bench) as api:
        await made(bench)
        done = await run(api, "split", "chat", "a=50", "b=50", *(["--force"] if forced else []))
        assert "pool b would have about 40 requests at once on 1 endpoints" in done.output
        assert done.exit_code == (0 if forced else 1)
        assert bench.shares("chat") == ({"a": 50, "b": 50} if forced else {"a": 100, "b": 0})


async def test_two_large_splits_are_a_bake_time_apart() -> None:
    import time

    bench = Bench()
    bench.desk._clock = lambda: int(time.time() * 1000)
    async with served(bench) as api:
        await made(bench)
        assert (await run(api, "split", "chat", "a=70", "b=30")).exit_code == 0
        refused = await run(api, "split", "chat", "a=20", "b=80")
        assert "30 % of the traffic were moved" in refused.output
        assert refused.exit_code == 1
        assert (await run(api, "split", "chat", "a=65", "b=35")).exit_code == 0, "that is a small one"
        assert (await run(api, "split", "chat", "a=20", "b=80", "--bake", "0")).exit_code == 0


FOUND: dict[str, Any] = {
    "endpoint": "chat",
    "phase": "Progressing",
    "reason": "for 60 s",
    "baseline": "a",
    "canary": "b",
    "weight": 10,
    "step": 1,
    "steps": ["setWeight 10", "pause 60 s", "setWeight 50"],
    "metrics": [{"name": "ttft", "of": "background", "phase": "Running", "words": "[bold] is no markup here"}],
    "events": [{"at_s": 0.0, "who": "ann", "words": "started"}],
}


def test_the_picture_has_what_the_lines_have() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with showing(console) as show:
        show.see(FOUND)
    console.print(picture(FOUND))
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    for word in ("chat", "Progressing", "▶ pause 60 s", "✔ setWeight 10", "[bold] is no markup here", "started"):
        assert word in text
        assert any(word in line for line in lines(FOUND))
