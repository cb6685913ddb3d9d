"""What the three servers' commands have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from extproc.app import Service, serve
from extproc.app.files_limit import raise_open_files
from extproc.cli.options import command
from extproc.observability import logs
from extproc.settings.server import ServerSettings

_log = logs.logger(__name__)

Settings = TypeVar("Settings", bound=ServerSettings)


def server(model: type[Settings], build: Callable[[Settings], Service], *, name: str, short_help: str) -> click.Command:
    """A command that serves until a signal says stop."""

    def warn(settings: Settings, warnings: Sequence[str]) -> None:
        logs.configure(settings.v)
        for warning in warnings:
            _log.warning("flag", warning=warning)

    def run(settings: Settings) -> int:
        raise_open_files()  # before anything is shared out by it
        return serve(build(settings))

    return command(model, run, check=build, warn=warn, name=name, short_help=short_help)
