"""The demo from start to end."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import aiohttp
import click

from extproc.demo.envoy import config_path, find_envoy
from extproc.demo.script import Story
from extproc.demo.split import API_PATH, ASK_EVERY_S, NAME, keep_asking, shares, start_over
from extproc.demo.stack import ENVOY_ADMIN, ENVOY_CONFIG, LLAMA, PHI4, Stack
from extproc.demo.traffic import AccessLog, Client
from extproc.demo.view import showing, summary
from extproc.settings.demo import DemoSettings

_INTERRUPTED = 130


def demo(settings: DemoSettings) -> int:
    """Run it; 0 when every check held, 1 when not, 130 when interrupted. Raises SettingsError and DemoError."""
    envoy = find_envoy(settings.envoy)
    with tempfile.TemporaryDirectory(prefix="extproc-demo-") as directory:
        return asyncio.run(_demo(settings, envoy, Path(directory)))


async def _demo(settings: DemoSettings, envoy: Path, directory: Path) -> int:
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(_run(settings, envoy, directory))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return _INTERRUPTED


async def _run(settings: DemoSettings, envoy: Path, directory: Path) -> int:
    click.echo("Starting Envoy, the gateway, and two pools of three simulated endpoints ...")
    async with Stack(envoy, directory, port=settings.port) as stack:
        click.echo(f"   {stack.gateway_command}\n   envoy -c {config_path(ENVOY_CONFIG)}")
        passed = await _tell(stack, canary=not settings.keep)
        if settings.keep:
            try:
                await _stay(stack)
            except asyncio.CancelledError:  # how this is meant to end
                click.echo("\nStopping ...")
        return 0 if passed else 1


async def _tell(stack: Stack, *, canary: bool) -> bool:
    async with aiohttp.ClientSession() as http:
        client = Client(http, stack.url, stack.pages, AccessLog(stack.envoy.output))
        with showing() as show:
            story = Story(stack, client, show)
            await story.tell(canary=canary)
        summary(story.outcomes, story.checks)
        return all(check.holds for check in story.checks)


async def _stay(stack: Stack) -> None:
    """Tell what there is to see, with some requests under way. Until one of the processes stops by itself, or for ever."""
    async with aiohttp.ClientSession() as http:
        client = Client(http, stack.url, stack.pages, AccessLog(stack.envoy.output))
        with showing() as show:
            await start_over(client, show)
        click.echo(_try_this(stack))
        asking = asyncio.create_task(keep_asking(client))
        try:
            await _watch(stack)
        finally:
            asking.cancel()


async def _watch(stack: Stack) -> None:
    """Until one of the processes stops by itself."""
    while True:
        stack.gateway.check()
        stack.envoy.check()
        await asyncio.sleep(0.5)


def _try_this(stack: Stack) -> str:
    messages = [{"role": "user", "content": "Hello"}]
    chat = {"model": LLAMA.model, "max_tokens": 20, "messages": messages}
    stream = {"model": PHI4.model, "max_tokens": 20, "stream": True, "messages": messages}
    explain = {"path": "/v1/chat/completions", "body": {"model": LLAMA.model, "messages": messages}}
    split = shlex.quote(json.dumps(chat | {"model": NAME}))
    sim = stack.sims["llama-1"].url
    post = "-H 'content-type: application/json' -d"
    lines = [
        ("a chat", f"curl -i {stack.url}/v1/chat/completions {post} {shlex.quote(json.dumps(chat))}"),
        ("a streamed chat", f"curl -N {stack.url}/v1/chat/completions {post} {shlex.quote(json.dumps(stream))}"),
        ("the models", f"curl {stack.url}/v1/models"),
        ("the endpoint", f"curl {stack.url}{API_PATH}/{NAME}"),
        ("another split", f"curl -X PUT {stack.url}{API_PATH}/{NAME}/config -d {shlex.quote(json.dumps(shares(20, 80)))}"),
        ("a chat with it; served-model-name says who answered", f"curl -i {stack.url}/v1/chat/completions {post} {split}"),
        ("why a request would go where", f"curl {stack.pages}/debug/explain {post} {shlex.quote(json.dumps(explain))}"),
        ("the last decisions", f"curl '{stack.pages}/debug/decisions?limit=3'"),
        ("what is known about the endpoints", f"curl {stack.pages}/debug/endpoints"),
        ("load for an endpoint", f"""curl {sim}/sim/load -d '{{"waiting": 20, "running": 40, "kv_usage": 0.9}}'"""),
        ("metrics", f"curl {stack.pages}/metrics"),
        ("all of that, live", f"{_extproc()} top --metrics {stack.pages}"),
        ("Envoy's own pages", f"http://127.0.0.1:{stack.ports[ENVOY_ADMIN]}/"),
    ]
    page = f"{stack.url}/ui/"
    pages = [
        ("", "start here"),
        (f"endpoints/{NAME}", "move its split from 90/10 to 50/50"),
        ("decisions", "why a request went where it went"),
        ("pools", "how the model servers are"),
        ("audit", "who changed what"),
    ]
    width = len(page) + max(len(path) for path, _ in pages) + 2
    shown = "\n".join(f"   {page + path:<{width}} {what}" for path, what in pages)
    text = "\n\n".join(f"# {what}\n{line}" for what, line in lines)
    load = f"{1 / ASK_EVERY_S:.0f} requests a second go to {NAME!r} meanwhile"
    return f"\nEverything is left running until Ctrl-C; {load}. Open in a browser:\n\n{shown}\n\nOr in a terminal:\n\n{text}\n"


def _extproc() -> str:
    """How this user calls it: where `make up` has put it, nothing is on the path."""
    return "extproc" if shutil.which("extproc") else shlex.quote(str(Path(sys.executable).with_name("extproc")))
