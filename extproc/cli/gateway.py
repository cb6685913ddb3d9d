"""`extproc gateway`."""

from __future__ import annotations

from extproc.app import build_gateway, serve
from extproc.cli.options import command
from extproc.observability import logs
from extproc.settings.server import GatewaySettings


def run(settings: GatewaySettings) -> int:
    """Serve until a signal says stop."""
    logs.configure(settings.v)
    return serve(build_gateway(settings))


COMMAND = command(GatewaySettings, run, check=build_gateway, name="gateway", short_help="Router and picker.")
