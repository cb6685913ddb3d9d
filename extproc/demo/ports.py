"""Ports: the usual ones when they are free, others when not."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

_FIRST, _LAST = 18_000, 31_999
"""Below Linux's range for outgoing connections, so that none of those takes a port between our look and its use."""


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
    """Different free ports, none of `taken`."""
    out: list[int] = []
    avoid = set(taken)
    while len(out) < count:
        port = random.randint(_FIRST, _LAST)
        if port not in avoid and is_free(port):
            avoid.add(port)
            out.append(port)
    return out


def usual_or_free(usual: Iterable[int]) -> dict[int, int]:
    """Each usual port to itself when it is free, else to another one."""
    wanted = list(usual)
    chosen = {port: port for port in wanted if is_free(port)}
    missing = [port for port in wanted if port not in chosen]
    return chosen | dict(zip(missing, free_ports(len(missing), taken=wanted), strict=True))
