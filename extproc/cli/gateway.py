"""`extproc gateway`."""

from __future__ import annotations

from extproc.app import build
from extproc.cli.servers import server
from extproc.settings.commands import GatewaySettings

COMMAND = server(GatewaySettings, build, name="gateway", short_help="Router and picker.")
