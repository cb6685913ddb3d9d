"""`extproc sim`: simulated vLLM servers in the foreground until a signal ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

import click
import uvloop

from extproc.cli.options import command, fail
from extproc.settings.sim import SimSettings
from extproc.simulator.server import Simulator


def run(settings: SimSettings) -> int:
    """Serve until SIGTERM or SIGINT; 2 when an address can't be had."""
    return uvloop.run(_serve(settings))


async def _serve(settings: SimSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as started:
        simulators = [Simulator(each) for each in settings.servers()]
        for simulator in simulators:
            try:
                await started.enter_async_context(simulator)
            except OSError as error:
                fail([_refused(simulator.settings, error)])
        for simulator in simulators:
            click.echo(_ready(simulator))
        await stop.wait()
    return 0


def _ready(simulator: Simulator) -> str:
    config, served = simulator.engine.config, simulator.served
    models = ", ".join((*served.names, *served.loras))
    return (
        f"{simulator.name}: {models} at {simulator.url} "
        f"({config.max_num_seqs} sequences, {config.num_blocks} blocks of {config.block_size} tokens)"
    )


def _refused(settings: SimSettings, error: OSError) -> str:
    """In the system's words; an event loop's own have address and port in them once more."""
    number = error.errno or 0
    why = os.strerror(number) if number > 0 else error.strerror or str(error)
    whose = f"{settings.name}: " if settings.name else ""
    return f"{whose}can't listen on {settings.host} port {settings.port}: {why}"


def _warn(_: SimSettings, warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"extproc: {warning}", err=True)


COMMAND = command(SimSettings, run, name="sim", short_help="A simulated vLLM server.", warn=_warn)
