"""`extproc epp`."""

from __future__ import annotations

from extproc.app import build
from extproc.cli.servers import server
from extproc.settings.commands import EppSettings

COMMAND = server(EppSettings, build, name="epp", short_help="Endpoint picker.")
