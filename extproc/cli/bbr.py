"""`extproc bbr`."""

from __future__ import annotations

from extproc.app import build
from extproc.cli.servers import server
from extproc.settings.commands import BbrSettings

COMMAND = server(BbrSettings, build, name="bbr", short_help="Body-based router.")
