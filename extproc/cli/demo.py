"""`extproc demo`."""

from __future__ import annotations

import click

from extproc.cli.options import command
from extproc.demo import demo
from extproc.demo.errors import DemoError
from extproc.settings.demo import DemoSettings


def run(settings: DemoSettings) -> int:
    """Run the demo; 0 when everything it claims was true."""
    try:
        return demo(settings)
    except DemoError as error:
        click.echo(f"extproc: {error}", err=True)
        return 1


COMMAND = command(DemoSettings, run, name="demo", short_help="Everything on this machine, with a real Envoy.")
