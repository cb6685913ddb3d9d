"""`extproc health`: asks the server of this container whether it is ready, for Docker's HEALTHCHECK.

One image runs every subcommand, so what to ask stands in the command line of the container's first process.
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


def target_of(words: Sequence[str], environment: Mapping[str, str]) -> Target | None:
    """Whom to ask of a server with this command line; None when it is none of the servers (`demo`, `--help`).

    Raises ValueError for a port that is no number.
    """
    servers = [word for word in words if word in ("bbr", "epp", "gateway", "sim")]
    if not servers:
        return None

    def flag(name: str, default: str) -> str:
        for index, word in enumerate(words):
            key, equals, value = word.partition("=")
            if key == f"--{name}":
                return value if equals else next(iter(words[index + 1 : index + 2]), default)
        return environment.get(f"EXTPROC_{name.replace('-', '_').upper()}", default)

    host = flag("host", "")
    host = "127.0.0.1" if host in _WILDCARDS else host
    if servers[0] == "sim":
        return Target(host, int(flag("port", "8000")), "/health")
    return Target(host, int(flag("metrics-port", "9090")), "/readyz", bool(flag("metrics-cert-dir", "")))


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


def check(cmdline: Path = _FIRST_PROCESS, environment: Mapping[str, str] | None = None) -> str:
    """What is wrong with the server whose command line that file has; empty when nothing is."""
    try:
        words = cmdline.read_bytes().decode(errors="replace").split("\0")
        target = target_of(words, os.environ if environment is None else environment)
    except (OSError, ValueError) as error:
        return f"whom to ask: {error}"
    return ask(target) if target else ""


def run() -> None:
    """Ask the server of this container whether it is ready: exit code 0 when it is, else 1 with the reason.

    For a container's HEALTHCHECK. It finds the metrics port in the command line of process 1 and in the environment.
    """
    if problem := check():
        click.echo(problem, err=True)
        sys.exit(1)


COMMAND = click.command(name="health", short_help="Ask the server of this container whether it is ready.")(run)
