"""Ports: the usual ones when they are free, others when not."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ALL: Final = range(18_000, 32_000)
_FEWEST: Final = 1_000
_OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
SHARE: Final = "EXTPROC_DEMO_PORTS_SHARE"
"""The variable that tells a process and its children which part of the ports is theirs, such as `1/4`, the second of four."""


def below(outgoing: int) -> range:
    """The ports to choose from where the machine's outgoing connections have those from `outgoing` on: none of theirs, so that
    no connection takes a port between our look and its use. All of ours where below them are too few."""
    end = min(_ALL.stop, outgoing)
    start = max(1_024, min(_ALL.start, end - len(_ALL)))
    return range(start, end) if end - start >= _FEWEST else _ALL


def share(of: range, part: str) -> range:
    """The part of the ports that `SHARE` names, for processes side by side: a port of a server that is being started anew
    looks free to the others. All of them when it names none."""
    number, _, count = part.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count) <= len(of)):
        return of
    size = len(of) // int(count)
    return of[int(number) * size : (int(number) + 1) * size]


def _outgoing() -> int:
    """The first port of the machine's range for outgoing connections; Linux' default where it doesn't tell."""
    try:
        return int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


PORTS = share(below(_outgoing()), os.environ.get(SHARE, ""))


def is_free(port: int) -> bool:
    """Whether somebody could listen on the port now, on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError:
            return False
    return True


def free_ports(count: int, *, taken: Iterable[int] = ()) -> list[int]:
    """Different free ports, none of `taken`.

    Raises:
        OSError: so many can't be had: the others are taken or somebody listens on them.
    """
    avoid = set(taken)
    shuffled = random.sample(PORTS, len(PORTS))
    out = list(itertools.islice((port for port in shuffled if port not in avoid and is_free(port)), count))
    if len(out) < count:
        raise OSError(f"{count} free ports from {PORTS.start} to {PORTS.stop - 1} are not to be had, only {len(out)}")
    return out


def usual_or_free(usual: Iterable[int]) -> dict[int, int]:
    """Each usual port to itself when it is free, else to another one."""
    wanted = list(usual)
    chosen = {port: port for port in wanted if is_free(port)}
    missing = [port for port in wanted if port not in chosen]
    return chosen | dict(zip(missing, free_ports(len(missing), taken=wanted), strict=True))
