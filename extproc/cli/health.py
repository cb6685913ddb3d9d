"""`extproc health`: asks the server of this container whether it is ready, for Docker's HEALTHCHECK.

One image runs every subcommand, so what to ask stands in the command line of the container's first process. It is read by the
same declaration as the server's, so every spelling that the server takes is understood.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from extproc.cli.options import read
from extproc.settings.base import SettingsError
from extproc.settings.commands import SERVERS
from extproc.settings.server import MetricsPortSettings
from extproc.settings.sim import SimSettings

_FIRST_PROCESS: Final = Path("/proc/1/cmdline")
_TIMEOUT_S: Final = 3.0
_WILDCARDS: Final = ("", "0.0.0.0", "::")
"""Hosts that are every address: asked on the loopback."""


class Target(NamedTuple):
    """Where a server says how it is."""

    host: str
    port: int
    path: str
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.path}"


def target_of(words: Sequence[str], environ: Mapping[str, str]) -> Target | None:
    """Whom to ask of a server with this command line; None when it is none of the servers (`demo`, `--help`).

    The server's own flags and variables, read as it reads them. Raises SettingsError for what the server would refuse.
    """
    at = next((index for index, word in enumerate(words) if word in SERVERS or word == "sim"), None)
    if at is None:
        return None
    name, arguments = words[at], words[at + 1 :]
    if name == "sim":
        sim = read(SimSettings, name, arguments, environ)
        return None if sim is None else Target(_asked(sim.host), sim.port, "/health")
    server: MetricsPortSettings | None = read(SERVERS[name], name, arguments, environ)
    return (
        None
        if server is None
        else Target(_asked(server.host), server.metrics_port, "/readyz", server.metrics_cert_dir is not None)
    )


def _asked(host: str) -> str:
    return "127.0.0.1" if host in _WILDCARDS else host


def ask(target: Target) -> str:
    """What is wrong; empty when the answer is 200."""
    connection: http.client.HTTPConnection
    if target.tls:
        # It is the server beside us: its certificate says nothing that we don't know.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", target.path)
        answer = connection.getresponse()
        text = answer.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{target}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{target}: {answer.status} {text}"


def check(cmdline: Path = _FIRST_PROCESS, environ: Mapping[str, str] | None = None) -> str:
    """What is wrong with the server whose command line that file has; empty when nothing is."""
    try:
        words = cmdline.read_bytes().decode(errors="replace").removesuffix("\0").split("\0")
        target = target_of(words, os.environ if environ is None else environ)
    except OSError as error:
        return f"whom to ask: {error}"
    except SettingsError as error:
        return f"whom to ask: {'; '.join(error.problems)}"
    return ask(target) if target else ""


def run() -> None:
    """Ask the server of this container whether it is ready: exit code 0 when it is, else 1 with the reason.

    For a container's HEALTHCHECK. It reads the command line of process 1 and the environment as that server does, and asks its
    metrics port.
    """
    if problem := check():
        click.echo(problem, err=True)
        sys.exit(1)


COMMAND = click.command(name="health", short_help="Ask the server of this container whether it is ready.")(run)
