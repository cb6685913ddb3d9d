"""`extproc epp`."""

from __future__ import annotations

from extproc.app import build_epp
from extproc.cli.servers import server
from extproc.settings.commands import EppSettings

COMMAND = server(EppSettings, build_epp, name="epp", short_help="Endpoint picker.")
