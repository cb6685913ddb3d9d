"""`extproc bbr`."""

from __future__ import annotations

from extproc.app import build_bbr, serve
from extproc.cli.options import command
from extproc.observability import logs
from extproc.settings.server import BbrSettings


def run(settings: BbrSettings) -> int:
    """Serve until a signal says stop."""
    logs.configure(settings.v)
    return serve(build_bbr(settings))


COMMAND = command(BbrSettings, run, check=build_bbr, name="bbr", short_help="Body-based router.")
