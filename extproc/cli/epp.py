"""`extproc epp`."""

from __future__ import annotations

from extproc.app import build_epp, serve
from extproc.cli.options import command
from extproc.observability import logs
from extproc.settings.server import EppSettings


def run(settings: EppSettings) -> int:
    """Serve until a signal says stop."""
    logs.configure(settings.v)
    return serve(build_epp(settings))


COMMAND = command(EppSettings, run, check=build_epp, name="epp", short_help="Endpoint picker.")
